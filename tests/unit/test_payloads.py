"""Payloads of any tool are decoded without an error, into JSON that every later layer can write."""

import json
from base64 import b64encode
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadConverter

from saga_core import limits
from saga_temporal import payloads


def payload(data: bytes, encoding: bytes | None = b"json/plain") -> Payload:
    return Payload(metadata={} if encoding is None else {"encoding": encoding}, data=data)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "value", [None, True, 0, -1.5, "ünï", {"to": ["alice", None]}, {"": {}}, [], 10**30, "\x00", "𝄞" * 1000]
)
def test_json_comes_back_as_it_was_encoded_and_as_the_sdk_reads_it(value: Any) -> None:
    encoded = payloads.encode(value)

    assert payloads.decode(encoded) == value
    assert PayloadConverter.default.from_payload(encoded) == value


def test_null_of_the_sdk_is_null() -> None:
    assert payloads.decode(PayloadConverter.default.to_payload(None)) is None


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"\x00\x01\x02", b"binary/encrypted"),
        (b"\xff", b"binary/plain"),
        (b"plain", b"binary/plain"),
        (b'{"seconds": 1}', b"json/protobuf"),
        (b"\x08\x01", b"binary/protobuf"),
        (b"{", None),
        (b"null", b""),
        (b"{}", b"\xff\xfe"),
        (b"{broken", b"json/plain"),
        (b"", b"json/plain"),
        (b"\xff", b"json/plain"),
        (b"NaN", b"json/plain"),
        (b'{"a": -Infinity}', b"json/plain"),
        (b"1e999", b"json/plain"),
        (b"1" * 5000, b"json/plain"),
        (b'"\\ud800"', b"json/plain"),
        (b'{"\\udfff": 1}', b"json/plain"),
        (nested(limits.DEPTH.most + 1), b"json/plain"),
        (nested(100_000), b"json/plain"),
    ],
)
def test_what_is_not_plain_json_is_shown_undecoded(data: bytes, encoding: bytes | None) -> None:
    shown = payloads.decode(payload(data, encoding))

    assert shown == {"encoding": (encoding or b"").decode(errors="replace"), "data": b64encode(data).decode()}
    json.dumps(shown, allow_nan=False).encode()


def test_json_as_deep_as_a_request_may_be_is_decoded() -> None:
    decoded = payloads.decode(payload(nested(limits.DEPTH.most)))

    assert json.dumps(decoded).encode() == nested(limits.DEPTH.most)
