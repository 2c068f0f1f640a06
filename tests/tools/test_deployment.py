"""The checks of `make build` and `make deploy`, with a script in the place of SAM."""

import json
import struct
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.aws.intrinsics import read
from tests.support.machines import ROOT
from tools.deployment import __main__ as deployment
from tools.deployment.checks import CONFIGURATION, Refused, built_for_another, parameters, require_python, target
from tools.deployment.rules import refusals

TEMPLATE = read(ROOT / "template.yaml")
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:{}-a1B2c3"
FILLED = {
    "SpiceDBEndpoint": "spicedb.example.com:443",
    "SpiceDBTokenSecretArn": SECRET.format("token"),
    "TemporalAddress": "temporal.example.com:7233",
    "TemporalNamespace": "schedules",
    "TemporalApiKeySecretArn": SECRET.format("key"),
    "JwtIssuer": "https://issuer.example.com/",
    "JwtAudience": "agent-schedules",
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
}
ELF = {"x86_64": 62, "arm64": 183}

Run = Callable[..., int]


def configured(path: Path, **changes: str) -> Path:
    """A samconfig.toml whose environment dev is filled in."""
    given = parameters(CONFIGURATION, "dev")
    given = {name: FILLED.get(name, value) for name, value in given.items()} | changes
    overrides = json.dumps([f"{name}={value}" for name, value in given.items()])
    (file := path / "samconfig.toml").write_text(f"[dev.global.parameters]\nparameter_overrides = {overrides}\n")
    return file


def built(path: Path, architecture: str) -> Path:
    """A built template with one layer of compiled code."""
    (layer := path / "CoreLayer").mkdir()
    (layer / "_core.so").write_bytes(b"\x7fELF" + bytes(14) + struct.pack("<H", ELF[architecture]))
    (layer / "linker.so").write_text("not a library")
    (template := path / "template.yaml").write_text("{}")
    return template


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[str]]:
    """What SAM was called with; a script in its place notes it."""
    noted = tmp_path / "called"
    (sam := tmp_path / "sam").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>"{noted}"\n')
    sam.chmod(0o755)
    monkeypatch.setattr(deployment, "SAM", sam)
    return lambda: noted.read_text().splitlines() if noted.exists() else []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line. Returns the exit code."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["deployment", *map(str, arguments)])
        return deployment.main()

    return run


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_what_is_shipped_is_refused_for_its_placeholders_and_accepted_when_they_are_filled_in(environment: str) -> None:
    shipped = parameters(CONFIGURATION, environment)
    filled = {name: FILLED[name] if value.startswith("<") else value for name, value in shipped.items()}

    assert {sentence.split()[0] for sentence in refusals(TEMPLATE, shipped)} == {
        name for name, value in shipped.items() if value.startswith("<")
    }
    assert list(refusals(TEMPLATE, filled)) == []


def test_the_parameters_of_the_laptop_are_never_accepted() -> None:
    refused = list(refusals(TEMPLATE, parameters(CONFIGURATION, "local")))

    assert any(sentence.startswith("SpiceDBTokenSecretArn must be") for sentence in refused)
    assert any("SpiceDBTls must be true" in sentence for sentence in refused)


def test_sam_finds_the_same_options_with_and_without_the_name_of_the_local_environment() -> None:
    shipped = tomllib.loads(CONFIGURATION.read_text())

    assert shipped["local"] == shipped["default"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"SpiceDBEndpoint": "https://spicedb"}, "SpiceDBEndpoint must be host:port, without a scheme"),
        ({"SpiceDBEndpoint": "<host:port>"}, "SpiceDBEndpoint is still a placeholder: replace it by host:port"),
        ({"LogLevel": "debug"}, "LogLevel must be DEBUG, INFO, WARNING or ERROR"),
        ({"ApiRateLimit": "0"}, "ApiRateLimit must be 1 to 10000"),
        ({"ApiRateLimit": "many"}, "ApiRateLimit must be 1 to 10000"),
        ({"SubnetIds": "subnet-12345678, vpc-1"}, "SubnetIds must be empty, or subnet ids separated by commas"),
        ({"SpiceDbTls": "true"}, "SpiceDbTls is not a parameter of the template"),
        ({"SpiceDBTls": "false"}, "Every call to SpiceDB carries its token, so SpiceDBTls must be true"),
        ({"TemporalTls": "false"}, "TemporalApiKeySecretArn or TemporalTlsSecretArn is given, so TemporalTls must be"),
    ],
)
def test_a_wrong_parameter_is_refused_with_a_sentence_before_sam_is_called(
    changes: dict[str, str],
    sentence: str,
    run: Run,
    called: Callable[[], list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    template = built(tmp_path, "x86_64")

    code = run("deploy", "--env", "dev", "--config-file", configured(tmp_path, **changes), "--template-file", template)

    assert (code, called()) == (1, [])
    assert f"deploy: dev in samconfig.toml: {sentence}" in capsys.readouterr().err


def test_a_missing_parameter_is_named_with_what_it_has_to_be() -> None:
    assert "TemporalNamespace is missing: 2 to 255 of letters" in " ".join(refusals(TEMPLATE, {}))


def test_no_sentence_shows_a_value() -> None:
    given = {**FILLED, "SpiceDBTokenSecretArn": "the-token-itself", "SubnetIds": "the-token-itself"}

    assert "the-token-itself" not in " ".join(refusals(TEMPLATE, given))


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ("local", "the environment local is for `sam local`; name another one: make deploy ENV=dev"),
        ("default", "the environment default is for `sam local`"),
        ("staging", "samconfig.toml has no environment staging: it has default, local, dev, prod"),
        ("", "samconfig.toml has no environment (empty)"),
    ],
)
def test_an_environment_that_cannot_be_deployed_is_refused(
    environment: str, sentence: str, run: Run, called: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (run("deploy", "--env", environment), called()) == (1, [])
    assert f"deploy: {sentence}" in capsys.readouterr().err


def test_what_was_built_for_another_processor_is_not_deployed(
    run: Run, called: Callable[[], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = built(tmp_path, "arm64")

    code = run("deploy", "--env", "dev", "--config-file", configured(tmp_path), "--template-file", template)

    assert (code, called()) == (1, [])
    assert "CoreLayer was built for arm64, and x86_64 is to be deployed: build it anew" in capsys.readouterr().err
    assert list(built_for_another(template, "arm64")) == []


def test_a_deployment_calls_sam_with_the_environment_and_with_what_follows(
    run: Run, called: Callable[[], list[str]], tmp_path: Path
) -> None:
    template, file = built(tmp_path, "x86_64"), configured(tmp_path)

    code = run("deploy", "--env", "dev", "--config-file", file, "--template-file", template, "--", "--no-rollback")

    assert code == 0
    assert called()[:3] == ["deploy", "--config-env", "dev"]
    assert called()[-3:] == ["--template-file", str(template), "--no-rollback"]


def test_a_build_is_for_the_processor_of_its_environment(
    run: Run, called: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "require_python", lambda: None)

    assert run("build", "--env", "dev", "--config-file", configured(tmp_path, Architecture="arm64")) == 0
    assert called()[:3] == ["build", "--config-env", "dev"]
    assert called()[-1] == "Architecture=arm64"


def test_an_unknown_processor_is_refused() -> None:
    with pytest.raises(Refused, match="Architecture must be x86_64 or arm64"):
        target({"Architecture": "mips"}, "dev", TEMPLATE)


def test_a_build_without_python_3_13_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(127, "python3.13")

    monkeypatch.setattr(subprocess, "run", absent)

    with pytest.raises(Refused, match=r"put python3\.13 on PATH"):
        require_python()


def test_an_entry_that_is_not_a_parameter_is_refused(tmp_path: Path) -> None:
    (file := tmp_path / "samconfig.toml").write_text('[dev.global.parameters]\nparameter_overrides = ["LogLevel"]\n')

    with pytest.raises(Refused, match="parameter_overrides has 1 entries without a ="):
        parameters(file, "dev")
