"""The issuer of the laptop's tokens, and the command that prints a token."""

import base64
import json
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt

from local.stack.issuer import issue, public_keys, signing_key
from local.stack.process import StartError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the key file. Its folder does not exist yet."""
    return tmp_path / ".local" / "issuer.json"


def run(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "local.stack.issuer", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def claims(token: str) -> Any:
    """The claims of a token, without a check of its signature."""
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def test_the_key_is_made_once_and_for_its_owner_alone(path: Path) -> None:
    key = signing_key(path)

    assert signing_key(path) == key
    assert key.is_private
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_who_comes_second_while_the_key_is_made_gets_the_first_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = signing_key(path)
    monkeypatch.setattr(Path, "exists", lambda _: False)  # as the second process saw it

    assert signing_key(path) == key
    assert list(path.parent.iterdir()) == [path]


def test_what_is_published_checks_a_token_and_makes_none(path: Path) -> None:
    key = signing_key(path)
    keys = public_keys(key)

    assert jwt.decode(issue(key, subject="alice"), keys, algorithms=["RS256"]).claims["sub"] == "alice"
    (published,) = keys.as_dict()["keys"]
    assert published.keys() == {"kty", "n", "e", "kid", "use", "alg"}
    assert not any(key.is_private for key in keys)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"kty": "oct", "k": "c2VjcmV0"}', "public"])
def test_a_file_that_holds_no_key_is_told_in_one_line(path: Path, content: str) -> None:
    if content == "public":
        content = json.dumps(signing_key(path).as_dict(private=False))
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)

    with pytest.raises(StartError) as raised:
        signing_key(path)

    assert str(raised.value) == f"{path} does not contain a key; remove the file, and a new key is generated"


def test_a_folder_that_cannot_be_is_told_in_one_line(path: Path) -> None:
    path.parent.write_text("a file")

    with pytest.raises(StartError, match=r"issuer\.json: "):
        signing_key(path)


def test_the_command_prints_a_token_and_nothing_else() -> None:
    before = int(time.time())

    done = run("--subject", "alice", "--account", "acme", "--service-account", "", "--scope", "", "--lifetime", "60")

    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    said = claims(done.stdout)
    assert before <= said.pop("iat") == said.pop("exp") - 60 <= time.time()
    assert said == {
        "iss": "https://issuer.local/",
        "aud": "agent-schedules-local",
        "sub": "alice",
        "account_id": "acme",
    }


def test_a_service_account_has_no_subject_unless_it_is_given_one() -> None:
    said = claims(run("--subject", "", "--service-account", "robot").stdout)

    assert (said["service_account_id"], "sub" in said) == ("robot", False)
    assert said["exp"] - said["iat"] == 3600


def test_a_token_has_the_scopes_that_are_asked_for() -> None:
    assert claims(run("--subject", "alice", "--scope", "a:read a:write").stdout)["scope"] == "a:read a:write"


def test_a_token_for_nobody_is_refused_in_one_line() -> None:
    done = run("--subject", "", "--account", "acme")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "token: a subject is required: make token SUBJECT=<user id>, or SERVICE_ACCOUNT=<id>\n"
