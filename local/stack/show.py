"""The project's main job, shown to a person on the running stack: create, compensated create, delete; and over HTTP.

`python -m local.stack.show` shows it once, for local.stack or in a second terminal. Exit code 0 only if every step did
what it should.
"""

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from temporalio.service import RPCError, RPCStatusCode

from local.stack import clients
from local.stack.clients import own_agent, relationships
from local.stack.endpoints import NAMESPACE, REGION, SPICEDB_TOKEN, Endpoints, bypass_proxies, state_machine_arn
from local.stack.issuer import issue, signing_key
from local.stack.process import HOST, StartError
from saga_core import ids

OWNER = "alice"
AGENT = "weather-agent"
POLL_SECONDS = 0.05
# A state is entered and left by these events of an execution's history.
_ENTERED, _FAILED = "StateEntered", ("TaskFailed", "TaskTimedOut", "LambdaFunctionFailed", "LambdaFunctionTimedOut")
# What clients raise when a part of the stack does not answer, or not as it should. Temporal's has a bare RuntimeError
# for a connection that fails.
_NO_ANSWER = (grpc.RpcError, RPCError, RuntimeError, BotoCoreError, ClientError, OSError)


def plain_console() -> Console:
    """A console that prints text as it is: brackets are no markup, and long lines are left to the terminal."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def show(endpoints: Endpoints) -> bool:
    """Run the show. Answers whether every step did what it should; what did not, it prints."""
    steps = _Steps(endpoints)
    try:
        _play(steps)
    except _NO_ANSWER as error:
        steps.fail("the show can go on", [_one_line(error)])
    steps.end()
    return steps.good


def _play(steps: "_Steps") -> None:
    steps.own_agent(AGENT, OWNER)
    name = f"daily-report-{uuid.uuid4().hex[:6]}"  # a new one every time: Temporal may keep its data between runs
    schedule_id = ids.schedule_id(AGENT, name)
    schedule = {
        "name": name,
        "workflow_name": "DailyReport",
        "task_queue": "weather",
        "workflow_params": {"city": "Lisbon"},
        "cron_expression": "0 9 * * MON-FRI",
        "timezone": "Europe/Lisbon",
    }
    create = {"agent_id": AGENT, "principal": {"user_id": OWNER}, "schedule": schedule}

    steps.title("1  A schedule is created: SpiceDB first, Temporal second")
    created = steps.run("create-schedule", create)
    steps.expect("the execution succeeded", [_ending(created)], ["SUCCEEDED"])
    fence = ids.registration(created["executionArn"])
    steps.expect(
        "SpiceDB has owner, parent_agent, fence and lease",
        steps.relationships(schedule_id),
        [
            f"owner@user:{OWNER}",
            f"parent_agent@agent:{AGENT}",
            f"registered_by@registration:{fence}",
            f"creating@registration:{fence}",
        ],
    )
    steps.expect("Temporal has the schedule", steps.schedules(schedule_id), [schedule_id])

    steps.title("2  Temporal rejects a create: it is compensated")
    bad_name = f"{name}-bad"
    bad_id = ids.schedule_id(AGENT, bad_name)
    bad = {**create, "schedule": {**schedule, "name": bad_name, "cron_expression": "every other day"}}
    failed = steps.run("create-schedule", bad)
    steps.expect("the execution failed with Temporal's rejection", [_ending(failed)], ["FAILED ScheduleRejected"])
    steps.expect("SpiceDB has nothing of it", steps.relationships(bad_id), [])
    steps.expect("Temporal has nothing of it", steps.schedules(bad_id), [])

    steps.title("3  The schedule is deleted: Temporal first, SpiceDB second")
    deleted = steps.run("delete-schedule", {"agent_id": AGENT, "schedule_name": name})
    steps.expect("the execution succeeded", [_ending(deleted)], ["SUCCEEDED"])
    steps.expect("SpiceDB has nothing of it", steps.relationships(schedule_id), [])
    steps.expect("Temporal has nothing of it", steps.schedules(schedule_id), [])

    steps.title("4  The same over HTTP, with a token that says who calls")
    path = f"/agents/{AGENT}/schedules"
    steps.expect("it is created", [steps.http("POST", path, OWNER, schedule)], ["201"])
    steps.expect("its owner sees it", [steps.http("GET", f"{path}/{name}", OWNER)], ["200"])
    steps.expect("to anybody else it is not there", [steps.http("GET", f"{path}/{name}", "mallory")], ["404"])
    steps.expect("it is deleted", [steps.http("DELETE", f"{path}/{name}", OWNER)], ["200"])
    steps.expect("SpiceDB has nothing of it", steps.relationships(schedule_id), [])
    steps.expect("Temporal has nothing of it", steps.schedules(schedule_id), [])


class _Steps:
    """The steps of one show, and whether all of them were good so far."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._spicedb = clients.spicedb(endpoints)
        self._console = plain_console()
        self.good = True

    def title(self, text: str) -> None:
        self._console.rule(text, style="bold", align="left")

    def end(self) -> None:
        self._console.rule()
        if self.good:
            self._console.print("Every step did what it should.", style="bold green")
        else:
            self._console.print("A step went wrong.", style="bold red")

    def expect(self, what: str, found: Iterable[str], expected: Iterable[str]) -> None:
        """Print whether `what` holds, which it does if both are the same in any order; if not, what differs."""
        missing, unexpected = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
        if missing or unexpected:
            differences = [f"expected: {line}" for line in missing.elements()]
            self.fail(what, [*differences, *(f"found:    {line}" for line in unexpected.elements())])
        else:
            self._console.print(f"   ✔ {what}", style="green")

    def fail(self, what: str, reasons: Iterable[str]) -> None:
        """Print that `what` does not hold, and why."""
        self.good = False
        self._console.print(f"   ✘ not so: {what}", style="red")
        for reason in reasons:
            self._console.print(f"       {reason}", style="red")

    def own_agent(self, agent_id: str, user_id: str) -> None:
        own_agent(self._spicedb, agent_id, user_id)
        self._console.print(f"\n{user_id} owns agent {agent_id} and may therefore give it schedules.", style="dim")

    def run(self, machine: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Start an execution and print its states as they come. Answers its description."""
        client = clients.stepfunctions(self._endpoints)
        self._console.print(f"   start {machine} with {json.dumps(request)}", style="dim")
        arn = client.start_execution(
            stateMachineArn=state_machine_arn(machine), name=str(uuid.uuid4()), input=json.dumps(request)
        )["executionArn"]
        printed = 0
        while True:
            # The description comes first: once it says that all is over, the history read after it is complete.
            description = client.describe_execution(executionArn=arn)
            events = client.get_execution_history(executionArn=arn, maxResults=1000)["events"]
            for event in events[printed:]:
                self._print(event)
            printed = len(events)
            if description["status"] != "RUNNING":
                break
            time.sleep(POLL_SECONDS)
        if description["status"] == "SUCCEEDED":
            output = json.loads(description["output"])
            text = json.dumps({key: value for key, value in output.items() if key != "schedule"})
        else:
            text = f"{description.get('error')}: {_message(description.get('cause', ''))}"
        self._console.print(f"   {description['status']} {text}", style="bold")
        return {**description}

    def _print(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        if kind.endswith(_ENTERED):
            state = event["stateEnteredEventDetails"]["name"]
            self._console.print(f"   {event['timestamp']:%H:%M:%S.%f}"[:-3], f" {state}", style="cyan")
        elif kind in _FAILED:
            details: Mapping[str, Any] = next((v for k, v in event.items() if k.endswith("EventDetails")), {})
            reason = f"{details.get('error')}: {_message(details.get('cause', ''))}"
            self._console.print(f"                 {reason}", style="yellow")

    def http(self, method: str, path: str, caller: str, body: Mapping[str, Any] | None = None) -> str:
        """Send a request to the HTTP API as a user, and print it and its answer. Answers the status."""
        self._console.print(f"   {method} {path} as {caller} {json.dumps(body) if body else ''}", style="dim")
        headers = {
            "Authorization": f"Bearer {issue(signing_key(), subject=caller)}",
            "Content-Type": "application/json",
        }
        data = json.dumps(body).encode() if body else None
        # No other address than the stack's own is ever asked, so no scheme but http comes here.
        request = urllib.request.Request(self._endpoints.api + path, data, headers, method=method)  # noqa: S310 - above
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - above
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            with answer:
                status, text = answer.code, answer.read().decode()
        self._console.print(f"   {status} {text}", style="bold")
        return str(status)

    def relationships(self, schedule_id: str) -> list[str]:
        """Print what SpiceDB has on the schedule. Answers it, as `relation@subject`."""
        held = list(relationships(self._spicedb, schedule_id))
        self._console.print("   in SpiceDB:")
        for line in held or ["nothing"]:
            self._console.print(f"      {line}")
        return [line.partition("#")[2].partition("[")[0] for line in held]

    def schedules(self, schedule_id: str) -> list[str]:
        """Print the schedule as Temporal has it. Answers its id, if it is there."""
        line = asyncio.run(self._describe(schedule_id))
        self._console.print("   in Temporal:")
        self._console.print(f"      {line or 'nothing'}")
        return [schedule_id] if line else []

    async def _describe(self, schedule_id: str) -> str | None:
        client = await clients.temporal(self._endpoints)
        try:
            found = await client.get_schedule_handle(schedule_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        following = [f"{time:%a %H:%M}" for time in found.info.next_action_times[:3]]
        state = "paused" if found.schedule.state.paused else "active"
        return f"{found.id}: {state}, next runs (UTC) {', '.join(following)}"


def _ending(description: Mapping[str, Any]) -> str:
    """How an execution ended: its status, and the name of its error if it has one."""
    return " ".join([description["status"], *([description["error"]] if "error" in description else [])])


def _message(cause: str) -> str:
    """The readable part of a cause, which is the JSON of an error where a function raised it."""
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, TypeError, KeyError):
        return cause


def _one_line(error: Exception) -> str:
    text = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.RpcError) else str(error)
    return " ".join(text.split())


def print_manual(endpoints: Endpoints, logs: Path) -> None:
    """Print how to do by hand what the show did. What is meant to be pasted is not indented."""
    moved = f" SPICEDB_PORT={endpoints.spicedb_port}" if endpoints.spicedb_port != Endpoints.spicedb_port else ""
    console = plain_console()
    console.print("\nThe stack is up. Ctrl-C ends it.", style="bold", end=" ")
    console.print(
        f"""By hand, in a second terminal, in this folder:

make agent OWNER=bob AGENT=my-agent{moved}
TOKEN=$(make -s token SUBJECT=bob)
API={endpoints.api}/agents/my-agent/schedules
curl -sw '\\n' $API -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -d '{{
  "name": "daily", "workflow_name": "Report", "task_queue": "reports", "cron_expression": "0 9 * * *"}}'
curl -sw '\\n' $API -H "Authorization: Bearer $TOKEN"
curl -sw '\\n' $API/daily/pause -X POST -H "Authorization: Bearer $TOKEN"
curl -sw '\\n' $API/daily -X DELETE -H "Authorization: Bearer $TOKEN"

# or start a state machine from Python

.venv/bin/python - <<'END'
import boto3, json
from botocore.config import Config
sfn = boto3.client("stepfunctions", endpoint_url="{endpoints.aws}", region_name="{REGION}",
                   aws_access_key_id="local", aws_secret_access_key="local",
                   config=Config(inject_host_prefix=False))
ended = sfn.start_sync_execution(
    stateMachineArn="{state_machine_arn("create-schedule-express")}",
    input=json.dumps({{"agent_id": "my-agent", "principal": {{"user_id": "bob"}}, "schedule": {{
        "name": "hourly", "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}}}}))
print(ended["status"], ended.get("output") or ended.get("cause"))
END

  HTTP API                    {endpoints.api} (/docs, /openapi.json)
  Step Functions and Lambda   {endpoints.aws} (boto3 endpoint_url)
  SpiceDB                     {endpoints.spicedb}, no TLS, token "{SPICEDB_TOKEN}"
  Temporal                    {endpoints.temporal}, namespace {NAMESPACE}
  Temporal's web interface    http://{HOST}:{endpoints.temporal_ui_port}
  Logs                        {logs}
"""
    )


def main() -> int:
    """Show it on the stack whose ports the environment names. Answers the exit code."""
    bypass_proxies()
    try:
        return 0 if show(Endpoints.from_environment()) else 1
    except StartError as error:
        print(f"show: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Not sys.exit: threads of Temporal's client may be inside Python when the interpreter ends, which then aborts.
    os._exit(code)
