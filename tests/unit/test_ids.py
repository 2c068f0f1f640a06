import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_core import ids
from saga_core.ids import Subject

SPICEDB_ALPHABET = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_|-=+")


@pytest.mark.parametrize("value", ["alice", "auth0|5f7c8ec7", "a/b_c-d=e+f"])
def test_a_subject_id_that_spicedb_can_hold_stays_as_it_is(value: str) -> None:
    assert ids.encode_subject_id(value) == value


def test_an_email_address_is_escaped_readably() -> None:
    assert ids.encode_subject_id("alice@example.com") == "=alice=40example=2Ecom"


def test_the_wildcard_cannot_be_written_as_a_subject() -> None:
    assert ids.encode_subject_id("*") == "==2A"


@pytest.mark.parametrize("value", ["", "é" * 400])
def test_an_id_that_is_empty_or_too_long_once_encoded_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="1 to 1024"):
        ids.encode_subject_id(value)


@given(st.text(min_size=1, max_size=80).filter(lambda s: s.isprintable()))
def test_every_encoded_subject_id_fits_spicedb_and_decodes_to_its_original(value: str) -> None:
    encoded = ids.encode_subject_id(value)

    assert set(encoded) <= SPICEDB_ALPHABET
    assert ids.decode_subject_id(encoded) == value


@given(st.text(alphabet="a=4@0", min_size=1), st.text(alphabet="a=4@0", min_size=1))
def test_no_two_subject_ids_share_an_encoding(one: str, other: str) -> None:
    assert (ids.encode_subject_id(one) == ids.encode_subject_id(other)) == (one == other)


AGENT_IDS = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\Z").filter(lambda s: "--" not in s)
NAMES = st.from_regex(r"\A[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")


@given(AGENT_IDS, NAMES)
def test_a_schedule_id_splits_into_what_it_was_made_of(agent_id: str, name: str) -> None:
    ids.check_agent_id(agent_id)
    ids.check_schedule_name(name)

    assert ids.split_schedule_id(ids.schedule_id(agent_id, name)) == (agent_id, name)


def test_what_is_no_schedule_id_does_not_split() -> None:
    with pytest.raises(ValueError, match="no-separator"):
        ids.split_schedule_id("no-separator")


def test_the_registration_is_the_sha256_of_the_execution_arn_in_hex() -> None:
    assert ids.registration("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_triggers_of_another_schedule_caller_or_key_have_records_of_their_own() -> None:
    callers = (Subject("user", "bob"), Subject("service_account", "bob"))
    records = {
        ids.trigger_request(schedule_id, caller, key)
        for schedule_id in ("a--x", "a--y")
        for caller in callers
        for key in ("k", "l")
    }

    assert len(records) == 8
    assert all(re.fullmatch("[0-9a-f]{64}", record) for record in records)
    assert ids.trigger_request("a--x", Subject("user", "bob"), "k") in records
