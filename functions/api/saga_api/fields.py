"""What the specification says about each field: what it holds, its unit, its limit, and an example.

The models have the types and the limits that a schema can express. This table has the words for a caller.
"""

from typing import Any

_ID = ("`{agent_id}--{name}`; at most 130 characters", "weather-agent--daily-report")
_NAME = (
    "unique within the agent; lower-case letters, digits and hyphens, with a letter or digit at both ends; at most 64 "
    "characters",
    "daily-report",
)
_AGENT = ("the agent that owns the schedule; at most 64 characters", "weather-agent")
_STATE = ("whether the schedule starts workflows now: `ACTIVE` or `PAUSED`", "ACTIVE")
_WORKFLOW = ("the type of the workflow that is started; at most 1,000 bytes in UTF-8", "DailyReport")
_QUEUE = ("the task queue on which the workers listen; at most 1,000 bytes in UTF-8", "weather")
_OVERLAP = "what Temporal does when a run is due while the previous one is still running"
_CATCHUP = "how late a run may still start after an outage"
_JITTER = "each run is delayed by a random time up to this"
_NEXT_RUN = "2026-11-26T09:00:00Z"
_EXECUTION = "arn:aws:states:us-east-1:123456789012:express:create-schedule-express:http-5f0c1a52"

# Schema, field: description and example.
FIELDS: dict[str, dict[str, tuple[str, Any]]] = {
    "NewSchedule": {
        "name": _NAME,
        "workflow_name": _WORKFLOW,
        "task_queue": _QUEUE,
        "workflow_params": (
            "the workflow's one argument, a JSON object of at most 65,536 bytes and 100 levels; null for no argument",
            {"city": "Lisbon"},
        ),
        "cron_expression": (
            "when to run, in Temporal's cron dialect; at most 1,000 bytes in UTF-8; null for none. Needed, unless "
            "there is an `interval_seconds`; with both, the schedule runs at the times of either",
            "0 9 * * MON-FRI",
        ),
        "interval_seconds": (
            "the time between two runs, in whole seconds, counted from 1970-01-01T00:00:00Z; 1 to 3,155,760,000; null "
            "for none",
            3600,
        ),
        "execution_timeout_seconds": (
            "the most that one run may take, with its retries, in whole seconds; 1 to 3,155,760,000; null for no limit",
            600,
        ),
        "start_at": (
            "no run before this time; ISO 8601, in UTC where it has no offset; years 1 to 9999; null for no bound",
            "2026-12-01T00:00:00Z",
        ),
        "end_at": (
            "no run after this time, which is later than `start_at`; ISO 8601, in UTC where it has no offset; years 1 "
            "to 9999; null for no bound",
            "2027-12-31T00:00:00Z",
        ),
        "paused": ("whether the schedule begins paused; null means false", False),
        "timezone": ("the IANA time zone of the cron expression; null for UTC", "Europe/Lisbon"),
        "overlap_policy": (_OVERLAP + "; null for `SKIP`", "BUFFER_ONE"),
        "catchup_window_seconds": (
            _CATCHUP + ", in whole seconds; 10 to 3,155,760,000; null for a year",
            3600,
        ),
        "jitter_seconds": (_JITTER + ", in whole seconds; 1 to 3,155,760,000; null for none", 30),
    },
    "Note": {
        "note": (
            "the reason, kept with the schedule in Temporal; 1 to 1,000 bytes in UTF-8; null for none",
            "the workers are down",
        )
    },
    "ScheduleView": {
        "schedule_id": _ID,
        "name": _NAME,
        "agent_id": _AGENT,
        "state": _STATE,
        "action": (
            "what the schedule starts",
            {
                "workflow_name": "DailyReport",
                "workflow_id_prefix": "weather-agent--daily-report-run",
                "task_queue": "weather",
                "workflow_params": [{"city": "Lisbon"}],
            },
        ),
        "spec": (
            "when the schedule starts it",
            {
                "cron_expressions": ["0 9 * * MON-FRI"],
                "intervals_seconds": [],
                "intervals": [],
                "start_at": None,
                "end_at": None,
            },
        ),
        "timezone": ("the IANA time zone of the cron expressions; null for UTC", "Europe/Lisbon"),
        "jitter_seconds": (_JITTER + ", in whole seconds; null for none", None),
        "overlap_policy": (_OVERLAP + "; null for a policy that this API does not know", "SKIP"),
        "catchup_window_seconds": (_CATCHUP + ", in whole seconds", 31_536_000),
        "execution_timeout_seconds": ("the most that one run may take, in whole seconds; null for no limit", 600),
        "note": ("the reason of the last pause or unpause, or another note of a person; null for none", None),
        "num_actions_taken": ("how many runs were started, a count from 0", 7),
        "num_actions_missed": ("how many runs were left out because they were too late, a count from 0", 0),
        "next_action_times": ("the next runs, in order; ISO 8601 in UTC; at most 10", [_NEXT_RUN]),
        "last_action_time": ("when the last run was started; ISO 8601 in UTC; null before the first", None),
        "created_at": ("when the schedule was created; ISO 8601 in UTC", "2026-11-25T04:49:51.247246Z"),
        "updated_at": (
            "when the schedule was last changed, as Temporal has it; ISO 8601 in UTC; null if never",
            None,
        ),
        "warnings": ("what the creator probably did not intend, a sentence each; empty for nothing", []),
    },
    "IntervalView": {
        "every_seconds": ("the time between two runs, in seconds", 90.5),
        "offset_seconds": ("the time of each run after a multiple of it, in seconds from 0", 15),
    },
    "ActionView": {
        "workflow_name": _WORKFLOW,
        "workflow_id_prefix": (
            "how the id of each workflow begins; Temporal appends the time of the run",
            "weather-agent--daily-report-run",
        ),
        "task_queue": _QUEUE,
        "workflow_params": ("the arguments of the workflow; null for none", [{"city": "Lisbon"}]),
    },
    "SpecView": {
        "cron_expressions": ("the cron expressions, in Temporal's dialect; empty for none", ["0 9 * * MON-FRI"]),
        "intervals_seconds": (
            "the times between two runs, in whole seconds, counted from 1970-01-01T00:00:00Z; empty for none",
            [3600],
        ),
        "intervals": (
            "the intervals that `intervals_seconds` cannot hold; empty for none",
            [{"every_seconds": 90.5, "offset_seconds": 15}],
        ),
        "start_at": ("no run before this time; ISO 8601 in UTC; null for no bound", None),
        "end_at": ("no run after this time; ISO 8601 in UTC; null for no bound", "2027-12-31T00:00:00Z"),
    },
    "SchedulePage": {
        "schedules": (
            "schedules of the agent that the caller may read; at most `page_size`",
            [
                {
                    "schedule_id": "weather-agent--daily-report",
                    "name": "daily-report",
                    "agent_id": "weather-agent",
                    "state": "ACTIVE",
                    "workflow_name": "DailyReport",
                    "next_action_time": _NEXT_RUN,
                }
            ],
        ),
        "total": ("how many schedules are on this page; at most `page_size`", 1),
        "next_page_token": (
            "send it as `page_token` for the next page; at most 1,024 characters, valid for the same agent and caller; "
            "null on the last page",
            None,
        ),
    },
    "ScheduleSummary": {
        "schedule_id": _ID,
        "name": _NAME,
        "agent_id": _AGENT,
        "state": _STATE,
        "workflow_name": _WORKFLOW,
        "next_action_time": ("the next run; ISO 8601 in UTC; null if none is due", _NEXT_RUN),
    },
    "Health": {"status": ("always `ok`; a failure is another status code", "ok")},
    "Deleted": {
        "id": _ID,
        "message": ("whether relationships may be left, so that the delete has to be repeated", "schedule deleted"),
    },
    "Problem": {
        "message": (
            "what is wrong, for a person; for a request that does not fit, each wrong field",
            "name: field required",
        ),
        "code": ("the HTTP status, 400 to 599", 422),
        "data": (
            "`execution_id` of an execution whose outcome is not known; or `last_action_time`, where the outcome of an "
            "earlier trigger with the key is not known: when the last run began, ISO 8601 in UTC, null before the "
            "first; else null",
            {"execution_id": _EXECUTION},
        ),
    },
    "GatewayProblem": {"message": ("the reason phrase of the status", "Unauthorized")},
}


def describe(schemas: dict[str, Any]) -> None:
    """Put the words of the table into a specification's schemas, and keep only the summary of a model's docstring."""
    for name, schema in schemas.items():
        schema["description"] = schema.get("description", "").partition("\n\n")[0].replace("``", "`")
        for field, (description, example) in FIELDS.get(name, {}).items():
            if field in schema["properties"]:
                schema["properties"][field] |= {"description": description, "examples": [example]}
