"""Temporal's payloads, to JSON and back.

Other tools write payloads too: encrypted, protobuf, broken, or larger than anything of ours. Decoding therefore never
fails. What is not plain JSON is shown as it is: ``{"encoding": …, "data": <base64>}``.
"""

import json
from base64 import b64encode
from collections.abc import Iterable
from typing import Any, NoReturn

from temporalio.api.common.v1 import Payload

_ENCODING = "encoding"
_JSON = b"json/plain"
_NULL = b"binary/null"
# Deeper JSON is shown undecoded: the JSON readers and writers of the next layers end at a depth of about 200.
MAX_DEPTH = 100


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
    if _depth(value) > MAX_DEPTH:
        raise RecursionError
    # A number beyond a float's range is read as infinite, and half of a surrogate pair is read as text.
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def _depth(value: Any) -> int:
    """How many objects and lists are nested in a JSON value; 0 for one that is neither."""
    depth, level = 0, [value]
    while containers := [inner for inner in level if isinstance(inner, dict | list)]:
        depth += 1
        level = [inner for container in containers for inner in _children(container)]
    return depth


def _children(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container
