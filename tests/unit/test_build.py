"""Layers that were built for another processor say so, instead of a module that is missing."""

import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import saga_core

OTHER = "_pydantic_core.cpython-313-riscv64-linux-gnu.so"


@pytest.mark.parametrize("built", [[OTHER], [OTHER, "_pydantic_core.cpython-27-x86_64-linux-gnu.so"]])
def test_layers_that_were_built_for_another_processor_are_refused_by_name(built: list[str], tmp_path: Path) -> None:
    shutil.copytree(Path(saga_core.__file__).parent, tmp_path / "saga_core")
    (tmp_path / "pydantic_core").mkdir()
    for name in built:
        (tmp_path / "pydantic_core" / name).touch()

    run = subprocess.run(
        [sys.executable, "-c", "import saga_core"], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True
    )

    assert run.returncode != 0
    last = run.stderr.decode().splitlines()[-1]
    assert last.startswith("ImportError: the layers hold _pydantic_core.")
    assert last.endswith("build and deploy with the same Architecture")


@pytest.mark.parametrize("built", [[], [OTHER, f"_pydantic_core{EXTENSION_SUFFIXES[0]}"]])
def test_layers_that_fit_are_accepted(built: list[str], tmp_path: Path) -> None:
    (tmp_path / "pydantic_core").mkdir()
    for name in built:
        (tmp_path / "pydantic_core" / name).touch()

    saga_core.check_build(tmp_path)
