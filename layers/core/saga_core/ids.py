"""Names and ids, and how each one is derived. Pure functions."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from saga_core import limits

# An agent id never contains the separator, so a schedule id splits exactly at its first separator.
SEPARATOR = "--"
AGENT_ID_PATTERN = r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*"
SCHEDULE_NAME_PATTERN = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"

# SpiceDB's alphabet for object ids, without the `=` that begins an encoded id.
_PLAIN_SUBJECT = re.compile(r"[A-Za-z0-9/_|\-+][A-Za-z0-9/_|\-=+]*")
_UNESCAPED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/_|-+")


@dataclass(frozen=True)
class Subject:
    """A subject in SpiceDB, written ``{type}:{id}``.

    Attributes:
        type: its object type, for example ``user``.
        id: its object id, encoded (see `encode_subject_id`).
    """

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"


def check_agent_id(value: str) -> str:
    """Return ``value`` if it is well-formed as an agent id.

    Raises:
        ValueError: it is not.
    """
    if not re.fullmatch(AGENT_ID_PATTERN, value):
        raise ValueError("must be letters, digits and single hyphens, with a letter or digit at both ends")
    return value


def check_schedule_name(value: str) -> str:
    """Return ``value`` if it is well-formed as a schedule name.

    Raises:
        ValueError: it is not.
    """
    if not re.fullmatch(SCHEDULE_NAME_PATTERN, value):
        raise ValueError("must be lower-case letters, digits and hyphens, with a letter or digit at both ends")
    return value


def schedule_id(agent_id: str, schedule_name: str) -> str:
    """The id of a schedule in both systems: ``{agent_id}--{schedule_name}``."""
    return f"{agent_id}{SEPARATOR}{schedule_name}"


def split_schedule_id(value: str) -> tuple[str, str]:
    """The agent id and the schedule name in ``value``.

    Raises:
        ValueError: ``value`` has no separator, so it is not one of our schedule ids.
    """
    agent_id, separator, name = value.partition(SEPARATOR)
    if not separator:
        raise ValueError(f"{value!r} is not a schedule id")
    return agent_id, name


def is_schedule_of(value: str, agent_id: str) -> bool:
    """Whether ``value`` is exactly ``{agent_id}--{schedule_name}``, with a name that a schedule of ours can have."""
    name = value.removeprefix(schedule_id(agent_id, ""))
    return name != value and len(name) <= limits.NAME.most and re.fullmatch(SCHEDULE_NAME_PATTERN, name) is not None


def workflow_id_prefix(of_schedule_id: str) -> str:
    """How the ids of a schedule's workflows begin; Temporal appends the time."""
    return f"{of_schedule_id}-run"


def registration(execution_id: str) -> str:
    """The fence of an execution whose machine makes none: the SHA-256 of its ARN, as 64 hex digits.

    A fence is an operation's Temporal request id, it is in the schedule's memo, and it is the subject of
    ``registered_by``.
    """
    return _hash(execution_id)


def registration_without_memo(of_schedule_id: str, created_at: datetime | None) -> str:
    """The fence of a schedule whose memo has none: the SHA-256 of its id and time of creation, as 64 hex digits.

    It tells the schedule from another one that is created under the name later.
    """
    return _hash(f"{of_schedule_id} {created_at.isoformat() if created_at else ''}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def trigger_request(of_schedule_id: str, caller: Subject, key: str) -> str:
    """The id of a trigger with an idempotency key: the SHA-256 of schedule, caller and key, as 64 hex digits.

    None of the three contains a line end, so no two triggers share an id.
    """
    return hashlib.sha256(f"{of_schedule_id}\n{caller}\n{key}".encode()).hexdigest()


def encode_subject_id(value: str) -> str:
    """``value`` as a SpiceDB object id: unchanged where SpiceDB accepts it, else escaped.

    An escaped id begins with ``=`` and has ``=XX`` (hex of one UTF-8 byte) for each byte outside SpiceDB's alphabet.
    A value that itself begins with ``=`` is escaped too, so no two values share an id, and `decode_subject_id` is the
    inverse. The wildcard ``*`` is escaped like any other character.

    Raises:
        ValueError: ``value`` is empty, or longer than 1,024 characters once encoded.
    """
    encoded = value
    if not _PLAIN_SUBJECT.fullmatch(value):
        encoded = "=" + "".join(chr(b) if b in _UNESCAPED else f"={b:02X}" for b in value.encode())
    if not value or len(encoded) > limits.SUBJECT.most:
        raise ValueError(f"must have 1 to {limits.SUBJECT.most} characters once encoded for SpiceDB")
    return encoded


def decode_subject_id(encoded: str) -> str:
    """The value that `encode_subject_id` encoded as ``encoded``."""
    if not encoded.startswith("="):
        return encoded
    raw = re.sub(rb"=([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), encoded[1:].encode())
    return raw.decode()
