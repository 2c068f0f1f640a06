"""Every limit: of what a caller may send, and of what this application says about it.

Callers' input is checked once, where it comes in: by the models of `saga_core.requests`, and by the HTTP API for what
only HTTP has. What passes fits every later layer: Temporal, SpiceDB, the state of an execution, and the JSON readers
and writers between them. docs/machines.md prints TABLE.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limit:
    """One limit.

    Attributes:
        of: what it bounds: fields, as a caller writes them, or a thing.
        most: the largest number that is allowed, in ``unit``.
        unit: as it follows a number in a sentence.
        why: what sets it.
        least: the smallest number that is allowed.
    """

    of: str
    most: int
    unit: str
    why: str
    least: int = 0

    def check(self, size: int) -> None:
        """Refuse what is larger.

        Raises:
            ValueError: ``size`` is more than the limit. The message has both numbers.
        """
        if size > self.most:
            raise ValueError(f"is {size:,} {self.unit}; at most {self.most:,} are allowed")


NAME = Limit(
    "`agent_id`, `schedule.name`, `schedule_name`", 64, "characters", "the id of a schedule in both systems", least=1
)
TEXT = Limit(
    "`workflow_name`, `task_queue`, `cron_expression`, `account_id`, and the note of a pause or unpause",
    1000,
    "bytes in UTF-8",
    "Temporal's limit for ids and notes",
    least=1,
)
CRON_TEXT = Limit(
    "a `cron_expression` that is shown as it was sent; a longer one is written anew from Temporal's calendars",
    200,
    "bytes in UTF-8",
    "Temporal's limit for the comment of a calendar",
)
PARAMS = Limit(
    "`workflow_params`",
    65_536,
    "bytes of JSON in UTF-8",
    "the state of an execution holds 262,144 bytes, and has the parameters twice: in the input, and in the schedule "
    "that is read back",
)
DEPTH = Limit(
    "objects and lists inside each other in `workflow_params`",
    100,
    "levels deep",
    "the JSON readers and writers on the way end at about 200",
)
IDENTITY = Limit("`user_id`, `service_account_id`", 512, "characters", "SpiceDB's limit for ids", least=1)
SUBJECT = Limit(
    "the same, once encoded: three characters for each byte that is not a letter, a digit or one of `/_|-+`",
    1024,
    "characters",
    "SpiceDB's limit for ids",
    least=1,
)
KEY = Limit("`idempotency_key`", 128, "printable ASCII characters", "the memo of a schedule", least=1)
SECONDS = Limit(
    "`interval_seconds`, `execution_timeout_seconds`, `jitter_seconds`",
    3_155_760_000,
    "seconds",
    "a hundred years: no client overflows",
    least=1,
)
CATCHUP = Limit(
    "`catchup_window_seconds`", SECONDS.most, "seconds", "Temporal raises a shorter window to ten seconds", least=10
)
BODY = Limit(
    "the body of an HTTP request; a character counts the same when it is written as `\\uXXXX`",
    131_072,
    "bytes in UTF-8",
    "any request that fits has less, unless it is mostly white space",
)
PAGE_SIZE = Limit("`page_size`", 1000, "schedules", "Temporal's limit for a page", least=1)
PAGE_TOKEN = Limit("`page_token`", 1024, "characters", "the tokens of Temporal, signed", least=1)
OUTPUT = Limit(
    "`schedule` in the output of a create; a larger one, which another tool has changed, is null there",
    131_072,
    "bytes of JSON in UTF-8",
    "the state of an execution holds 262,144 bytes, and the input too",
)
MESSAGE = Limit(
    "the message of an error; it ends with how many wrong fields are left out",
    2000,
    "characters",
    "a cause in Step Functions has at most 32,768 characters, after its JSON is escaped",
)
FIELD_NAME = Limit("the name of an unknown field in a message", 100, "characters", "the caller chose it")
LOG_LINE = Limit(
    "a line in the functions' log; the field `cut` names what is cut", 32_768, "bytes", "a line can be read"
)

# In the order of a request, and then what comes back.
TABLE = (
    NAME,
    TEXT,
    CRON_TEXT,
    PARAMS,
    DEPTH,
    SECONDS,
    CATCHUP,
    IDENTITY,
    SUBJECT,
    KEY,
    BODY,
    PAGE_SIZE,
    PAGE_TOKEN,
    OUTPUT,
    MESSAGE,
    FIELD_NAME,
    LOG_LINE,
)

_SEPARATOR = "; "
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)")


def depth(value: Any) -> int:
    """How many objects and lists are nested in a JSON value; 0 for one that is neither."""
    levels, level = 0, [value]
    while containers := [inner for inner in level if isinstance(inner, dict | list)]:
        levels += 1
        level = [inner for container in containers for inner in _children(container)]
    return levels


def _children(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def size(text: str) -> int:
    """Bytes in UTF-8; three for half of a surrogate pair."""
    return len(text.encode(errors="surrogatepass"))


def json_size(text: str) -> int:
    """Bytes in UTF-8 of JSON text, with each ``\\uXXXX`` counted as the character that it stands for."""
    return size(_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)) if escape[1] else escape[0], text))


def writable(text: str) -> str:
    """The text, with a question mark for each half of a surrogate pair, which UTF-8 cannot write."""
    return text.encode(errors="replace").decode()


def cut(text: str, limit: Limit) -> str:
    """The beginning of the text that has at most ``limit.most`` bytes in UTF-8."""
    return writable(text).encode()[: limit.most].decode(errors="ignore")


def named(field: str) -> str:
    """The name of a field as a message has it."""
    return field if len(field) <= FIELD_NAME.most else f"{field[: FIELD_NAME.most - 1]}…"


def shortened(message: str) -> str:
    """The message of an error, in at most ``MESSAGE.most`` characters.

    A longer one keeps its first parts, between semicolons, and says how many are left out.
    """
    if len(message) <= MESSAGE.most:
        return message
    parts = message.split(_SEPARATOR)
    room = MESSAGE.most - len(f"{_SEPARATOR}and {len(parts)} more")
    end = message.rfind(_SEPARATOR, 0, room + len(_SEPARATOR))
    if end < 0:
        return f"{message[: MESSAGE.most - 1]}…"
    kept = message[:end]
    return f"{kept}{_SEPARATOR}and {len(parts) - len(kept.split(_SEPARATOR))} more"
