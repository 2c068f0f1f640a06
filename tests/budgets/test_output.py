"""The output of `sam build`: what is in it, how large it is, and what a function imports of it."""

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support import sam
from tests.support.sam import Built
from tools.sam_build import build, left_out
from tools.sam_build.symbols import without_symbols

# The most that Lambda unzips for a function, MB.
SIZES = {
    frozenset({"CoreLayer", "SpiceDBLayer"}): 38,
    frozenset({"CoreLayer", "TemporalLayer"}): 48,
    frozenset({"CoreLayer", "SpiceDBLayer", "TemporalLayer"}): 71,
    frozenset({"CoreLayer", "SpiceDBLayer", "TemporalLayer", "ApiLayer"}): 77,
}
# The most modules that a function imports: before its first invocation, without those of the runtime client, and with
# what reads its secrets.
MODULES = {
    "RegisterFunction": (346, 439),
    "CompensateFunction": (346, 439),
    "DeregisterFunction": (346, 439),
    "TemporalCreateFunction": (478, 573),
    "TemporalDescribeFunction": (478, 573),
    "TemporalDeleteFunction": (478, 573),
    "ReconcileFunction": (549, 642),
    "ApiFunction": (645, 736),
}
# They take long, and none is needed for a first answer; boto3 only where Step Functions is called.
SLOW = {
    "aws_lambda_powertools.event_handler.openapi.models",
    "boto3",
    "botocore.client",
    "botocore.session",
    "temporalio.client",
    "temporalio.converter",
}
FUNCTIONS = sam.layers()
EVERY_FUNCTION = pytest.mark.parametrize("function", FUNCTIONS)


def run(program: str, *paths: Path) -> Any:
    """What a program that prints JSON prints, in Lambda's Python with these paths before its own."""
    environment = {"PYTHONPATH": ":".join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]}
    environment |= {"AWS_DEFAULT_REGION": "us-east-1", "POWERTOOLS_METRICS_NAMESPACE": "Budget"}
    ended = subprocess.run([sam.RUNTIME, "-c", program], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@EVERY_FUNCTION
def test_a_function_is_no_larger_than_its_budget(built: Built, function: str) -> None:
    budget = SIZES[frozenset(built.layers[function])]

    assert built.size(function) / 1e6 <= budget


@EVERY_FUNCTION
def test_a_function_imports_no_more_modules_than_its_budget_and_no_slow_one(built: Built, function: str) -> None:
    program = """
import json, sys, awslambdaric.bootstrap
before = set(sys.modules)
import app
first = set(sys.modules) - before
import saga_core.secrets_manager
print(json.dumps([sorted(first), sorted(set(sys.modules) - before)]))
"""

    first, with_secrets = run(program, built.folder / function, built.packages(built.layers[function]))

    assert len(first) <= MODULES[function][0], first
    assert len(with_secrets) <= MODULES[function][1], with_secrets
    assert not SLOW & set(with_secrets)


@pytest.mark.parametrize("layers", SIZES, ids=lambda layers: "+".join(sorted(layers)))
def test_every_module_that_a_layer_has_can_be_imported(built: Built, layers: frozenset[str]) -> None:
    names = sorted({name for layer in layers for name in modules(built.folder / layer / "python")})
    program = f"""
import importlib, json, warnings
warnings.simplefilter("ignore")
failed = {{}}
for name in {names!r}:
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""

    assert len(names) > 400
    assert run(program, built.packages(sorted(layers))) == {}


def modules(folder: Path) -> set[str]:
    """The names of the modules in a layer's folder; a program is none."""
    paths = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py") if path.stem != "__main__")
    return {".".join(path.parts if path.name != "__init__" else path.parts[:-1]) for path in paths}


def test_every_module_has_byte_code_that_is_used_unchecked(built: Built) -> None:
    program = "import importlib.util, json; print(json.dumps(importlib.util.MAGIC_NUMBER.hex()))"
    magic = bytes.fromhex(run(program))
    sources = list(built.folder.rglob("*.py"))

    wrong = [path for path in sources if build.byte_code(path).read_bytes()[:8] != magic + b"\1\0\0\0"]

    assert len(sources) > 900
    assert wrong == []


def test_no_layer_has_sources_of_other_languages_stubs_or_symbols(built: Built) -> None:
    files = [path for path in built.folder.rglob("*") if path.is_file()]
    libraries = [path for path in files if path.suffix == ".so"]

    assert [
        path for path in files if path.suffix in {".rs", ".toml", ".proto", ".pyi", ".pyx", ".c", ".cc", ".h"}
    ] == []
    assert len(libraries) == 5
    assert [path for path in libraries if without_symbols(path.read_bytes()) != path.read_bytes()] == []


def test_no_file_is_in_two_layers_but_those_of_packages_that_both_engines_clients_need(built: Built) -> None:
    layers = {layer for used in built.layers.values() for layer in used}
    folders = {layer: built.folder / layer / "python" for layer in layers}
    found = Counter(path.relative_to(folder) for folder in folders.values() for path in folder.rglob("*.py"))

    twice = {path.parts[0] for path, number in found.items() if number > 1}

    assert twice == {"google", "typing_extensions.py"}


def test_what_is_left_out_is_gone(built: Built) -> None:
    assert [pattern for pattern in left_out.PATTERNS if list(built.folder.rglob(pattern))] == []
    assert {path.name for path in built.folder.glob("*/python/botocore/data/*/")} == left_out.SERVICES


def test_the_same_tree_gives_the_same_bytes(built: Built, tmp_path: Path) -> None:
    again = sam.build(tmp_path / "again")

    assert contents(again.folder) == contents(built.folder)


def contents(folder: Path) -> dict[str, int]:
    """The files of a build and a hash of each, without the template, which has the folder's own path."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "template.yaml")
    return {str(path.relative_to(folder)): hash(path.read_bytes()) for path in files}


def test_the_other_architecture_gets_libraries_of_its_own(tmp_path: Path) -> None:
    built = sam.build(tmp_path / "arm64", architecture="arm64")

    processors = {path.name: path.read_bytes()[18] for path in built.folder.rglob("*.so")}

    aarch64 = 183  # EM_AARCH64
    assert len(processors) > 3
    assert set(processors.values()) == {aarch64}
