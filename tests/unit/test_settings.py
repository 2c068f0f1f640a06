import pytest

from saga_core.errors import ConfigurationError
from saga_core.settings import SpiceDBSettings, TemporalSettings


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


@pytest.mark.parametrize(
    "address",
    [
        "spicedb:0",
        "spicedb:65536",
        "spicedb:99999",
        "spicedb",
        "https://spicedb:443",
        "a b:443",
        "a..b:443",
        f"{'a' * 64}:443",
        f"{'abc.' * 64}de:443",
        "999.1.1.1:443",
        "1.2.3:443",
        "[:::::]:443",
        "[1.2.3.4]:443",
        "::1:443",
    ],
)
def test_an_address_without_a_usable_port_and_name_is_refused_without_its_value(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("SPICEDB_ENDPOINT", address)
    monkeypatch.setenv("SPICEDB_TOKEN_SECRET", "plain:local")

    with pytest.raises(ConfigurationError, match="SPICEDB_ENDPOINT") as refusal:
        SpiceDBSettings.load()

    assert address not in str(refusal.value)


@pytest.mark.parametrize(
    "address", ["spicedb:65535", "10.0.0.1:1", "[::1]:50051", "my_engine.local:443", "engine.:443"]
)
def test_an_address_is_a_name_or_an_address_and_a_port(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("SPICEDB_ENDPOINT", address)
    monkeypatch.setenv("SPICEDB_TOKEN_SECRET", "plain:local")

    assert SpiceDBSettings.load().spicedb_endpoint == address
