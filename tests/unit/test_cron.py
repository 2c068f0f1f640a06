"""Cron text of calendars, and the comment in which the text as it was asked for travels."""

from typing import Any

import pytest
from temporalio.api.schedule.v1 import Range, StructuredCalendarSpec

from saga_temporal import cron

EVERY_DAY: dict[str, Any] = {"day_of_month": [Range(start=1, end=31)], "month": [Range(start=1, end=12)]}
FIRST: dict[str, Any] = {"day_of_month": [Range(start=1)], "day_of_week": [Range(start=0, end=6)]}
FRIDAY = [Range(start=1, end=5)]
ALWAYS: dict[str, Any] = {**EVERY_DAY, "day_of_week": [Range(start=0, end=6)]}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("0 9 * * MON-FRI", "0 9 * * MON-FRI # 0 9 * * MON-FRI"),
        ("  0   9 * * * ", "0   9 * * * # 0   9 * * *"),
        ("0 9 * * * # mornings", "0 9 * * * # 0 9 * * * # mornings"),
        ("0 9 * * *#x#y", "0 9 * * * # 0 9 * * *#x#y"),
        ("@daily", "@daily # @daily"),
        ("# nothing", " # # nothing"),
    ],
)
def test_the_text_as_it_was_asked_for_is_the_comment(asked: str, sent: str) -> None:
    assert cron.commented(asked) == sent


@pytest.mark.parametrize("asked", ["0 9 * * * # " + "x" * 189, "0 9 * * * # " + "é" * 95])
def test_a_text_that_is_too_long_for_a_comment_is_sent_without_one(asked: str) -> None:
    assert cron.commented(asked) == "0 9 * * *"
    assert cron.commented(asked[:100]).count("#") == 2


@pytest.mark.parametrize(
    ("calendar", "text"),
    [
        (StructuredCalendarSpec(), "0 0 * * *"),
        (
            StructuredCalendarSpec(hour=[Range(start=9)], **EVERY_DAY, day_of_week=[Range(start=1, end=5)]),
            "0 9 * * 1-5",
        ),
        (StructuredCalendarSpec(minute=[Range(end=59, step=15)], hour=[Range(end=23)], **ALWAYS), "*/15 * * * *"),
        (StructuredCalendarSpec(minute=[Range(start=5, end=59, step=10)], **ALWAYS), "5-59/10 0 * * *"),
        (StructuredCalendarSpec(hour=[Range(start=8), Range(start=20)], **ALWAYS), "0 8,20 * * *"),
        (StructuredCalendarSpec(year=[Range(start=2027)], **ALWAYS), "0 0 * * * 2027"),
        (StructuredCalendarSpec(year=[Range(start=2027, end=2031, step=2)], **ALWAYS), "0 0 * * * 2027-2031/2"),
        (StructuredCalendarSpec(second=[Range(start=30)], **ALWAYS), "30 0 0 * * * *"),
        (StructuredCalendarSpec(second=[Range(end=59)], year=[Range(start=2027)], **ALWAYS), "* 0 0 * * * 2027"),
        (StructuredCalendarSpec(hour=[Range(start=5, end=2)], **ALWAYS), "0 5 * * *"),
    ],
)
def test_a_calendar_is_shown_as_cron_text(calendar: StructuredCalendarSpec, text: str) -> None:
    assert cron.text(calendar) == text


@pytest.mark.parametrize(
    ("expression", "calendar"),
    [
        ("0 9 * * MON-FRI # mornings", StructuredCalendarSpec(hour=[Range(start=9)], **EVERY_DAY, day_of_week=FRIDAY)),
        ("@daily", StructuredCalendarSpec(minute=[Range()], hour=[Range()], **ALWAYS)),
        ("0 0 1 jan,december *", StructuredCalendarSpec(month=[Range(start=1), Range(start=12)], **FIRST)),
        ("0 0 * * 5-7", StructuredCalendarSpec(day_of_week=[Range(), Range(start=5, end=6)], **EVERY_DAY)),
        ("0 0 * * su", StructuredCalendarSpec(day_of_week=[Range(start=0)], **EVERY_DAY)),
        ("5/20 0 * * *", StructuredCalendarSpec(minute=[Range(start=5, end=59, step=20)], **ALWAYS)),
        ("5,25,45 0 * * *", StructuredCalendarSpec(minute=[Range(start=5, end=59, step=20)], **ALWAYS)),
        ("0 0 * * * 2027-2029", StructuredCalendarSpec(year=[Range(start=2027, end=2029)], **ALWAYS)),
        ("30 0 0 * * * *", StructuredCalendarSpec(second=[Range(start=30)], **ALWAYS)),
        ("TZ=Asia/Tokyo 0 6 * * *", StructuredCalendarSpec(hour=[Range(start=6)], **ALWAYS)),
    ],
)
def test_an_expression_means_the_calendar_that_the_server_makes_of_it(
    expression: str, calendar: StructuredCalendarSpec
) -> None:
    # The server leaves nothing out of a calendar that it has made.
    for field in ("second", "minute", "hour"):
        if not getattr(calendar, field):
            getattr(calendar, field).append(Range())
    assert cron.means(expression, calendar)

    calendar.hour[0].start += 1
    calendar.hour[0].end = 0
    assert not cron.means(expression, calendar)


@pytest.mark.parametrize(
    "text",
    ["", "# nothing", "every morning", "@every 90m", "0 0 * *", "0 0-99999999999 * * *", "0 0/0 * * *", "a b c d e"],
)
def test_a_text_that_is_no_expression_for_a_calendar_means_none(text: str) -> None:
    assert not cron.means(text, StructuredCalendarSpec(minute=[Range()], hour=[Range()], **ALWAYS))
