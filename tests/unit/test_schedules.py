"""The file schedules.yaml: what it means, what is wrong in it, and what an edit leaves as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from recon.errors import NotFound, ReconError, SpecError, UsageError
from recon.service import schedules
from recon.service.schedules import Schedule
from recon.workspace import Workspace

WRITTEN = """\
# Who reads them: the accountants.
- {do: report, reconciliation: rent_payments, cron: '0 7 * * 1-5', zone: Europe/London}  # before the stand-up

# The imports, late.
- do: report
  reconciliation: financial_transactions  # weekly is enough
  cron: "0 22 * * fri"   # Fridays
  # nothing after this
"""


def _file(workspace: Workspace, text: str) -> None:
    (workspace.root / schedules.FILE).write_text(text, encoding="utf-8")


def _text(workspace: Workspace) -> str:
    return (workspace.root / schedules.FILE).read_text(encoding="utf-8")


def test_an_edit_changes_its_own_words_only(workspace: Workspace) -> None:
    _file(workspace, WRITTEN)
    schedules.put(workspace, "report", "rent_payments", "30 6 * * *", "Europe/Paris")
    once = WRITTEN.replace("'0 7 * * 1-5', zone: Europe/London", '"30 6 * * *", zone: Europe/Paris')
    assert _text(workspace) == once
    kept = schedules.put(workspace, "report", "rent_payments", "30 6 * * *")
    assert (kept.zone, _text(workspace)) == ("Europe/Paris", once)
    schedules.put(workspace, "report", "financial_transactions", "0 23 * * 5", "Asia/Tokyo")
    twice = once.replace('"0 22 * * fri"', '"0 23 * * 5"\n  zone: Asia/Tokyo')
    assert _text(workspace) == twice
    assert [item.zone for item in schedules.of(workspace)] == ["Europe/Paris", "Asia/Tokyo"]

    schedules.drop(workspace, "report", "rent_payments")
    assert _text(workspace) == "".join(line for line in twice.splitlines(True) if "rent_payments" not in line)
    schedules.put(workspace, "report", "rent_payments", "0 7 * * 1-5")
    assert _text(workspace).endswith(
        '# nothing after this\n- {do: report, reconciliation: rent_payments, cron: "0 7 * * 1-5", zone: UTC}\n'
    )
    for name in ("financial_transactions", "rent_payments"):
        schedules.drop(workspace, "report", name)
    assert schedules.of(workspace) == []
    assert "# The imports, late." in _text(workspace)
    with pytest.raises(NotFound):
        schedules.drop(workspace, "report", "rent_payments")


def test_a_first_schedule_makes_the_file(workspace: Workspace) -> None:
    assert schedules.of(workspace) == []
    made = schedules.put(workspace, "report", "rent_payments", " 0  7 * * 1-5 ", "Europe/London")
    assert schedules.of(workspace) == [made]
    assert made.cron == "0 7 * * 1-5"


@pytest.mark.parametrize(
    ("entry", "line", "said"),
    [
        ("{do: report, reconciliation: rent_paymnts, cron: '0 7 * * *'}", 2, 'Did you mean "rent_payments"?'),
        ("{do: report, reconciliation: rent_payments, cron: '0 27 * * *'}", 2, "cron: '0 27 * * *' is not a cron line"),
        ("{do: report, reconciliation: rent_payments, cron: '0 7 * *'}", 2, "it has 4 fields, not 5"),
        ("{do: report, reconciliation: rent_payments, cron: 'R 7 * * *'}", 2, "H and R are not times"),
        ("{do: report, reconciliation: rent_payments, cron: '0 0 30 2 *'}", 2, "no day is like that"),
        ("{do: report, reconciliation: rent_payments, cron: '*/90 * * * *'}", 2, 'the minute "*/90" has a step of 90, and there are 60'),
        ("{do: run, reconciliation: rent_payments, cron: '0 1,*/25 * * *'}", 2, 'the hour "*/25" has a step of 25'),
        ("{do: sync, reconciliation: rent_payments, cron: '0 7 * * *'}", 2, "rent_payments is no mirror"),
        ("{do: report, reconciliation: rent_payments, cron: 7}", 2, "cron: Input should be a valid string"),
        ("do: report\n  reconciliation: rent_payments\n  cron: 0 7 * * *\n  zone: Europe/Londn", 5, 'Did you mean "Europe/London"?'),
        ("{do: reprot, reconciliation: rent_payments, cron: '0 7 * * *'}", 2, "do: 'reprot' is not one of 'report'"),
        ("{do: report, reconciliation: rent_payments, corn: '0 7 * * *'}", 2, 'Did you mean "cron"?'),
        ("{do: report, reconciliation: rent_payments}", 2, "cron: this field is missing"),
        ("{do: report", 3, "this is not YAML"),
        ("report", 2, "should be"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(workspace: Workspace, entry: str, line: int, said: str) -> None:
    _file(workspace, f"# reports\n- {entry}\n")
    with pytest.raises(SpecError) as error:
        schedules.of(workspace)
    assert f"{schedules.FILE}, line {line}: " in str(error.value)
    assert said in str(error.value)
    before = _text(workspace)
    with pytest.raises(SpecError):
        schedules.put(workspace, "report", "rent_payments", "0 8 * * *")
    assert _text(workspace) == before


def test_one_thing_has_one_schedule(workspace: Workspace) -> None:
    entry = "- {do: report, reconciliation: rent_payments, cron: '0 7 * * *'}\n"
    _file(workspace, entry * 2)
    with pytest.raises(SpecError, match=r"line 2: .* a schedule in line 1 already"):
        schedules.of(workspace)
    _file(workspace, "report: rent_payments\n")
    with pytest.raises(SpecError, match="schedules are a list"):
        schedules.of(workspace)


@pytest.mark.parametrize(
    ("name", "cron", "zone", "said"),
    [
        ("rent_paymnts", "0 7 * * *", None, 'Did you mean "rent_payments"'),
        ("rent_payments", "daily", None, "is not a cron line"),
        ("rent_payments", "0 7 * * *", "../../etc/passwd", "no time zone"),
        ("rent_payments", "0 7 * * *", "europe/london", 'Did you mean "Europe/London"'),
    ],
)
def test_a_wrong_wish_leaves_no_file(workspace: Workspace, name: str, cron: str, zone: str | None, said: str) -> None:
    with pytest.raises((NotFound, UsageError)) as error:
        schedules.put(workspace, "report", name, cron, zone)
    assert isinstance(error.value, ReconError)
    assert said in str(error.value)
    assert not (workspace.root / schedules.FILE).exists()


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("*/30 * * * *", "Every 30 minutes"),
        ("*/60 * * * *", "Every hour"),
        ("* * * * *", "Every minute"),
        ("5 * * * *", "Every hour, at minute 5"),
        ("0 */6 * * *", "Every 6 hours"),
        ("15 */2 * * *", "Every 2 hours, at minute 15"),
        ("0 7 * * *", "Every day at 07:00"),
        ("30 7,12,19 * * *", "Every day at 07:30, 12:30 and 19:30"),
        ("0 7 * * 1-5", "Mondays to Fridays at 07:00"),
        ("0 7 * * 0", "Sundays at 07:00"),
        ("0 7 1 * *", "Every month on day 1 at 07:00"),
        # What few words cannot say, they do not say wrongly.
        *[(cron, "") for cron in ("*/45 * * * *", "0 */5 * * *", "0 7 1 * 1", "0 7 * 3 *", "0 7 * * fri", "1,2 3 * * *")],
    ],
)  # fmt: skip
def test_the_usual_times_are_said_in_words(cron: str, said: str) -> None:
    """SYN-08: the schedule of the status is the cron line and what it means."""
    assert schedules.words(cron) == said
    assert Schedule(do="report", reconciliation="rent_payments", cron=cron, zone="UTC").cron == cron


def _schedule(cron: str) -> Schedule:
    return Schedule(do="report", reconciliation="rent_payments", cron=cron, zone="Europe/London")


def test_a_daily_report_comes_once_a_day_when_clocks_change() -> None:
    night = _schedule("30 1 * * *")
    back = schedules.next_tick(night, datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert back.isoformat() == "2026-10-25T01:30:00+01:00"
    assert schedules.next_tick(night, back).isoformat() == "2026-10-26T01:30:00+00:00"
    assert schedules.last_tick(night, datetime(2026, 10, 25, 12, tzinfo=UTC)) == back
    forward = schedules.next_tick(night, datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert forward.isoformat() == "2026-03-29T02:00:00+01:00"
    assert schedules.next_tick(night, forward).isoformat() == "2026-03-30T01:30:00+01:00"
    # What comes every half hour goes on through both hours.
    often = _schedule("*/30 * * * *")
    assert (
        schedules.next_tick(often, datetime(2026, 10, 25, 0, 45, tzinfo=UTC)).isoformat() == "2026-10-25T01:00:00+00:00"
    )


def test_the_last_time_is_the_present_one_where_it_is_due_now() -> None:
    now = datetime(2026, 11, 23, 7, 0, tzinfo=ZoneInfo("Europe/London"))
    assert schedules.last_tick(_schedule("0 7 * * 1-5"), now) == now
    assert schedules.next_tick(_schedule("0 7 * * 1-5"), now).day == 24
    assert schedules.when(now) == "Mon 23 Nov 2026 07:00 GMT"
