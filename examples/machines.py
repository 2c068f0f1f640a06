"""Creates and deletes schedules from another service, with boto3 alone. It is made to be copied.

    python examples/machines.py <ARN of an Express machine> < request.json
    python examples/machines.py --standard <ARN of a Standard machine> < request.json

The request is the machine's input. The output is printed. Exit codes: 0 it succeeded; 1 it is refused, and a repetition
cannot help; 75 it did not succeed in time, or a delete has left relationships: send the same request again later.

The role needs the policy that the stack exports (start-machines-policy-arn). With --standard it also needs
states:DescribeExecution, which shows it the inputs of everybody's executions. The policy does not have that.
"""

import argparse
import json
import re
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# What to do after an error of a machine. AGAIN: nothing is left behind; the same request may succeed in a moment.
# SETTLE: it may have taken effect; the same request finds out, and finishes it or gives its result again. STOP: a
# repetition cannot help. Any other error is one of Step Functions (States.Timeout, Lambda.Unknown, …): SETTLE.
AGAIN, SETTLE, STOP = "again", "settle", "stop"
WHAT_TO_DO = {
    "InvalidRequest": STOP,
    "AgentUpdateDenied": STOP,
    "ScheduleAlreadyExists": STOP,
    "IdempotencyKeyReused": STOP,
    "ScheduleRejected": STOP,
    "ScheduleNotFound": STOP,
    "ConfigurationError": STOP,
    "CreateInProgress": AGAIN,
    "NameReserved": AGAIN,
    "AuthorizationUnavailable": AGAIN,
    "TemporalUnavailable": AGAIN,
    "CompensationFailed": SETTLE,
    "OutcomeUnknown": SETTLE,
}
# Of StartExecution and StartSyncExecution. No execution was started.
THROTTLED = {
    "ThrottlingException",
    "ExecutionLimitExceeded",
    "ServiceQuotaExceededException",
    "TooManyRequestsException",
}

SECONDS = 10  # from one repetition to the next, if the cause does not say otherwise
PATIENCE = 60
_REST = re.compile(r"in (\d+) seconds")


class ScheduleError(Exception):
    """A request did not succeed.

    Attributes:
        error: a key of WHAT_TO_DO, an error of Step Functions, or the code of an AWS error.
        advice: AGAIN, SETTLE or STOP.
    """

    def __init__(self, error: str, message: str, advice: str) -> None:
        super().__init__(f"{error}: {message}")
        self.error, self.advice = error, advice


def client(endpoint_url: str | None = None) -> Any:
    """A client of Step Functions. It waits as long as an Express execution may last, and repeats nothing by itself."""
    config = Config(
        connect_timeout=3,
        read_timeout=310,
        retries={"total_max_attempts": 1},
        inject_host_prefix=endpoint_url is None,  # an endpoint of one's own has no second name, sync-…
    )
    return boto3.client("stepfunctions", endpoint_url=endpoint_url, config=config)


def request(
    states: Any,
    machine_arn: str,
    asked: dict[str, Any],
    *,
    standard: bool = False,
    patience: float = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Run a machine, and repeat what may be repeated for up to `patience` seconds. Returns the machine's output.

    A create without an idempotency key gets one, so that a repetition never creates a second schedule. To repeat it
    in another process, give it a key that the process can make again.

    Raises:
        ScheduleError: it did not succeed; `advice` says whether the same request may be sent again later.
    """
    if "schedule" in asked:
        asked = {"idempotency_key": str(uuid.uuid4()), **asked}
    give_up = time.monotonic() + patience
    while True:
        try:
            return (run_standard if standard else run_express)(states, machine_arn, asked)
        except ScheduleError as error:
            wait = rest(str(error)) if error.error == "CreateInProgress" else SECONDS
            if error.advice == STOP or time.monotonic() + wait > give_up:
                raise
            sleep(wait)


def run_express(states: Any, machine_arn: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Run an Express machine once. Raises ScheduleError."""
    ended = call(states.start_sync_execution, stateMachineArn=machine_arn, name=name(), input=json.dumps(asked))
    return output(ended)


def run_standard(states: Any, machine_arn: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Run a Standard machine once, and ask for its end. Raises ScheduleError."""
    started = call(states.start_execution, stateMachineArn=machine_arn, name=name(), input=json.dumps(asked))
    while True:
        found = call(states.describe_execution, executionArn=started["executionArn"])
        if found["status"] != "RUNNING":
            return output(found)
        time.sleep(1)


def name() -> str:
    """A name for an execution. CloudTrail and the logs show it."""
    return f"example-{uuid.uuid4()}"


def call(method: Callable[..., dict[str, Any]], **arguments: str) -> dict[str, Any]:
    """Call Step Functions. Raises ScheduleError if it does not answer, or answers with an error."""
    try:
        return method(**arguments)
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        advice = AGAIN if code in THROTTLED else SETTLE if status >= 500 else STOP  # STOP: for example AccessDenied
        raise ScheduleError(code, error.response["Error"]["Message"], advice) from error
    except BotoCoreError as error:  # the connection was not made, or was lost: it may have been started
        raise ScheduleError(type(error).__name__, "Step Functions did not answer", SETTLE) from error


def output(ended: dict[str, Any]) -> dict[str, Any]:
    """The output of an execution that is over. Raises ScheduleError if it did not succeed."""
    if ended["status"] == "SUCCEEDED":
        result: dict[str, Any] = json.loads(ended["output"])
        return result
    error, cause = ended.get("error") or ended["status"], ended.get("cause") or ""
    unverified = cause.startswith("outcome unverified")
    raise ScheduleError(error, message(cause), SETTLE if unverified else WHAT_TO_DO.get(error, SETTLE))


def message(cause: str) -> str:
    """What a cause says. Of a function's error it is the JSON that Lambda makes of it."""
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, TypeError, KeyError):
        return cause


def rest(text: str) -> float:
    """The seconds after which the name may be free, as the message of CreateInProgress says."""
    found = _REST.search(text)
    return float(found[1]) if found else SECONDS


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Run a machine with the request on standard input.")
    parser.add_argument("machine", help="its ARN")
    parser.add_argument("--standard", action="store_true", help="it is a Standard machine")
    parser.add_argument("--endpoint-url", help="of Step Functions, if it is not AWS's")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds of repetitions; %(default)s")
    given = parser.parse_args()
    states, asked = client(given.endpoint_url), json.load(sys.stdin)
    try:
        result = request(states, given.machine, asked, standard=given.standard, patience=given.patience)
    except ScheduleError as error:
        print(error, file=sys.stderr)
        return 1 if error.advice == STOP else 75
    print(json.dumps(result, indent=2))
    return 75 if result.get("deregistered") is False else 0


if __name__ == "__main__":
    sys.exit(main())
