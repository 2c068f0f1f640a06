"""Runs the machine reconcile-schedules through Step Functions, and follows it to its end."""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.stack.endpoints import REGION, Endpoints, state_machine_arn
from tools.doctor.text import plain

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

MACHINE = "reconcile-schedules"
_FIRST_POLL_SECONDS = 0.1
_LAST_POLL_SECONDS = 2.0
_SHARD_ENDED = {"MapIterationSucceeded", "MapIterationFailed", "MapIterationAborted"}


class Failed(Exception):
    """The run gives no report. The text is one line for the person at the terminal."""


@dataclass(frozen=True)
class Progress:
    """How far a run is. A repair goes through its shards twice.

    Attributes:
        shards: how many have begun or wait; 0 until that is known.
        steps: how many invocations of the function have ended.
    """

    shards: int = 0
    shards_ended: int = 0
    steps: int = 0


@dataclass
class Machine:
    """The machine at one endpoint of Step Functions.

    Attributes:
        hint: what to look at when Step Functions gives no useful response.
    """

    client: "SFNClient"
    arn: str
    hint: str

    @classmethod
    def on_the_laptop(cls, endpoint: str | None) -> "Machine":
        """The machine of the laptop stack: at ``endpoint``, or at the port that the environment names.

        Raises:
            StartError: a variable of the environment is not a port number.
        """
        url = endpoint or Endpoints.from_environment().aws
        client = boto3.client(
            "stepfunctions",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - the local server does not check signatures
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )
        return cls(client, state_machine_arn(MACHINE), "is `make run` up, with the same AWS_LOCAL_PORT?")

    @classmethod
    def deployed(cls, arn: str, endpoint: str | None) -> "Machine":
        """A deployed machine, with the credentials that boto3 finds.

        Raises:
            Failed: boto3 finds no usable configuration.
        """
        try:
            client = boto3.client(
                "stepfunctions",
                endpoint_url=endpoint,
                region_name=arn.split(":")[3],
                config=Config(retries={"mode": "standard", "total_max_attempts": 5}),
            )
        except BotoCoreError as error:
            raise Failed(f"AWS: {_line(error)}") from None
        return cls(client, arn, arn)

    def start(self, given: Mapping[str, Any]) -> str:
        """Start an execution with this input. Returns its ARN.

        Raises:
            Failed: Step Functions does not start it, or does not say so.
        """
        # The name makes a start that boto3 repeats the same start.
        started = self._asked(
            lambda: self.client.start_execution(
                stateMachineArn=self.arn, name=f"doctor-{uuid.uuid4()}", input=json.dumps(given)
            )
        )
        return str(started["executionArn"])

    def output(self, execution: str, note: Callable[[Progress], object]) -> str:
        """Wait for the end of an execution, and say meanwhile how far it is. Returns its output.

        Raises:
            Failed: it did not succeed, or Step Functions gives no response. The execution may go on then.
        """
        shards = _Shards(self.client, execution)
        pause = _FIRST_POLL_SECONDS
        try:
            while (described := self._asked(lambda: self.client.describe_execution(executionArn=execution)))[
                "status"
            ] == "RUNNING":
                note(shards.progress())
                time.sleep(pause)
                pause = min(pause * 1.5, _LAST_POLL_SECONDS)
        except Failed as failure:
            raise Failed(f"{failure} The execution may go on: {execution}") from None
        if described["status"] != "SUCCEEDED":
            said = [described["status"], described.get("error"), _message(described.get("cause"))]
            raise Failed(f"{execution}: {': '.join(plain(part) for part in said if part)}")
        return str(described["output"])

    def stop(self, execution: str) -> None:
        """Stop an execution.

        Raises:
            Failed: Step Functions does not, or does not say so.
        """
        self._asked(
            lambda: self.client.stop_execution(
                executionArn=execution, error="Interrupted", cause="the person who started it ended it"
            )
        )

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except ClientError as error:
            raise Failed(f"Step Functions refuses: {_line(error)} ({self.hint})") from None
        except BotoCoreError as error:
            raise Failed(f"Step Functions does not respond: {_line(error)} ({self.hint})") from None


@dataclass
class _Shards:
    """Counts the shards of an execution in its history, of which each look reads only what is new."""

    client: "SFNClient"
    execution: str
    _seen: int = 0  # the highest id of an event
    _progress: Progress = field(default_factory=Progress)
    _readable: bool = True

    def progress(self) -> Progress:
        """How far the execution is. Who may not read its history sees no shards."""
        if self._readable:
            try:
                self._look()
            except (ClientError, BotoCoreError):
                self._readable = False  # the report does not depend on it
        return self._progress

    def _look(self) -> None:
        """Count the new events. The newest come first on AWS; the laptop returns the whole history at once."""
        events: list[Any] = []
        token: dict[str, Any] = {}
        while True:
            page = self.client.get_execution_history(
                executionArn=self.execution, reverseOrder=True, maxResults=200, includeExecutionData=False, **token
            )
            new = [event for event in page["events"] if event["id"] > self._seen]
            events += new
            if len(new) < len(page["events"]) or not (following := page.get("nextToken")):
                break
            token = {"nextToken": following}
        before = self._progress
        lengths = (e["mapStateStartedEventDetails"]["length"] for e in events if e["type"] == "MapStateStarted")
        self._progress = Progress(
            shards=before.shards + sum(lengths),
            shards_ended=before.shards_ended + sum(event["type"] in _SHARD_ENDED for event in events),
            steps=before.steps + sum(event["type"] == "TaskSucceeded" for event in events),
        )
        self._seen = max([self._seen, *(event["id"] for event in events)])


def _message(cause: str | None) -> str | None:
    """The message in the cause of a function's error, also of one in a shard; the cause of another error as it is."""
    try:
        told = json.loads(cause or "")
        return str(told["errorMessage"]) if "errorMessage" in told else _message(told["Cause"])
    except (ValueError, TypeError, KeyError):
        return cause


def _line(error: Exception) -> str:
    """What an error says, on one line."""
    return plain(" ".join(str(error).split()))
