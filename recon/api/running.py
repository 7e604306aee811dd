"""What goes the whole way, keeps account of it, and tells it: runs, mirrors, reports, schedules, the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recon import extras, whole_way, workflow
from recon.api.arguments import all_looked_at
from recon.api.frames import table
from recon.api.place import Place
from recon.backfill import replay
from recon.backfill.replay import Audit
from recon.reports import kept, signed
from recon.reports.signed import Signed

if TYPE_CHECKING:
    import pandas as pd

    from recon.mirror.parts import Synced
    from recon.service.schedules import Kind, Schedule

Mode = Literal["match", "plan", "dry_run", "execute"]


@all_looked_at
class Running(Place):
    """The methods that run as schedules do, and that tell what ran."""

    def run(
        self,
        name: str,
        *,
        mode: Mode = "dry_run",
        from_day: date | None = None,
        to_day: date | None = None,
        limit: int = 0,
        plan: str = "",
    ) -> dict[str, Any]:
        """The whole way: check, match, plan, sign-off, apply, verify, and a page that tells it.

        With `execute` a plan is applied only under a sign-off: a standing one, or the approval of the plan that waits.

        Args:
            name: the reconciliation.
            mode: how far.
            from_day: from this day, inclusive.
            to_day: to this day, inclusive.
            limit: decide at most this many unlinked records; 0: all.
            plan: carry on with this plan; empty: match, and plan.

        Returns:
            What each step gave, as `recon run --json`; `exit_code` is 3 where something is left to a person.

        Raises:
            ReportFailed: a step failed or was refused; the partial notebook is named.
            MissingExtra: papermill is not installed.

        >>> done = bench.run("rent_payments", mode="match")
        >>> done["exit_code"], done["match"]["outcomes"], done["coverage"]
        (0, {'linked': 125, 'matched': 10}, 1.0)
        """
        first, last = ("" if day is None else day.isoformat() for day in (from_day, to_day))
        return whole_way.run(self.database, self.workspace, name, whole_way.Wish(mode, first, last, limit, plan))

    def report(self, name: str, plan: str | None = None) -> Path:
        """Make the report of a reconciliation: one HTML file in reports/ that opens with no network.

        Args:
            name: the reconciliation.
            plan: the plan to report on; None: the latest.

        Raises:
            NotFound: no such reconciliation, run or plan.
            ReportFailed: a cell of the notebook failed.
            MissingExtra: papermill is not installed.

        >>> bench.report("rent_payments", plan="no-such-plan")
        Traceback (most recent call last):
        ...
        recon.errors.NotFound: ...
        """
        return workflow.report(self.database, self.workspace, name, plan)

    def workbook(self, name: str, as_of: date | None = None) -> Path:
        """Write the workbook of a reconciliation to reports/: breaks, and rents where there are. `recon report --excel`.

        Args:
            name: the reconciliation.
            as_of: count to this day; None: today in UTC.

        >>> bench.workbook("rent_payments").suffix
        '.xlsx'
        """
        return workflow.workbook(self.database, self.workspace, name, as_of)

    def sign_report(self, name: str, report: str, key: str | Path | None = None) -> Signed:
        """Sign a report that you have read; `recon report --sign`.

        Args:
            name: the reconciliation.
            report: its HTML file or its id.
            key: an SSH key; None: your name is recorded.

        Raises:
            NotFound: there is no such report.

        >>> bench.sign_report("rent_payments", "no-such-report")
        Traceback (most recent call last):
        ...
        recon.errors.NotFound: ...
        """
        path = Path(key).expanduser() if key else None
        return signed.sign(self.database, self.workspace, name, report, self.actor, key=path)

    def notebook_runs(self, name: str | None = None) -> pd.DataFrame:
        """What `run` and `report` made, newest first; `recon runs --notebooks`. Raises NotFound.

        >>> len(bench.notebook_runs("financial_transactions"))
        0
        """
        found = kept.history(self.database, name)
        self._known(name, found)
        return table(found)

    def audit(self, expect: str | None = None, plan: str | None = None) -> Audit:
        """Replay the audit log: is its chain whole, and does what stands agree with it?

        Args:
            expect: the hash of a head that was noted earlier: it must be in the chain.
            plan: compare this plan only, and give its entries.

        >>> plan = bench.plan("rent_payments")
        >>> found = bench.audit()
        >>> found.whole, found.finding_count
        (True, 0)
        """
        return replay.replay(self.database, expect=expect, plan=plan)

    # -- mirrors ---------------------------------------------------------------------------------------

    def sync(
        self, name: str, *, execute: bool = False, scopes: Sequence[str] | None = None, orphans: bool = True
    ) -> Synced:
        """Keep a mirror in step with its source: fetch what changed, decide, and write what is signed for.

        Args:
            name: the reconciliation.
            execute: write; without it, it fetches and decides.
            scopes: only these, such as an organization's id; None: all.
            orphans: cancel what the source no longer has; else only tell it.

        Raises:
            SpecError: the reconciliation is no mirror.
            UsageError: a setting of its source is missing.
            Locked: another run goes on.

        >>> bench.sync("rent_payments")
        Traceback (most recent call last):
        ...
        recon.errors.SpecError: ...
        """
        extras.need("service", "`sync`", "httpx2", "stamina", "croniter")
        from recon.mirror import sync as mirror

        only = list(dict.fromkeys(scopes)) if scopes else None
        wish = mirror.Wish(scopes=only, execute=execute, cancels=orphans)
        return mirror.sync(self.database, self.workspace, name, wish)

    def syncs(self, name: str, *, scope: str | None = None, rows: int = 20) -> pd.DataFrame:
        """The last runs of a mirror, newest first; `recon sync --runs`.

        Args:
            name: the reconciliation.
            scope: only of this scope.
            rows: at most this many.

        >>> len(bench.syncs("stays_reservations"))
        0
        """
        extras.need("service", "`syncs`", "httpx2", "stamina")
        from recon.mirror import log
        from recon.mirror import sync as mirror

        mirror.mirror_of(self.workspace, name)
        return table(log.listed(self.database, name, scope, limit=rows))

    def follow_ups(self, name: str) -> dict[str, dict[str, Any]]:
        """How the jobs of a reconciliation's records stand: counts by job and state.

        >>> bench.follow_ups("stays_reservations")["generate_pin"]["failed"]
        0
        """
        from recon.mirror import follow_ups_kept

        return follow_ups_kept.statistics(self.database, self.workspace.spec(name), datetime.now(UTC))

    def failed_follow_ups(self, name: str) -> pd.DataFrame:
        """The jobs that failed for good or are tried again, and what they said.

        >>> len(bench.failed_follow_ups("stays_reservations"))
        0
        """
        from recon.mirror import follow_ups_kept

        return table(follow_ups_kept.failed(self.database, self.workspace.spec(name).name))

    def retry_follow_ups(self, name: str) -> int:
        """Have what failed for good tried again; says how many jobs that is. `recon follow-ups --again`.

        >>> bench.retry_follow_ups("stays_reservations")
        0
        """
        from recon.mirror import follow_ups_kept

        return follow_ups_kept.again(self.database, self.workspace.spec(name).name)

    def webhooks(self) -> list[dict[str, Any]]:
        """How the webhooks stand: enabled or not and why, what came and when, and why nothing was done.

        >>> [item["counts"]["pending"] for item in bench.webhooks()]
        [0, 0]
        """
        from recon.service import origins
        from recon.systems import webhooks

        return origins.status(self.database, self.workspace, webhooks())

    # -- schedules and the service ---------------------------------------------------------------------

    def schedule(self, kind: Kind, name: str, cron: str, zone: str | None = None) -> Schedule:
        """Have the worker do something from now on: an entry in schedules.yaml; `--schedule` of three commands.

        Args:
            kind: report, run or sync.
            name: the reconciliation.
            cron: when, as cron writes it.
            zone: whose clock, such as "Europe/London"; None: UTC.

        Raises:
            NotFound, UsageError: no such reconciliation; no cron line; no such zone.

        >>> bench.schedule("run", "rent_payments", "0 7 * * 1-5").cron
        '0 7 * * 1-5'
        """
        extras.need("service", "A schedule", "croniter", "procrastinate")
        from recon.service import schedules

        return schedules.put(self.workspace, kind, name, cron, zone)

    def unschedule(self, kind: Kind, name: str) -> None:
        """Take that entry out again; `--schedule none`. Raises NotFound.

        >>> entry = bench.schedule("run", "rent_payments", "0 7 * * 1-5")
        >>> bench.unschedule("run", "rent_payments")
        """
        extras.need("service", "A schedule", "croniter", "procrastinate")
        from recon.service import schedules

        schedules.drop(self.workspace, kind, name)

    def token(self, sub: str, roles: Sequence[str], organizations: Sequence[str], hours: float = 8) -> str:
        """Make a token for `recon serve`, signed with RECON_JWT_SECRET: for first steps.

        Args:
            sub: who it is for: the name of a person.
            roles: viewer, operator, reviewer or admin.
            organizations: their ids, or "*".
            hours: how long it is valid.

        Raises:
            NoKey: RECON_JWT_SECRET is not set.

        >>> bench.token("bob", ["reviewer"], ["*"])
        Traceback (most recent call last):
        ...
        recon.service.tokens.NoKey: ...
        """
        extras.need("service", "`token`", "jwt")
        from recon.service import tokens

        return tokens.make(self.workspace.variables, sub, list(roles), list(organizations), hours, datetime.now(UTC))
