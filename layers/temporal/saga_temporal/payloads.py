"""Temporal's payloads, to JSON and back.

Other tools write payloads too: encrypted, protobuf, broken, or larger than anything of ours. Decoding therefore never
fails. What is not plain JSON is shown as it is: ``{"encoding": …, "data": <base64>}``.
"""

import json
from base64 import b64encode
from typing import Any, NoReturn

from temporalio.api.common.v1 import Payload

from saga_core import limits

_ENCODING = "encoding"
_JSON = b"json/plain"
_NULL = b"binary/null"


def encode(value: Any) -> Payload:
    """A JSON value as a payload."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Payload(metadata={_ENCODING: _JSON}, data=data)


def decode(payload: Payload) -> Any:
    """The JSON value of a payload; of any other payload its encoding and its data in base64."""
    encoding = payload.metadata.get(_ENCODING, b"")
    if encoding == _NULL:
        return None
    if encoding == _JSON:
        try:
            return _parse(payload.data)
        except (ValueError, RecursionError):
            pass  # Shown undecoded, as any other payload that is not plain JSON.
    return {"encoding": encoding.decode(errors="replace"), "data": b64encode(payload.data).decode()}


def _parse(data: bytes) -> Any:
    """JSON that every JSON writer can write again.

    Raises:
        ValueError, RecursionError: the data is not such JSON.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    value = json.loads(data, parse_constant=refuse)
    limits.DEPTH.check(limits.depth(value))
    # A number beyond a float's range is read as infinite, and half of a surrogate pair is read as text.
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value
