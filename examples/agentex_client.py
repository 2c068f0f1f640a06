"""A schedule's life over the HTTP API, with the SDK of Agentex (`pip install agentex-sdk==0.12.0`).

    export API_URL=http://127.0.0.1:3000 AGENT=weather-agent TOKEN=$(make -s token SUBJECT=alice)
    python examples/agentex_client.py

The SDK repeats a request after 408, 409, 429, 5xx and lost connections, unless the response says `x-should-retry:
false`. Without an Idempotency-Key, the API says so of every create and trigger whose outcome is not known.
"""

import os
import uuid

from agentex import Agentex, ConflictError


def main() -> None:
    """Create a schedule twice with one key, trigger it twice with one key, and delete it."""
    client = Agentex(base_url=os.environ["API_URL"], api_key=os.environ["TOKEN"], max_retries=5)
    schedules, agent = client.agents.schedules, os.environ["AGENT"]
    key = str(uuid.uuid4())

    def create(key: str) -> None:
        created = schedules.create(
            agent,
            name="from-the-sdk",
            workflow_name="Report",
            task_queue="reports",
            cron_expression="0 9 * * *",
            extra_headers={"Idempotency-Key": key},
        )
        print("created", created.schedule_id)

    create(key)
    create(key)  # the same schedule
    try:
        create(str(uuid.uuid4()))
    except ConflictError as error:  # not repeated: the API says x-should-retry: false
        print("refused", error.status_code)
    print("listed ", [each.name for each in schedules.list(agent).schedules])
    for _ in range(2):  # the second one triggers nothing
        schedules.trigger("from-the-sdk", agent_id=agent, extra_headers={"Idempotency-Key": key})
    print("deleted", schedules.delete("from-the-sdk", agent_id=agent).id)


if __name__ == "__main__":
    main()
