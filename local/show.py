"""The project's main job, shown to a person on the running stack: create, compensated create, delete."""

import asyncio
import json
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from temporalio.service import RPCError, RPCStatusCode

from local.endpoints import SPICEDB_TOKEN, Endpoints, own_agent, relationships, state_machine_arn
from saga_core import ids

OWNER = "alice"
AGENT = "weather-agent"
POLL_SECONDS = 0.05
# A state is entered and left by these events of an execution's history.
_ENTERED, _FAILED = "StateEntered", ("TaskFailed", "TaskTimedOut", "LambdaFunctionFailed", "LambdaFunctionTimedOut")


def show(endpoints: Endpoints, console: Console) -> bool:
    """Run the show. Answers whether every step did what it should."""
    own_agent(endpoints.spicedb_client(), AGENT, OWNER)
    console.print(f"\n[dim]{OWNER} owns agent {AGENT} and may therefore give it schedules.[/dim]")
    name = f"daily-report-{datetime.now(UTC):%H%M%S}"
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
    steps = _Steps(endpoints, console)

    console.rule("[bold]1  A schedule is created: SpiceDB first, Temporal second", align="left")
    created = steps.run("create-schedule", create)
    steps.expect("the execution succeeded", created["status"] == "SUCCEEDED")
    held = steps.relationships(schedule_id)
    steps.expect("SpiceDB has owner, parent_agent, fence and lease", len(held) == 4)
    steps.expect("Temporal has the schedule", steps.schedule(schedule_id))

    console.rule("[bold]2  Temporal rejects a create: it is compensated", align="left")
    bad_name = f"{name}-bad"
    bad = {**create, "schedule": {**schedule, "name": bad_name, "cron_expression": "every other day"}}
    failed = steps.run("create-schedule", bad)
    steps.expect("the execution failed with Temporal's rejection", failed.get("error") == "ScheduleRejected")
    held = steps.relationships(ids.schedule_id(AGENT, bad_name))
    steps.expect("SpiceDB has nothing of it", not held)
    steps.expect("Temporal has nothing of it", not steps.schedule(ids.schedule_id(AGENT, bad_name)))

    console.rule("[bold]3  The schedule is deleted: Temporal first, SpiceDB second", align="left")
    deleted = steps.run("delete-schedule", {"agent_id": AGENT, "schedule_name": name})
    steps.expect("the execution succeeded", deleted["status"] == "SUCCEEDED")
    steps.expect("SpiceDB has nothing of it", not steps.relationships(schedule_id))
    steps.expect("Temporal has nothing of it", not steps.schedule(schedule_id))

    console.rule(align="left")
    console.print("[bold green]Every step did what it should." if steps.good else "[bold red]A step went wrong.")
    return steps.good


class _Steps:
    """The steps of one show, and whether all of them were good so far."""

    def __init__(self, endpoints: Endpoints, console: Console) -> None:
        self._endpoints = endpoints
        self._console = console
        self.good = True

    def expect(self, what: str, holds: bool) -> None:
        self.good &= holds
        self._console.print(f"   [green]✔[/green] {what}" if holds else f"   [red]✘ not so: {what}[/red]")

    def run(self, machine: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Start an execution and print its states as they come. Answers its description."""
        client = self._endpoints.stepfunctions()
        self._console.print(f"   start {machine} with {json.dumps(request)}", style="dim", soft_wrap=True)
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
            text = {key: value for key, value in output.items() if key != "schedule"}
            self._console.print(f"   [bold]SUCCEEDED[/bold] {json.dumps(text)}", soft_wrap=True)
        else:
            reason = _message(description.get("cause", ""))
            self._console.print(f"   [bold]{description['status']}[/bold] {description.get('error')}: {reason}")
        return {**description}

    def _print(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        if kind.endswith(_ENTERED):
            state = event["stateEnteredEventDetails"]["name"]
            self._console.print(f"   [cyan]{event['timestamp']:%H:%M:%S.%f}[/cyan]  {state}")
        elif kind in _FAILED:
            details: Mapping[str, Any] = next((v for k, v in event.items() if k.endswith("EventDetails")), {})
            reason = f"{details.get('error')}: {_message(details.get('cause', ''))}"
            self._console.print(f"                    [yellow]{reason}[/yellow]")

    def relationships(self, schedule_id: str) -> list[str]:
        """Print what SpiceDB has on the schedule, and answer it."""
        held = list(relationships(self._endpoints.spicedb_client(), schedule_id))
        self._console.print("   in SpiceDB:")
        for line in held or ["nothing"]:
            self._console.print(f"      {line}", soft_wrap=True, markup=False)
        return held

    def schedule(self, schedule_id: str) -> bool:
        """Print the schedule as Temporal has it, and answer whether it does."""
        line = asyncio.run(self._describe(schedule_id))
        self._console.print("   in Temporal:")
        self._console.print(f"      {line or 'nothing'}", soft_wrap=True, markup=False)
        return line is not None

    async def _describe(self, schedule_id: str) -> str | None:
        client = await self._endpoints.temporal_client()
        try:
            found = await client.get_schedule_handle(schedule_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        following = [f"{time:%a %H:%M}" for time in found.info.next_action_times[:3]]
        state = "paused" if found.schedule.state.paused else "active"
        return f"{found.id}: {state}, next runs (UTC) {', '.join(following)}"


def _message(cause: str) -> str:
    """The readable part of a cause, which is the JSON of an error where a function raised it."""
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, TypeError, KeyError):
        return cause


def print_manual(endpoints: Endpoints, console: Console) -> None:
    """Print how to do by hand what the show did."""
    console.print(
        f"""
[bold]The stack is up.[/bold] Ctrl-C ends it. By hand, in a second terminal:

  make agent OWNER=bob AGENT=my-agent

  .venv/bin/python - <<'END'
  import boto3, json
  from botocore.config import Config
  sfn = boto3.client("stepfunctions", endpoint_url="{endpoints.aws}", region_name="us-east-1",
                     aws_access_key_id="local", aws_secret_access_key="local",
                     config=Config(inject_host_prefix=False))
  print(sfn.start_sync_execution(
      stateMachineArn="{state_machine_arn("create-schedule-express")}",
      input=json.dumps({{"agent_id": "my-agent", "principal": {{"user_id": "bob"}}, "schedule": {{
          "name": "hourly", "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}}}})))
  END

  Step Functions and Lambda   {endpoints.aws} (boto3 endpoint_url)
  SpiceDB                     {endpoints.spicedb}, no TLS, token "{SPICEDB_TOKEN}"
  Temporal                    {endpoints.temporal}, namespace default
  Temporal's web interface    http://127.0.0.1:{endpoints.temporal_ui_port}
""",
        markup=True,
        soft_wrap=True,
    )
