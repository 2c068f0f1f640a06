"""What a layer leaves out of the packages that it installs: what no function can import, and what none of them uses.

Metadata stays: scanners for vulnerable packages read it, and licences have to go with the code.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

PATTERNS = (
    # For compilers, type checkers and builds.
    "*.c",
    "*.cc",
    "*.h",
    "*.proto",
    "*.pxd",
    "*.pxi",
    "*.pyi",
    "*.pyx",
    "py.typed",
    "*.dist-info/RECORD",
    "*.dist-info/sboms",
    "google-stubs",
    "jmespath-*.data",
    "types_protobuf-*.dist-info",
    "temporalio/bridge/Cargo.*",
    "temporalio/bridge/sdk-core",
    "temporalio/bridge/src",
    # For tests of their own.
    "google/protobuf/internal/*_benchmark.py",
    "google/protobuf/internal/testing_refleaks.py",
    "temporalio/testing",
    # They import packages that no layer has.
    "aws_lambda_powertools/event_handler/middlewares/schema_validation.py",
    "aws_lambda_powertools/utilities/auth_alpha",
    "aws_lambda_powertools/utilities/data_masking",
    "aws_lambda_powertools/utilities/kafka",
    "aws_lambda_powertools/utilities/validation",
    "boto3/crt.py",
    "botocore/crt/auth.py",
    "botocore/docs/translator.py",
    "dateutil/tz/win.py",
    "dateutil/tzwin.py",
    "pydantic/mypy.py",
    "s3transfer/crt.py",
    "temporalio/api/cluster",
    "temporalio/api/interaction",
    "temporalio/api/dependencies",
    "temporalio/api/*/v1/service_pb2.py",
    "temporalio/api/cloud/cloudservice/v1/service_pb2.py",
    "temporalio/**/*_pb2_grpc.py",
    "temporalio/bridge/proto/bridge",
    "temporalio/contrib",
    "urllib3/contrib/emscripten",
    "urllib3/contrib/pyopenssl.py",
    "urllib3/contrib/socks.py",
    "urllib3/http2/connection.py",
    # Parts for another use than ours.
    "aws_lambda_powertools/utilities/batch",
    "aws_lambda_powertools/utilities/circuit_breaker",
    "aws_lambda_powertools/utilities/feature_flags",
    "aws_lambda_powertools/utilities/idempotency",
    "aws_lambda_powertools/utilities/parameters",
    "aws_lambda_powertools/utilities/parser",
    "aws_lambda_powertools/utilities/streaming",
    "boto3/data",
    "boto3/examples",
    "dateutil/zoneinfo/*.tar.gz",
    "google/cloud",
    "google/gapic",
    "google/logging",
    "google/longrunning",
    "google/type",
    "grpc/beta",
    "grpc/framework",
    "nexus_rpc-*.dist-info",
    "nexusrpc",
    "pydantic/v1",
    "temporalio/activity.py",
    "temporalio/bridge/_visitor.py",
    "temporalio/bridge/worker.py",
    "temporalio/client",
    "temporalio/converter",
    "temporalio/nexus",
    "temporalio/plugin.py",
    "temporalio/worker",
    "temporalio/workflow",
)
# The services of AWS that functions call; botocore describes hundreds.
SERVICES = {"secretsmanager", "stepfunctions"}
# What only the HTTP API uses: its layer has this alone, and no other layer has it. Lambda puts all layers of a function
# into one folder, /opt/python.
OF_THE_API = (
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/utilities/data_classes",
    "boto3",
    "boto3-*.dist-info",
    "botocore/data/endpoints.json",
    "botocore/data/stepfunctions",
    "s3transfer",
    "s3transfer-*.dist-info",
)
API_LAYER = "ApiLayer"


def remove(folder: Path, layer: str) -> None:
    """Remove from a layer's folder what the patterns name, the services not called, and what another layer has."""
    for pattern in PATTERNS:
        _remove(folder.rglob(pattern))
    _remove(path for path in folder.glob("botocore/data/*/") if path.name not in SERVICES)
    of_the_api = {path for pattern in OF_THE_API for path in folder.glob(pattern)}
    if layer != API_LAYER:
        _remove(of_the_api)
        return
    kept = of_the_api | {above for path in of_the_api for above in path.parents}
    _remove(path for path in folder.rglob("*") if path not in kept and not of_the_api & set(path.parents))


def _remove(paths: Iterable[Path]) -> None:
    for path in sorted(paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # its folder was one of them
