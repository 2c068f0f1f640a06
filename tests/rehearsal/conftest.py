import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from local.stack import clients
from local.stack.clients import own_agent
from local.stack.endpoints import Endpoints
from local.stack.process import HOST
from tests.rehearsal.account import Account, prepared
from tests.rehearsal.emulator import ROOT, emulator
from tests.rehearsal.engines import SPICEDB_HOST, TEMPORAL_HOST, guarded_engines
from tests.rehearsal.issuer import publishing_issuer
from tests.support.certificates import Authority
from tests.support.ports import free_port

logger = logging.getLogger(__name__)


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account with the engines that it reaches, the secrets and the adapted build. Nothing is deployed yet."""
    logs = tmp_path_factory.mktemp("logs")
    build = tmp_path_factory.mktemp("aws") / "build"
    shutil.copytree(ROOT / ".aws-sam" / "build", build)
    authority = Authority("rehearsal")
    (trusted := logs / "authority.pem").write_text(authority.pem)
    endpoints = Endpoints(*(free_port() for _ in range(5)))
    with ExitStack() as running:
        logger.info("starting SpiceDB, Temporal, what stands before them, an issuer and the emulator …")
        engines = running.enter_context(guarded_engines(endpoints, authority, logs))
        issuer = running.enter_context(publishing_issuer(authority, logs))
        hosts = {
            SPICEDB_HOST: (endpoints.spicedb_port, f"{HOST}:{engines.spicedb_port}"),
            TEMPORAL_HOST: (endpoints.temporal_port, f"{HOST}:{engines.temporal_port}"),
        }
        emulated = running.enter_context(emulator(free_port(), hosts, trusted, logs))
        deployed = prepared(Account(emulated, engines, issuer, _absolute(build)), authority)
        own_agent(clients.spicedb(endpoints), deployed.agent, "alice")
        for line in deployed.left_out:
            logger.info("left out: %s", line)
        yield deployed


def _absolute(build: Path) -> Path:
    """Copy the definitions into the copied build, which finds them by a relative path."""
    template = build / "template.yaml"
    shutil.copytree(ROOT / "statemachine", build / "statemachine")
    template.write_text(template.read_text().replace("../../statemachine/", "statemachine/"))
    return build
