"""What a function says of a connection or a secret that is wrong, and how soon it is well after the mending."""

from collections.abc import Iterator

import pytest

from local.stack.endpoints import Endpoints
from tests.connections.faults import FAULTS, Fault, observe, table
from tests.connections.world import LAMBDA_SECONDS, Engine, World, world
from tests.support.in_process import ROOT


@pytest.fixture(scope="module")
def any_world(request: pytest.FixtureRequest, running_engines: Endpoints) -> Iterator[World]:
    with world(request.param, running_engines, seconds=0.5) as made:
        yield made


@pytest.mark.parametrize(
    ("any_world", "fault"),
    [
        pytest.param(engine, fault, id=f"{engine.name.lower()}, {fault.name}")
        for engine in Engine
        for fault in FAULTS
        if engine in fault.engines
    ],
    indirect=["any_world"],
)
def test_a_fault_is_named_with_its_setting_without_a_secret_and_a_warm_function_is_well_after_the_mending(
    any_world: World, fault: Fault, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = observe(any_world, fault)

    print(f"{fault.name}: {seen}")
    assert seen.answer.error == fault.error(any_world.engine), seen.answer.message
    for setting in fault.settings:
        assert any_world.setting(setting) in seen.answer.message
    assert fault.reason in seen.answer.message
    assert seen.answer.reasons == [seen.answer.message], "logged once"
    assert seen.answer.seconds < LAMBDA_SECONDS, "Lambda ends it, and nobody hears what is wrong"
    assert seen.leaks == []
    assert not [value for value in any_world.secret_values if value in "".join(capfd.readouterr())]


def test_the_faults_are_documented_as_they_are_tested() -> None:
    """`python -m tests.connections --documented` prints the table."""
    assert table() in (ROOT / "docs/deploying.md").read_text()
