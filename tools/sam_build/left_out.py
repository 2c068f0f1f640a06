"""What a layer leaves out of the packages that it installs: what no function can import, and what none of them uses.

Metadata stays: scanners for vulnerable packages read it, and licences have to go with the code.
"""

import shutil
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
    "pydantic/mypy.py",
    "temporalio/api/cluster",
    "temporalio/api/interaction",
    "temporalio/api/dependencies",
    "temporalio/api/*/v1/service_pb2.py",
    "temporalio/api/cloud/cloudservice/v1/service_pb2.py",
    "temporalio/**/*_pb2_grpc.py",
    "temporalio/bridge/proto/bridge",
    "temporalio/contrib",
    # Parts for another use than ours.
    "aws_lambda_powertools/utilities/batch",
    "aws_lambda_powertools/utilities/feature_flags",
    "aws_lambda_powertools/utilities/idempotency",
    "aws_lambda_powertools/utilities/parser",
    "aws_lambda_powertools/utilities/streaming",
    "pydantic/v1",
)


def remove(folder: Path) -> None:
    """Remove from a layer's folder what the patterns name, wherever it is in there."""
    for pattern in PATTERNS:
        for path in sorted(folder.rglob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
