"""`python -m local.agent --owner alice --agent weather-agent`: makes a user the owner of an agent."""

import argparse
import sys

import grpc

from local.endpoints import Endpoints, own_agent
from local.process import StartError
from saga_core import ids


def main() -> None:
    """Parse the command line, write the relationship, say so."""
    parser = argparse.ArgumentParser(description="Make a user the owner of an agent on the running laptop stack.")
    parser.add_argument("--owner", required=True, help="user id, as in a request's principal.user_id")
    parser.add_argument("--agent", required=True, help="agent id")
    arguments = parser.parse_args()
    try:
        endpoints = Endpoints.from_environment()
        owner = ids.encode_subject_id(arguments.owner)
        own_agent(endpoints.spicedb_client(), ids.check_agent_id(arguments.agent), owner)
    except (StartError, ValueError) as error:
        sys.exit(f"agent: {error}")
    except grpc.RpcError as error:
        sys.exit(f"agent: SpiceDB on {endpoints.spicedb}: {error.code().name}: {error.details()} (is `make run` up?)")
    print(f"user {arguments.owner} owns agent {arguments.agent}")


if __name__ == "__main__":
    main()
