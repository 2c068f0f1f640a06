"""Any number of schedules in both systems, made when they are read: what a reconciler reads, and no memory.

They stand where the clients of the gateways stand, and page as the engines do. ListSchedules: the newest first,
1,000 at most, with STARTS_WITH and IN, and a token after every full page, although it may be the last one.
ReadRelationships: by id, relation and subject, with a prefix, a limit and a cursor. Nothing can be written.
"""

import asyncio
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from authzed.api.v1 import (
    CheckBulkPermissionsPair,
    CheckBulkPermissionsRequest,
    CheckBulkPermissionsResponse,
    CheckBulkPermissionsResponseItem,
    CheckPermissionResponse,
    Cursor,
    ObjectReference,
    ReadRelationshipsRequest,
    ReadRelationshipsResponse,
    Relationship,
    SubjectReference,
    ZedToken,
)
from google.rpc.status_pb2 import Status
from temporalio.api.common.v1 import Memo
from temporalio.api.schedule.v1 import ScheduleInfo, ScheduleListEntry
from temporalio.api.workflowservice.v1 import (
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    ListSchedulesRequest,
    ListSchedulesResponse,
)
from temporalio.service import RPCError, RPCStatusCode

from saga_core import ids
from saga_core.connections import Connected, Connection
from saga_reconcile import repairs, sweep
from saga_spicedb import SpiceDB
from saga_temporal import MEMO_KEY, Temporal, payloads
from tests.support.machines import template

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
LETTERS = "".join(sorted("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))
# What is wrong with the schedules that begin each stretch of ``damaged_every``: one each.
DAMAGES = ("unowned", "orphan", "incomplete", "conflicting", "unfenced", "ownerless", "other_owner", "revoked")
_MOST_IN_A_LIST = 1000
_BEYOND = "\U0010ffff"
Held = tuple[str, str, str]  # relation, subject type, subject id


@dataclass(frozen=True)
class Fleet:
    """Schedules that are numbered in the order of their ids.

    Attributes:
        size: how many there are.
        damaged_every: so many in a row have one of each of `DAMAGES`; 0 for none. It is larger than their number.
        grants: how many viewers each has.
    """

    size: int
    damaged_every: int = 0
    grants: int = 0

    def id(self, number: int) -> str:
        """The id of a schedule. They begin with every letter and digit, equally often."""
        return f"{LETTERS[number * len(LETTERS) // self.size]}{number:07}--daily"

    def number(self, schedule_id: str) -> int | None:
        """The number of a schedule; None if there is none of this id."""
        digits = schedule_id[1:8]
        number = int(digits) if re.fullmatch("[0-9]{7}", digits) else self.size
        return number if number < self.size and self.id(number) == schedule_id else None

    def beginning_with(self, prefix: str) -> range:
        """The numbers of the schedules whose ids begin with ``prefix``."""
        every = range(self.size)
        first, last = (bisect_left(every, text, key=self.id) for text in (prefix, prefix + _BEYOND))
        return every[first:last]

    def damage(self, number: int) -> str:
        """What is wrong with a schedule; empty for nothing."""
        place = number % self.damaged_every if self.damaged_every else len(DAMAGES)
        return DAMAGES[place] if place < len(DAMAGES) else ""

    def damages(self) -> Mapping[str, int]:
        """How many schedules have which damage."""
        return Counter(damage for number in range(self.size) if (damage := self.damage(number)))

    def memo(self, number: int) -> Memo:
        """The memo of a schedule."""
        creator, registration = f"user:u{number % 1000}", f"{number:064x}"
        made_by = {"version": 2, "registration": registration, "creator": creator}
        return Memo(fields={MEMO_KEY: payloads.encode(made_by)})

    def held(self, number: int) -> list[Held]:
        """The relationships of a schedule, in the order of SpiceDB."""
        damage = self.damage(number)
        if damage == "unowned":
            return []
        found: list[Held] = [
            ("owner", "user", f"u{number % 1000}"),
            ("parent_agent", "agent", self.id(number).partition(ids.SEPARATOR)[0]),
            ("registered_by", "registration", f"{number:064x}"),
            *(("viewer", "user", f"g{grant:03}") for grant in range(self.grants)),
        ]
        if damage == "other_owner":
            found[0] = ("owner", "user", "somebody")
        if damage == "conflicting":
            found[2] = ("registered_by", "registration", "f" * 64)
        missing = {"incomplete": "parent_agent", "unfenced": "registered_by", "ownerless": "owner"}.get(damage)
        return [each for each in found if each[0] != missing]


@dataclass
class FleetEngines:
    """Both systems of a fleet.

    Attributes:
        calls: how often each method was called.
        on_call: is done before each call.
        ignores_case: whether STARTS_WITH does, as on some databases.
    """

    fleet: Fleet
    calls: Counter[str] = field(default_factory=Counter)
    on_call: Callable[[], object] = lambda: None
    ignores_case: bool = False

    def called(self, method: str) -> None:
        """Count a call."""
        self.calls[method] += 1
        self.on_call()

    @contextmanager
    def behind_the_reconciler(self) -> Iterator[None]:
        """Let the reconciler read them."""
        clients: Connection[Any] = Connection(lambda _timeout: Connected(_Client(self)))
        services: Connection[Any] = Connection(lambda _timeout: Connected(_Service(self)))
        spicedb = SpiceDB(clients, timedelta(minutes=12))
        with asyncio.Runner() as runner, pytest.MonkeyPatch.context() as patch:
            temporal = Temporal(services, "default", runner.run)
            (function,) = (each for each in template().functions if each.code.name == "reconcile")
            for name, value in function.environment.items():
                patch.setenv(name, value)
            for module in (sweep, repairs):
                patch.setattr(module, "spicedb", lambda: spicedb)
                patch.setattr(module, "temporal", lambda: temporal)
            yield


class _Client:
    """Stands where the authzed client stands."""

    def __init__(self, engines: FleetEngines) -> None:
        self._engines, self._fleet = engines, engines.fleet

    def ReadRelationships(  # noqa: N802 - authzed's name of it
        self, request: ReadRelationshipsRequest, *, timeout: float
    ) -> Iterator[ReadRelationshipsResponse]:
        assert timeout > 0
        self._engines.called("ReadRelationships")
        wanted, left = request.relationship_filter, request.optional_limit or self._fleet.size
        begun, skipped = (int(part) for part in (request.optional_cursor.token or "0,0").split(","))
        numbers = self._fleet.beginning_with(wanted.optional_resource_id or wanted.optional_resource_id_prefix)
        for number in numbers[max(0, begun - numbers.start) :]:
            if wanted.optional_resource_id not in ("", self._fleet.id(number)):
                continue
            for place, (relation, subject_type, subject_id) in enumerate(self._fleet.held(number)):
                if number == begun and place < skipped:
                    continue
                if wanted.optional_relation not in ("", relation):
                    continue
                if wanted.optional_subject_filter.subject_type not in ("", subject_type):
                    continue
                if not left:
                    return
                left -= 1
                yield ReadRelationshipsResponse(
                    read_at=ZedToken(token="now"),
                    relationship=Relationship(
                        resource=ObjectReference(object_type="agent_schedule", object_id=self._fleet.id(number)),
                        relation=relation,
                        subject=SubjectReference(
                            object=ObjectReference(object_type=subject_type, object_id=subject_id)
                        ),
                    ),
                    after_result_cursor=Cursor(token=f"{number},{place + 1}"),
                )

    def CheckBulkPermissions(  # noqa: N802 - as above
        self, request: CheckBulkPermissionsRequest, *, timeout: float
    ) -> CheckBulkPermissionsResponse:
        assert timeout > 0
        self._engines.called("CheckBulkPermissions")
        assert len(request.items) <= 10_000
        pairs = []
        for item in request.items:
            found = CheckPermissionResponse.PERMISSIONSHIP_NO_PERMISSION
            if self._holds(item.resource, item.permission, item.subject.object):
                found = CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION
            pairs.append(CheckBulkPermissionsPair(item=CheckBulkPermissionsResponseItem(permissionship=found)))
        return CheckBulkPermissionsResponse(pairs=pairs)

    def _holds(self, resource: ObjectReference, relation: str, subject: ObjectReference) -> bool:
        if resource.object_type == "agent":
            number = self._fleet.number(f"{resource.object_id}{ids.SEPARATOR}daily")
            return number is not None and self._fleet.damage(number) != "revoked"
        number = self._fleet.number(resource.object_id)
        return number is not None and (relation, subject.object_type, subject.object_id) in self._fleet.held(number)


class _Service:
    """Stands where temporalio's workflow service stands."""

    def __init__(self, engines: FleetEngines) -> None:
        self._engines, self._fleet = engines, engines.fleet

    async def list_schedules(self, request: ListSchedulesRequest, *, timeout: timedelta) -> ListSchedulesResponse:
        assert timeout > timedelta()
        self._engines.called("ListSchedules")
        size = min(request.maximum_page_size, _MOST_IN_A_LIST)
        before = int(request.next_page_token or self._fleet.size)
        response = ListSchedulesResponse()
        for number in self._asked(request.query, before):
            if self._fleet.damage(number) == "orphan":
                continue
            response.schedules.append(
                ScheduleListEntry(schedule_id=self._fleet.id(number), memo=self._fleet.memo(number))
            )
            if len(response.schedules) == size:
                response.next_page_token = str(number).encode()
                break
        return response

    def _asked(self, query: str, before: int) -> Iterable[int]:
        """The numbers below ``before`` that a query is about, the newest one first."""
        texts = re.findall(r'"([^"]*)"', query)
        if " IN (" in query:
            numbers = (self._fleet.number(text) for text in texts)
            return sorted((number for number in numbers if number is not None and number < before), reverse=True)
        prefix = texts[0] if texts else ""
        cases = {prefix.lower(), prefix.upper(), prefix} if self._engines.ignores_case else {prefix}
        ranges = sorted((self._fleet.beginning_with(case) for case in cases), key=lambda each: each.start, reverse=True)
        return (number for each in ranges for number in reversed(each[: max(0, before - each.start)]))

    async def describe_schedule(
        self, request: DescribeScheduleRequest, *, timeout: timedelta
    ) -> DescribeScheduleResponse:
        assert timeout > timedelta()
        self._engines.called("DescribeSchedule")
        number = self._fleet.number(request.schedule_id)
        if number is None or self._fleet.damage(number) == "orphan":
            code = RPCStatusCode.NOT_FOUND
            raise RPCError("no such schedule", code, Status(code=code.value).SerializeToString())
        info = ScheduleInfo()
        info.create_time.FromDatetime(CREATED)
        return DescribeScheduleResponse(memo=self._fleet.memo(number), info=info)
