"""What Temporal does with schedules, as a function: a state and a request in, a state and a reply out.

The explorer drives the handlers against this; test_temporal_model.py compares it with the server. It knows
CreateSchedule, DescribeSchedule, DeleteSchedule and, of PatchSchedule, the trigger, in one namespace that exists; a
schedule in it never runs or ends by itself.

The server keeps the run of a deleted schedule on record until its retention is over, and compares request ids with it
too. So a create that repeats the request id of the schedule deleted *last* under the name succeeds and creates nothing.
A state therefore keeps what is deleted; `live` gives what is there. The server also forgets: the record when its
retention is over (take the deleted schedule out of the state), and the request id of a living schedule when its run is
continued by another (put another one in its place).

A trigger that repeats the request id of an earlier one succeeds and starts nothing, also after the schedule is deleted.
These ids are forgotten too; `forgotten` gives the state of a server that remembers neither them nor what is deleted.

Two schedulers can make schedules, V1 and CHASM (`Rules`), and the server may be switched from one to the other between
two calls. Each holds the id of what it makes in the other one's records too, by a sentinel that lives for 15 minutes:

- V1's sentinel survives its schedule. Until it ends, the id is *reserved* for CHASM: a create is refused as if the
  schedule existed, and a describe finds none.
- A create that CHASM refuses for that reason leaves its own sentinel. That one refuses V1's creates as well; a delete
  ends it, and succeeds although there was no schedule.

A sentinel ends by itself: take what is deleted out of the state. A server without sentinels is not modelled.

Of what a schedule says, the cron expressions are checked (`_is_valid_cron` tells how far), the intervals and the
workflow type. A description has the memo, the time of creation, and the schedule as created but for the cron
expressions, which the server turns into calendars; the defaults that the server fills in and the times of runs are left
out.
"""

import re
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from google.rpc.status_pb2 import Status
from temporalio.api.common.v1 import Memo
from temporalio.api.schedule.v1 import Schedule, ScheduleInfo, ScheduleListEntry
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    CreateScheduleResponse,
    DeleteScheduleResponse,
    DescribeScheduleResponse,
    ListSchedulesRequest,
    ListSchedulesResponse,
    PatchScheduleRequest,
    PatchScheduleResponse,
)
from temporalio.service import RPCError, RPCStatusCode


class Rules(Enum):
    """The scheduler that makes schedules, and so whose rules hold.

    On CHASM a create and a delete are two writes each, and others can come between them. Then a delete of what is
    absent may succeed: beside another delete, or beside a create, whose schedule stays. CHASM_LAX is CHASM where every
    delete of what is absent succeeds.
    """

    V1 = "V1"
    CHASM = "CHASM"
    CHASM_LAX = "CHASM, where a delete of what is absent succeeds"


@dataclass(frozen=True)
class Stored:
    """A schedule that is there, or that was deleted last under its name.

    Attributes:
        schedule, memo: the messages, serialized.
        request_id: of its create, or of the refused create that left a sentinel.
        created_at: seconds since the epoch.
        deleted: whether it is on record alone.
        triggers: how many triggers took effect; ``trigger_ids`` are their request ids, as far as they are remembered.
        chasm: whether CHASM made it, and not V1.
        sentinel: whether a create that CHASM refused has left its sentinel; only of a deleted schedule of V1.
    """

    schedule_id: str
    schedule: bytes
    memo: bytes
    request_id: str
    created_at: float
    deleted: bool = False
    triggers: int = 0
    trigger_ids: frozenset[str] = frozenset()
    chasm: bool = False
    sentinel: bool = False


# At most one for each schedule id.
State = frozenset[Stored]


@dataclass(frozen=True)
class TemporalFailure:
    """A call that Temporal refuses."""

    code: RPCStatusCode


class _Creation(NamedTuple):
    schedule: bytes
    memo: bytes


_INVALID = TemporalFailure(RPCStatusCode.INVALID_ARGUMENT)
_ABSENT = TemporalFailure(RPCStatusCode.NOT_FOUND)
_EXISTS_ALREADY = TemporalFailure(RPCStatusCode.ALREADY_EXISTS)
_CREATED = CreateScheduleResponse()
_DELETED = DeleteScheduleResponse()
_PATCHED = PatchScheduleResponse()

_QUERY = re.compile(r'(?:ScheduleId STARTS_WITH "(?P<prefix>[^"]*)"|ScheduleId IN \((?P<ids>[^)]*)\))?')
_QUOTED = re.compile(r'"([^"]*)"')
_MAX_COMMENT = 200
_CRON_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CRON_ITEM = re.compile(r"(?:\*|(?P<first>\d+)(?:-(?P<last>\d+))?)(?:/(?P<step>\d+))?")


def apply(state: State, method: str, request: Any, now: float, rules: Rules = Rules.V1) -> tuple[State, Any]:
    """The state after a call, and its reply: the response or a TemporalFailure. ``method`` is the client's name of it.

    Replies are shared between calls: do not change them.

    Raises:
        NotImplementedError: the request holds something that the model does not know.
    """
    if method == "list_schedules":
        return state, _list(live(state), request)
    if not request.schedule_id:
        if method == "delete_schedule":
            raise NotImplementedError("a create of the empty id that CHASM refuses leaves a sentinel to be deleted")
        return state, _INVALID
    stored = next((each for each in state if each.schedule_id == request.schedule_id), None)
    match method:
        case "create_schedule":
            return _create(state, stored, request, now, chasm=rules is not Rules.V1)
        case "describe_schedule":
            return state, _ABSENT if stored is None or stored.deleted else _described(stored)
        case "delete_schedule":
            if stored is None or (stored.deleted and not stored.sentinel):
                return state, _DELETED if rules is Rules.CHASM_LAX else _ABSENT
            return state - {stored} | {replace(stored, deleted=True, sentinel=False)}, _DELETED
        case "patch_schedule":
            return _patch(state, stored, request)
        case _:
            raise NotImplementedError(f"the model of Temporal does not know {method}")


def _list(there: State, request: ListSchedulesRequest) -> ListSchedulesResponse:
    """The schedules of a query: all, those whose ids begin with something, or those of a list of ids. On one page."""
    query = _QUERY.fullmatch(request.query)
    if query is None or request.next_page_token:
        raise NotImplementedError(f"the model of Temporal cannot read the query {request.query!r}")
    named = set(_QUOTED.findall(query["ids"] or ""))
    found = [
        each
        for each in sorted(there, key=lambda stored: stored.schedule_id)
        if each.schedule_id.startswith(query["prefix"] or "") and (not query["ids"] or each.schedule_id in named)
    ]
    entries = [ScheduleListEntry(schedule_id=each.schedule_id, memo=Memo.FromString(each.memo)) for each in found]
    return ListSchedulesResponse(schedules=entries)


def live(state: State) -> State:
    """The schedules that are there."""
    return frozenset(stored for stored in state if not stored.deleted)


def forgotten(state: State) -> State:
    """What is there for a server that remembers nothing else."""
    return frozenset(replace(stored, trigger_ids=frozenset()) for stored in live(state))


def reserved(schedule_id: str) -> Stored:
    """An id without a schedule that CHASM refuses to create: V1's sentinel holds it."""
    return Stored(schedule_id, b"", b"", "of another create", 0, deleted=True)


def error(failure: TemporalFailure) -> RPCError:
    """What a client raises for a failure."""
    status: bytes = Status(code=failure.code.value).SerializeToString()
    return RPCError("as the model has it", failure.code, status)


def _create(
    state: State, stored: Stored | None, request: CreateScheduleRequest, now: float, *, chasm: bool
) -> tuple[State, Any]:
    creation = _understood(request.SerializeToString())
    if creation is None:
        return state, _INVALID
    if stored is None:
        return state | {Stored(request.schedule_id, *creation, request.request_id, now, chasm=chasm)}, _CREATED
    repeated = stored.request_id == request.request_id
    others = state - {stored}
    if chasm and not stored.chasm:
        if stored.deleted and not repeated and not stored.sentinel:
            return others | {replace(stored, request_id=request.request_id, sentinel=True)}, _EXISTS_ALREADY
        return state, _EXISTS_ALREADY
    if stored.chasm and not chasm and not stored.deleted:
        return state, _EXISTS_ALREADY
    if repeated:
        # Of a deleted schedule of CHASM, V1 creates nothing, but its sentinel.
        return others | {replace(stored, chasm=chasm)}, _CREATED
    if not stored.deleted or stored.sentinel:
        return state, _EXISTS_ALREADY
    return others | {Stored(request.schedule_id, *creation, request.request_id, now, chasm=chasm)}, _CREATED


def _patch(state: State, stored: Stored | None, request: PatchScheduleRequest) -> tuple[State, Any]:
    if [field.name for field, _ in request.patch.ListFields()] != ["trigger_immediately"]:
        raise NotImplementedError("the model of Temporal knows no patch but a trigger")
    # CHASM compares no request ids of patches. A sentinel takes patches, and does nothing.
    if stored and (stored.sentinel or (not stored.chasm and request.request_id in stored.trigger_ids)):
        return state, _PATCHED
    if stored is None or stored.deleted:
        return state, _ABSENT
    triggered = replace(
        stored, triggers=stored.triggers + 1, trigger_ids=stored.trigger_ids | ({request.request_id} - {""})
    )
    return state - {stored} | {triggered}, _PATCHED


@lru_cache(4096)
def _understood(request: bytes) -> _Creation | None:
    """What to store for a request, or None if it is invalid."""
    message = CreateScheduleRequest.FromString(request)
    schedule = message.schedule
    crons = schedule.spec.cron_string
    if not message.request_id or not schedule.action.start_workflow.workflow_type.name:
        return None
    if any(interval.interval.seconds < 1 for interval in schedule.spec.interval):
        return None
    if not all(_is_valid_cron(cron) for cron in crons):
        return None
    del crons[:]
    return _Creation(schedule.SerializeToString(), message.memo.SerializeToString())


@lru_cache(4096)
def _described(stored: Stored) -> DescribeScheduleResponse:
    info = ScheduleInfo()
    info.create_time.FromMicroseconds(round(stored.created_at * 1_000_000))
    return DescribeScheduleResponse(
        schedule=Schedule.FromString(stored.schedule), memo=Memo.FromString(stored.memo), info=info
    )


def _is_valid_cron(cron: str) -> bool:
    """Whether the server takes a cron expression of five fields of numbers: values, ranges, steps and lists of them.

    A comment may follow. The server keeps it with the calendar that it makes of the expression; the model has neither.

    Raises:
        NotImplementedError: it has anything else, such as names, seconds, years, a time zone or ``@daily``.
    """
    expression, _, comment = cron.partition("#")
    fields = expression.split()
    unknown = NotImplementedError(f"the model of Temporal cannot read the cron expression {cron!r}")
    if any(mark in expression for mark in "@=") or len(comment) > _MAX_COMMENT:
        raise unknown
    if not 5 <= len(fields) <= 7:
        return False
    if len(fields) > 5:
        raise unknown
    for field, (least, most) in zip(fields, _CRON_LIMITS, strict=True):
        for item in field.split(","):
            match = _CRON_ITEM.fullmatch(item)
            if match is None:
                raise unknown
            first = int(match["first"] or least)
            last = int(match["last"] or first)
            if not least <= first <= last <= most or (match["step"] and int(match["step"]) < 1):
                return False
    return True
