"""tools.environment: how far pip is, read from its log."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.environment import make, progress

LOCKED = 3
LOG = "Ignoring colorama: markers 'sys_platform == \"win32\"' don't match your environment\nCollecting one==1\n"


def test_the_packages_for_this_system_are_counted_while_they_are_fetched() -> None:
    assert progress(LOG, LOCKED, 0) == "1 of 2 packages fetched"
    assert progress(f"{LOG}Processing /wheels/two-1.whl\n", LOCKED, 0) == "2 of 2 packages fetched"


def test_the_packages_are_counted_again_while_they_are_installed() -> None:
    log = f"{LOG}Collecting two==1\nInstalling collected packages: one, two\n"

    assert progress(log, LOCKED, 0) == "0 of 2 packages installed"
    assert progress(log, LOCKED, 1) == "1 of 2 packages installed"


def test_a_package_that_cannot_be_installed_is_named_and_fails_the_set_up(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    lock_file = tmp_path / "lock.txt"
    lock_file.write_text(f"nowhere==1 --hash=sha256:{'0' * 64}\n")

    assert make(tmp_path / "environment", lock_file) != 0

    errors = capfd.readouterr().err
    assert "No matching distribution found for nowhere==1" in errors
    assert errors.splitlines()[-1].startswith(f"pip could not install {lock_file}")


def test_it_needs_only_the_standard_library() -> None:
    path = Path(__file__).parents[2] / "tools" / "environment.py"

    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import runpy, sys; runpy.run_path(sys.argv[1])", path], check=False
    )

    assert ended.returncode == 0
