"""What the model of docs/performance.md ("Scale") says of the records of triggers, on the real engines."""

from tests.support import relationships
from tests.support.api import Api
from tools.scale import model


def records(api: Api) -> int:
    return sum(len(held) for held in relationships.all_of(api.authorization, "trigger_request").values())


def test_only_a_trigger_with_a_key_leaves_records_and_a_repeat_leaves_no_more(api: Api) -> None:
    assert api.create().status == 201
    before = records(api)

    assert api.trigger().status == 200
    assert records(api) == before
    for key in ("one", "another", "another"):
        assert api.trigger(key=key).status == 200

    assert records(api) == before + 2 * model.RECORDS
