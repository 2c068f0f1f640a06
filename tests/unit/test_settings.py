import pytest
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

from saga_core.errors import ConfigurationError
from saga_core.settings import SpiceDBSettings, TemporalSettings, read_secret


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPICEDB_ENDPOINT", "spicedb:50051")
    monkeypatch.setenv("SPICEDB_TLS", "false")
    monkeypatch.setenv("SPICEDB_TOKEN_SECRET", "plain:local")
    monkeypatch.setenv("SPICEDB_CA_SECRET", "")

    settings = SpiceDBSettings.load()

    assert settings.spicedb_endpoint == "spicedb:50051"
    assert settings.spicedb_tls is False
    assert settings.spicedb_ca_secret is None


def test_tls_is_on_unless_it_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEMPORAL_TLS", raising=False)
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal:7233")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "default")

    assert TemporalSettings.load().temporal_tls is True


def test_a_missing_or_malformed_variable_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPICEDB_ENDPOINT", raising=False)
    monkeypatch.setenv("SPICEDB_TOKEN_SECRET", "hunter2")

    with pytest.raises(ConfigurationError) as refusal:
        SpiceDBSettings.load()

    assert "SPICEDB_ENDPOINT" in str(refusal.value)
    assert "SPICEDB_TOKEN_SECRET" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_a_plain_secret_is_its_own_value() -> None:
    assert read_secret("plain:a:b") == "a:b"


def test_a_secret_is_read_from_secrets_manager_and_never_from_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter(["old", "new"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(SecretsProvider, "_get", lambda *_args, **_kwargs: next(values))

    assert [read_secret("arn:aws:x"), read_secret("arn:aws:x")] == ["old", "new"]


def test_a_secret_that_cannot_be_read_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> str:
        raise GetParameterError("role arn:aws:iam::1:role/x may not")

    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(SecretsProvider, "_get", refuse)

    with pytest.raises(ConfigurationError, match="arn:aws:secret"):
        read_secret("arn:aws:secret")
