"""The project's main job, shown to a person on the running stack: a create, a compensated create, a delete, and HTTP.

`python -m local.stack.show` shows it once, for local.stack or in a second terminal. Exit code 0 only if every step did
what it should.
"""

import os
import sys
import uuid
from collections.abc import Mapping
from typing import Any

import grpc
from botocore.exceptions import BotoCoreError, ClientError
from temporalio.service import RPCError

from local.stack.endpoints import Endpoints, bypass_proxies
from local.stack.process import StartError
from local.stack.steps import Steps
from saga_core import ids

OWNER = "alice"
AGENT = "weather-agent"
# What clients raise when a part of the stack does not respond, or responds with an error. For a failed connection,
# Temporal's client raises a bare RuntimeError.
_NO_RESPONSE = (grpc.RpcError, RPCError, RuntimeError, BotoCoreError, ClientError, OSError)


def show(endpoints: Endpoints) -> bool:
    """Run the show. Returns whether every step did what it should; if not, what went wrong is printed."""
    steps = Steps(endpoints)
    try:
        _play(steps)
    except _NO_RESPONSE as error:
        steps.fail("the show can go on", [_one_line(error)])
    steps.end()
    return steps.good


def _play(steps: Steps) -> None:
    steps.own_agent(AGENT, OWNER)
    name = f"daily-report-{uuid.uuid4().hex[:6]}"  # a new name every time: Temporal may keep its data between runs
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
    held = steps.held(schedule_id)
    steps.expect(
        "SpiceDB has owner, parent_agent and the fence in the schedule's memo, and no lease any more",
        held.relationships,
        [
            f"owner@user:{OWNER}",
            f"parent_agent@agent:{AGENT}",
            f"registered_by@registration:{held.registration}",
        ],
    )
    steps.expect("Temporal has the schedule", [schedule_id] * held.exists, [schedule_id])

    steps.title("2  Temporal rejects a create: it is compensated")
    bad_name = f"{name}-bad"
    failed = steps.run("create-schedule", create, {"name": bad_name, "cron_expression": "every other day"})
    steps.expect("the execution failed with Temporal's rejection", [_ending(failed)], ["FAILED ScheduleRejected"])
    _expect_nothing(steps, ids.schedule_id(AGENT, bad_name))

    steps.title("3  The schedule is deleted: Temporal first, SpiceDB second")
    deleted = steps.run("delete-schedule", {"agent_id": AGENT, "schedule_name": name})
    steps.expect("the execution succeeded", [_ending(deleted)], ["SUCCEEDED"])
    _expect_nothing(steps, schedule_id)

    steps.title("4  The same over HTTP: the token says who the caller is")
    path = f"/agents/{AGENT}/schedules"
    brief = ("schedule_id", "state", "next_action_times")
    steps.expect("it is created", [steps.http("POST", path, OWNER, schedule, brief)], ["201"])
    steps.expect("its owner sees it", [steps.http("GET", f"{path}/{name}", OWNER, only=brief)], ["200"])
    steps.expect("nobody else sees it", [steps.http("GET", f"{path}/{name}", "mallory")], ["404"])
    steps.expect("it is deleted", [steps.http("DELETE", f"{path}/{name}", OWNER)], ["200"])
    _expect_nothing(steps, schedule_id)


def _expect_nothing(steps: Steps, schedule_id: str) -> None:
    held = steps.held(schedule_id)
    steps.expect("SpiceDB has nothing of it", held.relationships, [])
    steps.expect("Temporal has nothing of it", [schedule_id] * held.exists, [])


def _ending(description: Mapping[str, Any]) -> str:
    """How an execution ended: its status, and the name of its error if it has one."""
    return " ".join([description["status"], *([description["error"]] if "error" in description else [])])


def _one_line(error: Exception) -> str:
    text = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.RpcError) else str(error)
    return " ".join(text.split())


def main() -> int:
    """Run the show on the stack whose ports are in the environment. Returns the exit code."""
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
    # sys.exit would abort the process if a thread of Temporal's client runs Python code when the interpreter ends.
    os._exit(code)
