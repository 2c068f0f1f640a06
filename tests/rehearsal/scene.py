"""What the rehearsal does to the engines behind the functions' backs, and what it finds there."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import ScheduleHandle

from local.stack import clients
from saga_core import ids
from tests.rehearsal.account import Account
from tests.support import relationships
from tests.support.proxy import Fault

Meeting = Callable[[Account, str], dict[str, Any]]


def nobody(account: Account, name: str) -> dict[str, Any]:
    """The name is free. Returns the request to make, as each of these does."""
    return account.request(name)


def bad_id(account: Account, name: str) -> dict[str, Any]:
    """The request does not fit the model."""
    return {**account.request(name), "agent_id": "weather--agent"}


def stranger(account: Account, name: str) -> dict[str, Any]:
    """Bob, who has no right on the agent."""
    return {**account.request(name), "principal": {"user_id": "bob"}}


def taken(account: Account, name: str) -> dict[str, Any]:
    """Another create has the name."""
    assert account.run("CreateScheduleExpress", account.request(name)).status == "SUCCEEDED"
    return account.request(name, workflow_name="Other")


def used_key(account: Account, name: str) -> dict[str, Any]:
    """Another request has used the idempotency key."""
    assert account.run("CreateScheduleExpress", _keyed(account, name)).status == "SUCCEEDED"
    return {**_keyed(account, name), "schedule": account.request(name, workflow_name="Other")["schedule"]}


def leased(account: Account, name: str) -> dict[str, Any]:
    """A create of another registration is in flight."""
    schedule = f"agent_schedule:{ids.schedule_id(account.agent, name)}"
    fence = f"registration:{'0' * 64}"
    engine = clients.spicedb(account.engines.direct)
    relationships.touch(engine, f"{schedule}#registered_by@{fence}", f"{schedule}#parent_agent@agent:{account.agent}")
    ends_at = datetime.now(UTC) + timedelta(minutes=10)
    relationships.touch(engine, f"{schedule}#creating@{fence}", expires_at=ends_at)
    return account.request(name)


def bad_cron(account: Account, name: str) -> dict[str, Any]:
    """Temporal understands the schedule's cron expression no more than we do."""
    request = account.request(name, cron_expression="nonsense")
    del request["schedule"]["interval_seconds"]
    return request


def deleted_meanwhile(account: Account, name: str) -> dict[str, Any]:
    """A schedule that nobody owns is deleted while a repeated create restores its registration."""
    request = _unowned(account, name)
    account.engines.temporal.on_call("DescribeSchedule", 3, lambda: delete_by_hand(account, name))
    return request


def lost_from_sight(account: Account, name: str) -> dict[str, Any]:
    """Temporal is down when a repeated create looks at the schedule whose registration it has restored."""
    request = _unowned(account, name)
    account.engines.temporal.inject("DescribeSchedule", Fault.REFUSED, times=None, at=3)
    return request


def no_spicedb(account: Account, name: str) -> dict[str, Any]:
    """SpiceDB is down."""
    account.engines.spicedb.inject("WriteRelationships", Fault.REFUSED, times=None)
    return account.request(name)


def no_temporal(account: Account, name: str) -> dict[str, Any]:
    """Temporal is down."""
    account.engines.temporal.cut()
    return account.request(name)


def no_way_back(account: Account, name: str) -> dict[str, Any]:
    """Temporal refuses the create, and SpiceDB the compensation."""
    account.engines.temporal.inject("CreateSchedule", Fault.REFUSED, times=None)
    account.engines.spicedb.inject("DeleteRelationships", Fault.REFUSED, times=None)
    return account.request(name)


def held(account: Account, name: str) -> set[str]:
    """The relations that SpiceDB holds of a schedule."""
    found = relationships.all_of(clients.spicedb(account.engines.direct))
    return {text.partition("@")[0] for text in found.get(ids.schedule_id(account.agent, name), set())}


def memo(account: Account, name: str) -> dict[str, Any]:
    """The memo of a schedule in Temporal."""

    async def read(handle: ScheduleHandle) -> dict[str, Any]:
        found: dict[str, Any] = (await (await handle.describe()).memo())["agent_schedule"]
        return found

    result: dict[str, Any] = _with_handle(account, name, read)
    return result


def delete_by_hand(account: Account, name: str) -> None:
    """Delete a schedule in Temporal, as its web interface does."""
    _with_handle(account, name, lambda handle: handle.delete())


def _unowned(account: Account, name: str) -> dict[str, Any]:
    request = _keyed(account, name)
    assert account.run("CreateScheduleExpress", request).status == "SUCCEEDED"
    relationships.remove_all(clients.spicedb(account.engines.direct), schedule_id=ids.schedule_id(account.agent, name))
    account.engines.temporal.clear()
    return request


def _keyed(account: Account, name: str) -> dict[str, Any]:
    return {**account.request(name), "idempotency_key": f"key-of-{name}"}


def _with_handle(account: Account, name: str, act: Callable[[ScheduleHandle], Any]) -> Any:
    async def do() -> Any:
        client = await clients.temporal(account.engines.direct)
        return await act(client.get_schedule_handle(ids.schedule_id(account.agent, name)))

    return asyncio.run(do())
