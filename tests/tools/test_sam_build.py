"""The parts of tools/sam_build that need no build; tests/budgets looks at the output of a whole one."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pydantic_core
import pytest

from tools.sam_build import build
from tools.sam_build.symbols import without_symbols

UNCHECKED, CHECKED, TIMED = (importlib.util.MAGIC_NUMBER + flags for flags in (b"\1\0\0\0", b"\3\0\0\0", b"\0\0\0\0"))
LIBRARY = Path(pydantic_core._pydantic_core.__file__)
LEFT_OVER = b"\0" * 4096  # stands where symbol tables stand, after all that is loaded


def module(folder: Path, head: bytes | None) -> Path:
    """A module, with byte code that begins with ``head``, or without any."""
    path = folder / "module.py"
    path.write_text("")
    if head is not None:
        build.byte_code(path).parent.mkdir()
        build.byte_code(path).write_bytes(head + b"the rest")
    return path


def test_byte_code_that_is_used_unchecked_is_no_problem(tmp_path: Path) -> None:
    module(tmp_path, UNCHECKED)

    assert list(build.problems(tmp_path)) == []


@pytest.mark.parametrize("head", [None, CHECKED, TIMED, b"....\1\0\0\0"], ids=["none", "hash", "time", "other Python"])
def test_byte_code_that_would_not_be_used_unchecked_is_a_problem(tmp_path: Path, head: bytes | None) -> None:
    path = module(tmp_path, head)

    (problem,) = build.problems(tmp_path)

    assert str(path) in problem


def test_a_folder_without_a_module_is_a_problem(tmp_path: Path) -> None:
    (problem,) = build.problems(tmp_path)

    assert "has no module" in problem


@pytest.mark.skipif(sys.platform != "linux", reason="the library of another system is another kind of file")
def test_a_library_without_symbols_is_loaded_and_works(tmp_path: Path) -> None:
    stripped = without_symbols(LIBRARY.read_bytes() + LEFT_OVER)
    (tmp_path / LIBRARY.name).write_bytes(stripped)
    program = "import _pydantic_core; print(_pydantic_core.from_json(b'[1, 2]'))"

    ended = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )

    assert ended.stdout == "[1, 2]\n"
    assert len(stripped) < LIBRARY.stat().st_size
    assert without_symbols(stripped) == stripped


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"MZ" + b"\0" * 100, b"\x7fELF\x01\x01" + b"\0" * 100])
def test_what_is_no_library_of_64_bit_linux_is_left_alone(content: bytes) -> None:
    assert without_symbols(content) == content
