"""The steps of the show: each does one thing on the running stack and prints what it did."""

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from local.stack import clients
from local.stack.clients import own_agent, relationships
from local.stack.console import plain_console, say, say_json, say_table
from local.stack.endpoints import Endpoints, state_machine_arn
from local.stack.issuer import issue, signing_key
from saga_temporal import MEMO_KEY

_POLL_SECONDS = 0.05
_FENCE_CHARACTERS = 12  # of 64; enough to see that both systems have the same
_NOTHING = ["nothing"]
# The events of an execution's history that are printed: a state is entered, or what it does fails.
_ENTERED, _FAILED = "StateEntered", ("TaskFailed", "TaskTimedOut", "LambdaFunctionFailed", "LambdaFunctionTimedOut")


@dataclass(frozen=True)
class Held:
    """What the two systems hold of a schedule.

    Attributes:
        relationships: in SpiceDB, each as `relation@subject`.
        exists: whether Temporal has the schedule.
        registration: the one in the schedule's memo; empty for none.
    """

    relationships: list[str]
    exists: bool
    registration: str


class Steps:
    """The steps of one show, and whether all of them were good so far."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._spicedb = clients.spicedb(endpoints)
        self._console = plain_console()
        self.good = True

    def title(self, text: str) -> None:
        """Print the title of the steps that follow."""
        self._console.rule(text, style="bold", align="left")

    def end(self) -> None:
        """Print whether every step was good."""
        self._console.rule()
        if self.good:
            self._console.print("Every step did what it should.", style="bold green")
        else:
            self._console.print("A step went wrong.", style="bold red")

    def expect(self, what: str, found: Iterable[str], expected: Iterable[str]) -> None:
        """Print whether `what` is true: both must hold the same texts, in any order. If not, print the differences."""
        missing, unexpected = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
        if missing or unexpected:
            differences = [f"expected: {line}" for line in missing.elements()]
            self.fail(what, [*differences, *(f"found:    {line}" for line in unexpected.elements())])
        else:
            say(self._console, f"✔ {what}", style="green")

    def fail(self, what: str, reasons: Iterable[str]) -> None:
        """Print that `what` is not true, and why."""
        self.good = False
        say(self._console, f"✘ not so: {what}", style="red")
        for reason in reasons:
            say(self._console, reason, indent=7, hanging=10, style="red")

    def own_agent(self, agent_id: str, user_id: str) -> None:
        """Make the user the owner of the agent."""
        own_agent(self._spicedb, agent_id, user_id)
        text = f"{user_id} owns agent {agent_id} and may therefore give it schedules."
        self._console.print(f"\n{text}", style="dim")

    def run(
        self, machine: str, request: Mapping[str, Any], changes: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Start an execution and print its states as it enters them. Returns its description.

        `changes` are members of the schedule that differ from the request before. With them, the rest is not printed.
        """
        if changes:
            request = {**request, "schedule": {**request["schedule"], **changes}}
        say(self._console, f"start {machine} with {'the same, except' if changes else ''}".rstrip(), style="dim")
        say_json(self._console, changes or request, style="dim")
        client = clients.stepfunctions(self._endpoints)
        arn = client.start_execution(
            stateMachineArn=state_machine_arn(machine), name=str(uuid.uuid4()), input=json.dumps(request)
        )["executionArn"]
        printed = 0
        while True:
            # The description comes first: when its status is final, the history that is read next is complete.
            description = client.describe_execution(executionArn=arn)
            events = client.get_execution_history(executionArn=arn, maxResults=1000)["events"]
            for event in events[printed:]:
                self._print_event(event)
            printed = len(events)
            if description["status"] != "RUNNING":
                break
            time.sleep(_POLL_SECONDS)
        if description["status"] == "SUCCEEDED":
            output = json.loads(description["output"])
            say(self._console, "SUCCEEDED", style="bold")
            say_json(self._console, {key: value for key, value in output.items() if key != "schedule"})
        else:
            text = f"{description['status']} {description.get('error')}: {_message(description.get('cause', ''))}"
            say(self._console, text, hanging=3, style="bold")
        return {**description}

    def _print_event(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        if kind.endswith(_ENTERED):
            state = event["stateEnteredEventDetails"]["name"]
            say(self._console, f"{event['timestamp']:%H:%M:%S.%f}"[:-3] + f"  {state}", style="cyan")
        elif kind in _FAILED:
            details: Mapping[str, Any] = next((v for k, v in event.items() if k.endswith("EventDetails")), {})
            reason = f"{details.get('error')}: {_message(details.get('cause', ''))}"
            say(self._console, reason, indent=17, style="yellow")

    def http(
        self, method: str, path: str, caller: str, body: Mapping[str, Any] | None = None, only: Iterable[str] = ()
    ) -> str:
        """Send a request to the HTTP API as a user, and print it and the response. Returns the status.

        `only` names the members of the response that are printed; without it, all are.
        """
        say(self._console, f"{method} {path} as {caller}", style="dim")
        if body:
            say_json(self._console, body, style="dim")
        headers = {
            "Authorization": f"Bearer {issue(signing_key(), subject=caller)}",
            "Content-Type": "application/json",
        }
        data = json.dumps(body).encode() if body else None
        # The URL is the stack's own, so its scheme is always http.
        request = urllib.request.Request(self._endpoints.api + path, data, headers, method=method)  # noqa: S310 - above
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - above
                status, text = response.status, response.read().decode()
        except urllib.error.HTTPError as response:
            with response:
                status, text = response.code, response.read().decode()
        content = _parsed(text)
        if isinstance(content, dict) and (chosen := {name: content[name] for name in only if name in content}):
            say(self._console, f"{status} with, among others", style="bold")
            say_json(self._console, chosen)
        else:
            say(self._console, str(status), style="bold")
            say_json(self._console, content)
        return str(status)

    def held(self, schedule_id: str) -> Held:
        """Print what both systems hold of a schedule, side by side, and return it."""
        found = list(relationships(self._spicedb, schedule_id))
        schedule, registration = asyncio.run(self._described(schedule_id))
        columns = {"SpiceDB: relationships": [_row(text) for text in found], "Temporal: schedule": schedule}
        say(self._console, f"{schedule_id} in both systems", style="bold")
        say_table(self._console, [(heading, lines or _NOTHING) for heading, lines in columns.items()])
        held = [text.partition("#")[2].partition("[")[0] for text in found]
        return Held(held, bool(schedule), registration)

    async def _described(self, schedule_id: str) -> tuple[list[str], str]:
        """The lines of the table for a schedule in Temporal, and its registration; nothing if it does not exist."""
        found = await clients.described(await clients.temporal(self._endpoints), schedule_id)
        if found is None:
            return [], ""
        made_by = str((await found.memo()).get(MEMO_KEY, {}).get("registration", ""))
        following = [f"{time:%a %d %b %H:%M}" for time in found.info.next_action_times[:3]]
        state = "paused" if found.schedule.state.paused else "active"
        first, *others = following or ["none"]
        lines = [f"state       {state}", f"created by  {_fence(made_by)}", f"next (UTC)  {first}"]
        return lines + [f"            {time}" for time in others], made_by


def _row(relationship: str) -> str:
    """The line of the table for a relationship, `resource#relation@subject[expires time]`."""
    relation, _, subject = relationship.partition("#")[2].partition("@")
    subject, _, expiry = subject.removesuffix("]").partition("[")
    kind, _, name = subject.partition(":")
    if kind == "registration":
        subject = f"{kind}:{_fence(name)}"
    return f"{relation:<15}{subject}" + (f" ({expiry[:27]}Z)" if expiry else "")


def _fence(registration: str) -> str:
    return f"{registration[:_FENCE_CHARACTERS]}…"


def _parsed(text: str) -> Any:
    """The JSON value in a text, or the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _message(cause: str) -> str:
    """The readable part of a cause: the error's message where a function raised it, else the cause itself."""
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, TypeError, KeyError):
        return cause
