"""The addresses of the laptop stack, and the environment variables that set other ports.

| part                     | address               | port variable    |
|--------------------------|-----------------------|------------------|
| HTTP API                 | http://127.0.0.1:3000 | API_PORT         |
| Step Functions, Lambda   | http://127.0.0.1:8083 | AWS_LOCAL_PORT   |
| SpiceDB (token `local`)  | 127.0.0.1:50051       | SPICEDB_PORT     |
| Temporal                 | 127.0.0.1:7233        | TEMPORAL_PORT    |
| Temporal's web interface | http://127.0.0.1:8233 | TEMPORAL_UI_PORT |
"""

import os
from dataclasses import dataclass

from local.stack.process import HOST, StartError

ACCOUNT = "123456789012"
REGION = "us-east-1"
NAMESPACE = "default"
SPICEDB_TOKEN = "local"  # noqa: S105 - not a secret: the laptop stack is for one machine


@dataclass(frozen=True)
class Endpoints:
    """The ports of one running stack, all on 127.0.0.1."""

    api_port: int = 3000
    aws_port: int = 8083
    spicedb_port: int = 50051
    temporal_port: int = 7233
    temporal_ui_port: int = 8233

    @classmethod
    def from_environment(cls) -> "Endpoints":
        """The ports in the environment, or the defaults.

        Raises:
            StartError: a variable is not a port number.
        """
        return cls(
            api_port=_port("API_PORT", cls.api_port),
            aws_port=_port("AWS_LOCAL_PORT", cls.aws_port),
            spicedb_port=_port("SPICEDB_PORT", cls.spicedb_port),
            temporal_port=_port("TEMPORAL_PORT", cls.temporal_port),
            temporal_ui_port=_port("TEMPORAL_UI_PORT", cls.temporal_ui_port),
        )

    @property
    def api(self) -> str:
        """URL of the HTTP API."""
        return f"http://{HOST}:{self.api_port}"

    @property
    def aws(self) -> str:
        """boto3's ``endpoint_url``."""
        return f"http://{HOST}:{self.aws_port}"

    @property
    def spicedb(self) -> str:
        """``host:port`` of SpiceDB."""
        return f"{HOST}:{self.spicedb_port}"

    @property
    def temporal(self) -> str:
        """``host:port`` of Temporal."""
        return f"{HOST}:{self.temporal_port}"


def state_machine_arn(name: str) -> str:
    """The ARN of a state machine of the local stack."""
    return f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}"


def bypass_proxies() -> None:
    """Let this process, and those that it starts, connect to 127.0.0.1 without the environment's HTTP proxies.

    gRPC and boto3 use the proxies for every address that `no_proxy` does not name.
    """
    os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), HOST]))


def _port(variable: str, default: int) -> int:
    value = os.environ.get(variable) or str(default)
    if not value.isdecimal() or not 0 < int(value) < 65_536:
        raise StartError(f"{variable}={value} is not a port number (1 to 65535)")
    return int(value)
