"""Makes a user the owner of an agent: `make agent`.

    python -m local.stack.agent --owner alice --agent weather-agent

An error is one line on stderr and exit code 1.
"""

import argparse
import sys
from collections.abc import Callable

import grpc

from local.stack import clients
from local.stack.clients import own_agent
from local.stack.endpoints import Endpoints, bypass_proxies
from local.stack.process import StartError, accepts_connections
from saga_core import ids


def main() -> None:
    """Parse the command line, write the relationship and print what was done."""
    parser = argparse.ArgumentParser(
        prog="python -m local.stack.agent", description="Make a user the owner of an agent on the running laptop stack."
    )
    # argparse does not require them: `make agent` passes an empty text for a variable that is not set.
    parser.add_argument("--owner", default="", help="user id, as in a request's principal.user_id")
    parser.add_argument("--agent", default="", help="agent id")
    arguments = parser.parse_args()
    if not arguments.owner or not arguments.agent:
        sys.exit("agent: both are required: make agent OWNER=<user id> AGENT=<agent id>")
    bypass_proxies()
    try:
        _own(arguments.agent, arguments.owner)
    except StartError as error:
        sys.exit(f"agent: {error}")
    print(f"user {arguments.owner} owns agent {arguments.agent}")


def _own(agent: str, owner: str) -> None:
    endpoints = Endpoints.from_environment()
    agent_id = _checked("AGENT", agent, ids.check_agent_id)
    user_id = _checked("OWNER", owner, ids.encode_subject_id)
    if not accepts_connections(endpoints.spicedb_port):
        raise StartError(
            f"SpiceDB does not respond on {endpoints.spicedb}; is `make run` up, with the same SPICEDB_PORT?"
        )
    try:
        own_agent(clients.spicedb(endpoints), agent_id, user_id)
    except grpc.RpcError as error:
        raise StartError(f"SpiceDB on {endpoints.spicedb}: {error.code().name}: {error.details()}") from error


def _checked(name: str, value: str, check: Callable[[str], str]) -> str:
    try:
        return check(value)
    except ValueError as error:
        raise StartError(f"{name} {value!r} {error}") from error


if __name__ == "__main__":
    main()
