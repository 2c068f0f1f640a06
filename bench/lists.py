"""A whole list of an agent's schedules by the HTTP API's function, page by page, against bare clients.

The bare clients make the same calls.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

from authzed.api.v1 import (
    CheckBulkPermissionsRequest,
    CheckBulkPermissionsRequestItem,
    Consistency,
    InsecureClient,
    ObjectReference,
    SubjectReference,
)
from temporalio.api.workflowservice.v1 import ListSchedulesRequest
from temporalio.client import Client

from bench import chains, events
from bench.chains import SECONDS, Bare
from local.aws.template import Template
from local.stack import clients
from local.stack.endpoints import NAMESPACE, SPICEDB_TOKEN, Endpoints
from local.stack.parts import parameters
from tests.support.in_process import InProcessApi
from tests.support.sam import ROOT
from tools.figures.figure import Figure, Progress, compared, rounds

SIZES = (500, 5000)
PAGE = 100
_MAKERS = 16
_LISTED_SECONDS = 120


def measure(endpoints: Endpoints, number: int) -> list[Figure]:
    """Make the schedules, then list them all, in ``number`` rounds."""
    os.environ.update(Template(ROOT / "template.yaml", parameters(endpoints)).shared_environment())
    figures = []
    for size in SIZES:
        agent = f"agent-{size}-{uuid.uuid4().hex[:8]}"
        clients.own_agent(clients.spicedb(endpoints), agent, events.OWNER)
        _make(endpoints, agent, size)
        bare = _Bare(endpoints)
        ends_at = time.monotonic() + _LISTED_SECONDS
        while bare.list(agent) < size:  # lists are eventually consistent
            if time.monotonic() > ends_at:
                raise TimeoutError(f"Temporal lists fewer than {size} schedules")
        with chains.quiet():
            sides = {
                "this": partial(_timed, _by_api, agent, size),
                "bare clients": partial(_timed, bare.list, agent, size),
            }
            found = rounds(number, sides, f"list of {size}")
        figures += [
            compared("lists", f"list of {size:,}: {what}", "ms", values, "bare clients", found["bare clients"][what])
            for what, values in found["this"].items()
        ]
    return figures


def _timed(read: Callable[[str], int], agent: str, size: int) -> dict[str, float]:
    began, busy = time.perf_counter(), time.process_time()
    read_ = read(agent)
    if read_ != size:
        raise AssertionError(f"{read_} of {size} schedules were listed")
    return {"time": 1000 * (time.perf_counter() - began), "processor time": 1000 * (time.process_time() - busy)}


def _by_api(agent: str) -> int:
    api = InProcessApi(agent=agent)
    count, following = 0, ""
    while True:
        body = api.call("GET", f"{api.schedules}?page_size={PAGE}{following}").body
        count += int(body["total"])
        if not body["next_page_token"]:
            return count
        following = f"&page_token={body['next_page_token']}"


class _Bare:
    """Bare clients."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._spicedb = InsecureClient(endpoints.spicedb, SPICEDB_TOKEN)
        self._loop = asyncio.new_event_loop()
        connecting = Client.connect(endpoints.temporal, namespace=NAMESPACE)
        self._temporal = self._loop.run_until_complete(connecting).workflow_service

    def list(self, agent: str) -> int:
        """Read every page, and check each schedule of it."""
        count, token = 0, b""
        subject = SubjectReference(object=ObjectReference(object_type="user", object_id=events.OWNER))
        while True:
            message = ListSchedulesRequest(
                namespace=NAMESPACE,
                maximum_page_size=PAGE,
                next_page_token=token,
                query=f'ScheduleId STARTS_WITH "{agent}--"',
            )
            asking = self._temporal.list_schedules(message, timeout=timedelta(seconds=SECONDS))
            page = self._loop.run_until_complete(asking)
            checks = [
                CheckBulkPermissionsRequestItem(
                    resource=ObjectReference(object_type="agent_schedule", object_id=entry.schedule_id),
                    permission="read",
                    subject=subject,
                )
                for entry in page.schedules
            ]
            request = CheckBulkPermissionsRequest(consistency=Consistency(fully_consistent=True), items=checks)
            count += len(self._spicedb.CheckBulkPermissions(request, timeout=SECONDS).pairs)
            token = page.next_page_token
            if not token:
                return count


def _make(endpoints: Endpoints, agent: str, size: int) -> None:
    with Progress(f"making {size} schedules", size) as progress:

        def some(makes: range) -> None:
            bare = Bare(endpoints, agent)
            for _ in makes:
                bare.create(uuid.uuid4().hex)
                progress.step(agent)

        with ThreadPoolExecutor(_MAKERS) as pool:
            list(pool.map(some, [range(start, size, _MAKERS) for start in range(_MAKERS)]))
