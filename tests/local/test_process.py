"""How the laptop stack starts and ends its programs: with the kernel's help on Linux, and by polling elsewhere."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.stack import process
from local.stack.process import StartError, accepts_connections, require_free_port, start_child

ROOT = Path(__file__).parents[2]
# Not Python, so that it cannot ask to die with its parent. It logs its pid.
PROGRAM = ["sh", "-c", "echo $$; exec sleep 60"]
DEAF_PROGRAM = ["sh", "-c", "trap '' TERM; echo $$; while true; do sleep 0.1; done"]


@pytest.fixture(params=["here", "elsewhere"])
def env(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Variables that make a program believe it runs here, or on a system that sends no signal when a parent ends."""
    if request.param == "here":
        return {}
    # Python runs this file first. The modules that it imports must still see the real platform.
    disguise = "import ctypes, socket, subprocess, sys, threading\nsys.platform = 'darwin'\n"
    (tmp_path / "sitecustomize.py").write_text(disguise)
    return {"PYTHONPATH": str(tmp_path)}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "program.log"


def eventually(condition: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def has_spoken(log: Path) -> Callable[[], bool]:
    return lambda: log.exists() and log.read_text().endswith("\n")


def runs(pid: int) -> bool:
    """Whether this process has not ended. A zombie has ended."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    return subprocess.run(command, text=True, capture_output=True, check=False).stdout.strip()[:1] not in ("", "Z")


@contextmanager
def supervisor(code: str, *arguments: str, env: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that runs this code and then waits."""
    command = [sys.executable, "-c", f"import signal, sys\n{code}\nsignal.pause()", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_program_ends_when_its_supervisor_is_killed(env: dict[str, str], log: Path) -> None:
    code = (
        "from pathlib import Path; from local.stack.process import start_child\n"
        "start_child('program', sys.argv[2:], {}, Path(sys.argv[1]))"
    )
    with supervisor(code, str(log), *PROGRAM, env=env) as parent:
        assert eventually(has_spoken(log))
        pid = int(log.read_text())
        assert runs(pid)
        parent.kill()
    assert eventually(lambda: not runs(pid))


def test_a_python_process_that_asked_for_it_ends_when_its_parent_is_killed(env: dict[str, str], log: Path) -> None:
    child_code = (
        "import os, signal; from local.stack.process import die_with_parent\n"
        "die_with_parent(); print(os.getpid(), flush=True); signal.pause()"
    )
    log.parent.mkdir()
    code = "import subprocess\nsubprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=open(sys.argv[2], 'w'))"
    with supervisor(code, child_code, str(log), env=env) as parent:
        assert eventually(has_spoken(log))
        pid = int(log.read_text())
        assert runs(pid)
        parent.kill()
    assert eventually(lambda: not runs(pid))


def test_a_program_whose_supervisor_is_gone_before_it_starts_ends_at_once(env: dict[str, str]) -> None:
    not_the_parent = "1"
    ended = subprocess.run(
        [sys.executable, "-m", "local.stack.process", not_the_parent, "sleep", "60"],
        env={**os.environ, **env},
        timeout=5,
        check=False,
    )
    assert ended.returncode in (-signal.SIGTERM, 256 - signal.SIGTERM)


def test_a_program_has_a_session_of_its_own_and_stops_when_told(env: dict[str, str], log: Path) -> None:
    child = start_child("program", PROGRAM, env, log)
    child.wait_ready(has_spoken(log), 5)
    pid = int(log.read_text())
    assert os.getsid(pid) == child.process.pid != os.getsid(0)
    child.stop()
    assert not runs(pid)
    child.stop()


def test_a_program_stops_when_told_though_its_supervisor_blocks_the_signal(env: dict[str, str], log: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        child = start_child("program", PROGRAM, env, log)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    child.wait_ready(has_spoken(log), 5)
    child.process.terminate()
    try:
        child.process.wait(2)
    finally:
        child.process.kill()


def test_a_program_that_does_not_listen_is_killed(
    env: dict[str, str], log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_STOP_SECONDS", 0.2)
    child = start_child("program", DEAF_PROGRAM, env, log)
    child.wait_ready(has_spoken(log), 5)
    child.stop()
    assert eventually(lambda: not runs(int(log.read_text())))


def test_the_environment_is_added_to_and_the_log_is_written_anew(log: Path) -> None:
    log.parent.mkdir()
    log.write_text("an earlier run\n")
    child = start_child("program", ["sh", "-c", "echo $EXTRA; echo $PATH >&2"], {"EXTRA": "extra"}, log)
    assert child.process.wait(5) == 0
    assert log.read_text() == f"extra\n{os.environ['PATH']}\n"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["sh", "-c", "echo first; echo last; echo; exit 3"], "program ended with code 3: last ({log})"),
        (["true"], "program ended with code 0: it printed nothing ({log})"),
        (["no-such-program"], "program ended with code 1: cannot start no-such-program: {missing} ({log})"),
        (["sleep", "60"], "program was not ready within 0.3 s ({log})"),
    ],
)
def test_a_program_that_does_not_get_ready_is_told_in_one_line(
    env: dict[str, str], log: Path, argv: list[str], sentence: str
) -> None:
    child = start_child("program", argv, env, log)
    try:
        with pytest.raises(StartError) as error:
            child.wait_ready(lambda: False, 0.3 if argv[0] == "sleep" else 5)
    finally:
        child.stop()
    assert str(error.value) == sentence.format(log=log, missing="No such file or directory")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - for the length of this test
def test_a_port_where_somebody_listens_is_taken(host: str) -> None:
    with socket.create_server((host, 0)) as other:
        port = other.getsockname()[1]
        assert accepts_connections(port)
        with pytest.raises(StartError, match=re.escape(f"port {port} (Part) is taken; set PART_PORT to another")):
            require_free_port(port, "Part", "PART_PORT")


def test_a_port_that_is_held_by_somebody_who_does_not_listen_yet_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        assert not accepts_connections(other.getsockname()[1])
        with pytest.raises(StartError):
            require_free_port(other.getsockname()[1], "Part", "PART_PORT")


def test_a_port_is_free_again_as_soon_as_its_server_has_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0] as connection:
            connection.shutdown(socket.SHUT_RDWR)  # the side that closes first keeps the port in TIME_WAIT
    require_free_port(port, "Part", "PART_PORT")
