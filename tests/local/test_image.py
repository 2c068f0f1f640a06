"""local.docker.image and local.docker.engine, with scripts in the place of Docker's programs: what they say and do.

That a stand-in works is shown by tests/sam_local, on a machine that cannot pull Lambda's image.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local.docker import image
from local.docker.engine import LOG_FILE, PID_FILE
from local.docker.image import IMAGE, Python
from local.stack.process import StartError

Programs = Callable[..., None]
Run = Callable[..., tuple[int, str, list[str]]]

# An engine answers, and has the image.
DOCKER = "exit 0"
# An engine answers, has no image, and cannot reach the registry.
DOCKER_ALONE = 'case "$1" in info) exit 0 ;; pull) echo "no such host" >&2 ;; esac; exit 1'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Put shell scripts on PATH, under the names of the keywords, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(**scripts: str) -> None:
        for name, script in scripts.items():
            path = folder / {"apt_get": "apt-get", "python": "python3.13"}.get(name, name)
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    return write


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the program as root on Linux. Returns its exit code, its output, and the lines of its errors."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def call(*arguments: str) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["image", *arguments])
        code = image.main()
        output, errors = capfd.readouterr()
        return code, output, errors.splitlines()

    return call


def test_an_image_that_is_there_is_used_without_a_word(programs: Programs, run: Run) -> None:
    programs(docker=DOCKER)

    assert run() == (0, "", [])


def test_an_image_that_is_absent_is_pulled(programs: Programs, run: Run) -> None:
    programs(docker='[ "$1" != image ]')

    assert run() == (0, f"image: pulling {IMAGE}\n", [])


def test_without_docker_it_says_how_to_get_an_engine(programs: Programs, run: Run) -> None:
    programs()

    code, _, errors = run()

    assert code == 1
    assert errors == [
        "image: no Docker engine answers; start Docker, or let `make lambda-image ENGINE=<folder>` start it"
    ]


def test_only_root_starts_an_engine(
    programs: Programs, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(docker="exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    code, _, errors = run("--start-engine", str(tmp_path))

    assert code == 1
    assert errors == ["image: no Docker engine answers, and only root can start one; start Docker, or run this as root"]


def test_only_on_linux_an_engine_is_started(
    programs: Programs, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(docker="exit 1")
    monkeypatch.setattr(sys, "platform", "darwin")

    code, _, errors = run("--start-engine", str(tmp_path))

    assert code == 1
    assert errors == ["image: no Docker engine answers, and only on Linux can one be started from here; start Docker"]


def test_without_dockerd_and_apt_get_it_says_what_to_install(programs: Programs, run: Run, tmp_path: Path) -> None:
    programs(docker="exit 1")

    code, _, errors = run("--start-engine", str(tmp_path))

    assert code == 1
    assert errors == ["image: no Docker engine answers, and there is no apt-get to install one with; install Docker"]


def test_when_apt_get_fails_its_last_line_says_why(programs: Programs, run: Run, tmp_path: Path) -> None:
    programs(apt_get='echo "reading"; echo "E: no package docker.io" >&2; exit 100')

    code, output, errors = run("--start-engine", str(tmp_path))

    assert code == 1
    assert output == "image: no Docker engine is installed: installing docker.io iptables with apt-get\n"
    assert errors == ["image: apt-get cannot install docker.io iptables: E: no package docker.io"]


def test_a_package_that_starts_the_engine_by_itself_is_enough(programs: Programs, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    install = f"printf '#!/bin/sh\\n' > {folder}/docker; /bin/chmod +x {folder}/docker"
    programs(apt_get=f'case "$*" in *install*) {install} ;; esac')

    code, output, errors = run("--start-engine", str(tmp_path))

    assert (code, errors) == (0, [])
    assert "starting dockerd" not in output


def test_when_dockerd_ends_the_last_line_of_its_log_says_why(programs: Programs, run: Run, tmp_path: Path) -> None:
    programs(docker="exit 1", dockerd='echo "no iptables here"; exit 1')

    code, _, errors = run("--start-engine", str(tmp_path))

    assert code == 1
    assert errors == [f"image: dockerd ended: no iptables here ({tmp_path / LOG_FILE})"]


# The engine is meant to outlive the program that starts it.
@pytest.mark.filterwarnings("ignore:subprocess [0-9]+ is still running:ResourceWarning")
def test_an_engine_that_it_starts_goes_on_and_its_pid_file_names_it(
    programs: Programs, run: Run, tmp_path: Path
) -> None:
    pid_file = tmp_path / "files" / PID_FILE
    programs(docker=f"[ -e {pid_file} ]", dockerd='[ "$1" = --pidfile ] || exit 1; echo $$ > "$2"; exec /bin/sleep 60')

    code, output, errors = run("--start-engine", str(pid_file.parent))

    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGTERM)  # fails when no process has this number
    assert os.waitpid(pid, 0) == (pid, signal.SIGTERM)
    assert (code, errors) == (0, [])
    assert output.splitlines()[-1] == f"image: dockerd runs with process id {pid}"


@pytest.mark.parametrize("scripts", [{}, {"python": 'echo "pyenv: not switched on" >&2; exit 127'}])
def test_without_python_3_13_no_stand_in_is_built(programs: Programs, run: Run, scripts: dict[str, str]) -> None:
    programs(docker=DOCKER_ALONE, **scripts)

    code, output, errors = run()

    assert code == 1
    assert output == f"image: pulling {IMAGE}\nimage: cannot pull it: no such host\n"
    assert errors == [
        f"image: {IMAGE} cannot be pulled, and there is no Python 3.13 to build a stand-in for it: "
        "put python3.13 on PATH (`make lambda-image` finds pyenv's too)"
    ]


def test_only_linux_builds_a_stand_in(programs: Programs, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(docker=DOCKER_ALONE)
    monkeypatch.setattr(sys, "platform", "darwin")

    code, _, errors = run()

    assert code == 1
    assert errors == [f"image: {IMAGE} cannot be pulled, and only Linux can build a stand-in for it"]


def test_the_python_is_the_one_that_path_starts(programs: Programs) -> None:
    programs(python=f'exec {sys.executable} "$@"')

    python = image.find_python()

    assert python.program == Path(sys.executable).resolve()
    assert (python.library / "os.py").exists()


def test_a_program_that_sam_needs_and_is_absent_is_named(programs: Programs, tmp_path: Path) -> None:
    programs(sh="")

    with pytest.raises(StartError, match=r"^the image needs the program mv, which is not on PATH$"):
        image.stage(tmp_path / "root", Python(tmp_path / "python3.13", tmp_path / "library"))
