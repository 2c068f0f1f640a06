"""The manual that `make run` prints at its end: how to do by hand what the show did."""

from pathlib import Path

from local.stack.console import plain_console, say
from local.stack.endpoints import NAMESPACE, REGION, SPICEDB_TOKEN, Endpoints, state_machine_arn
from local.stack.process import HOST


def print_manual(endpoints: Endpoints, logs: Path) -> None:
    """Print it. The lines that are meant to be pasted are not indented and never wrapped."""
    moved = f" SPICEDB_PORT={endpoints.spicedb_port}" if endpoints.spicedb_port != Endpoints.spicedb_port else ""
    console = plain_console()
    console.print("\nThe stack is up. Ctrl-C ends it.", style="bold", end=" ")
    console.print(
        f"""By hand, in a second terminal, in this folder:

make agent OWNER=bob AGENT=my-agent{moved}
TOKEN=$(make -s token SUBJECT=bob)
API={endpoints.api}/agents/my-agent/schedules
curl -sw '\\n' $API -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -d '{{
  "name": "daily", "workflow_name": "Report", "task_queue": "reports", "cron_expression": "0 9 * * *"}}'
curl -sw '\\n' $API -H "Authorization: Bearer $TOKEN"
curl -sw '\\n' $API/daily/pause -X POST -H "Authorization: Bearer $TOKEN"
curl -sw '\\n' $API/daily -X DELETE -H "Authorization: Bearer $TOKEN"

# or start a state machine from Python

.venv/bin/python - <<'END'
import boto3, json
from botocore.config import Config
sfn = boto3.client("stepfunctions", endpoint_url="{endpoints.aws}", region_name="{REGION}",
                   aws_access_key_id="local", aws_secret_access_key="local",
                   config=Config(inject_host_prefix=False))
ended = sfn.start_sync_execution(
    stateMachineArn="{state_machine_arn("create-schedule-express")}",
    input=json.dumps({{"agent_id": "my-agent", "principal": {{"user_id": "bob"}}, "schedule": {{
        "name": "hourly", "workflow_name": "Report", "task_queue": "reports", "interval_seconds": 3600}}}}))
print(ended["status"], ended.get("output") or ended.get("cause"))
END
"""
    )
    for what, where in {
        "HTTP API": f"{endpoints.api} (/docs, /openapi.json)",
        "Step Functions and Lambda": f"{endpoints.aws} (boto3 endpoint_url)",
        "SpiceDB": f'{endpoints.spicedb}, no TLS, token "{SPICEDB_TOKEN}"',
        "Temporal": f"{endpoints.temporal}, namespace {NAMESPACE}",
        "Temporal's web interface": f"http://{HOST}:{endpoints.temporal_ui_port}",
        "Logs": str(logs),
    }.items():
        say(console, f"{what:<28}{where}", indent=2, hanging=28)
