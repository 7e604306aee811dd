"""Cron lines: what is wrong with one, and what the usual ones mean in words."""

from __future__ import annotations

import re
from datetime import UTC, datetime

# What croniter knows beyond cron: R and H stand for times that it chooses itself, so nobody could say when.
_CHOSEN = re.compile(r"(^|[,/])[hr](\(|$|/|,)", re.IGNORECASE)
_STEP = re.compile(r"/(\d+)$")
# Each field's name, and how many values it has.
_FIELDS = {"minute": 60, "hour": 24, "day of month": 31, "month": 12, "day of week": 7}
_DAYS = ("Sundays", "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def problem(line: str) -> str | None:
    """What is wrong with a cron line, as the end of a sentence; None: nothing.

    >>> problem("*/90 * * * *")
    'the minute "*/90" has a step of 90, and there are 60: it would come once in each round, and not every 90'
    >>> problem("*/30 * * * *")
    """
    from croniter import croniter
    from croniter.croniter import CroniterError

    fields = line.split()
    if len(fields) != len(_FIELDS):
        return f"it has {len(fields)} fields, not {len(_FIELDS)} (minute, hour, day of month, month, day of week)"
    if any(_CHOSEN.search(field) for field in fields):
        return "H and R are not times"
    for (name, count), field in zip(_FIELDS.items(), fields, strict=True):
        for part in field.split(","):
            step = _STEP.search(part)
            if step and int(step[1][:9]) > count:  # nobody who writes it means what cron would do
                return (
                    f'the {name} "{part}" has a step of {step[1]}, and there are {count}: it would come once in each '
                    f"round, and not every {step[1]}"
                )
    try:
        croniter(line, datetime(2000, 1, 1, tzinfo=UTC)).get_next(datetime)
    except CroniterError as error:
        return "no day is like that" if "next date" in str(error) else str(error).rstrip(".")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "a field cannot be read"
    return None


def words(line: str) -> str:
    """What a cron line means, where few words can say it; else nothing.

    >>> words("*/30 * * * *"), words("0 * * * *"), words("0 7,19 * * *")
    ('Every 30 minutes', 'Every hour', 'Every day at 07:00 and 19:00')
    >>> words("0 7 * * 1-5"), words("15 6 1 * *"), words("*/7 3 * * *")
    ('Mondays to Fridays at 07:00', 'Every month on day 1 at 06:15', '')
    """
    minute, hour, day, month, weekday = line.split()
    if month != "*":
        return ""
    if (hour, day, weekday) == ("*", "*", "*"):
        return _often(minute)
    if not minute.isdigit():
        return ""
    if (day, weekday) == ("*", "*") and (every := _every(hour, "hour", 24)):
        return every if int(minute) == 0 else f"{every}, at minute {int(minute)}"
    if not all(part.isdigit() for part in hour.split(",")):
        return ""
    times = [f"{int(part):02}:{int(minute):02}" for part in hour.split(",")]
    at = f"at {' and '.join(filter(None, [', '.join(times[:-1]), times[-1]]))}"
    if (day, weekday) == ("*", "*"):
        return f"Every day {at}"
    if day == "*":
        ends = weekday.split("-")
        named = len(ends) <= 2 and all(part.isdigit() and int(part) < len(_DAYS) for part in ends)
        return f"{' to '.join(_DAYS[int(part)] for part in ends)} {at}" if named else ""
    return f"Every month on day {int(day)} {at}" if weekday == "*" and day.isdigit() else ""


def _often(minute: str) -> str:
    if minute == "*":
        return "Every minute"
    if minute.isdigit():
        return "Every hour" if int(minute) == 0 else f"Every hour, at minute {int(minute)}"
    return _every(minute, "minute", 60)


def _every(field: str, unit: str, count: int) -> str:
    """`*/n` in words; nothing where n does not divide the round, for the last step is shorter then."""
    step = int(field[2:]) if field.startswith("*/") and field[2:].isdigit() else 0
    if not step or count % step:
        return ""
    if step == count:
        return "Every hour" if unit == "minute" else "Every day at 00:00"
    return f"Every {unit}" if step == 1 else f"Every {step} {unit}s"
