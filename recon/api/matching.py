"""What decides and tells why: check, match, decisions, explain, and the rules tried, tested and widened."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon import extras, workflow
from recon.api.arguments import all_looked_at
from recon.api.frames import frame, table
from recon.api.place import Place, Spec
from recon.matching import attempt as trying
from recon.matching import backtest as testing
from recon.matching import check as checking
from recon.matching import explain as explaining
from recon.matching import pairs, precision
from recon.matching import run as matching
from recon.matching import what_if as asking
from recon.matching.attempt import Attempt
from recon.matching.check import Checked
from recon.matching.explain import Explanation
from recon.matching.pool import Filter
from recon.matching.precision import Backtest
from recon.matching.run import Run
from recon.matching.what_if import WhatIf
from recon.reports.whole import written

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@all_looked_at
class Matching(Place):
    """The methods that look and decide. None of them writes to your tables."""

    def check(self, name: Spec) -> Checked:
        """Look at connection, spec, records and candidate pairs before any work.

        Args:
            name: a reconciliation, or a spec that was changed or written in Python.

        Raises:
            SchemaMismatch: a table, a column or a type is not as the spec has it.

        >>> found = bench.check("rent_payments")
        >>> found.clean, found.refused
        (True, ())
        """
        return checking.check(self.database, self._spec(name), shows_private=self.workspace.sees_private)

    def match(
        self,
        name: Spec,
        *,
        limit: int | None = None,
        from_day: date | None = None,
        to_day: date | None = None,
    ) -> Run:
        """Decide every record.

        Args:
            name: a reconciliation, or a spec.
            limit: decide at most this many unlinked records.
            from_day: from this day, inclusive; the spec says by which date.
            to_day: to this day, inclusive.

        Raises:
            SchemaMismatch, SpecError: the spec does not fit the tables; nothing is kept.
            NotLoaded: the records were never loaded.
            TooManyPairs: a pass would make more candidate pairs than can be looked at.

        >>> run = bench.match("rent_payments")
        >>> run.population, run.outcomes, run.coverage
        (135, {'linked': 125, 'matched': 10}, 1.0)
        """
        days = [day.isoformat() if day else None for day in (from_day, to_day)]
        return workflow.match(self.database, self.workspace, self._spec(name), self.actor, Filter(limit, *days))

    def result(self, name: str, run: str | None = None) -> Run:
        """What was found by the latest finished run, or by this one. Raises NotFound.

        >>> bench.result("rent_payments").passes[0].name
        'payprop_invoice_id'
        """
        return matching.load(self.database, name, run)

    def waterfall(self, name: str) -> go.Figure:
        """A figure of how the passes of the latest run add up to the population.

        Raises:
            NotFound: there is no run.
            MissingExtra: plotly is not installed.

        >>> bench.waterfall("rent_payments").layout.title.text is None
        True
        """
        extras.need("notebooks", "`waterfall`", "plotly")
        from recon.reports import data, figures

        return figures.waterfall(data.gather(self.database, self.workspace, name).steps)

    def runs(self, name: str | None = None) -> pd.DataFrame:
        """What ran, newest first: a row for each, with its coverage and the precision that is known of its rules.

        Args:
            name: only of this reconciliation.

        Raises:
            NotFound: there is no such reconciliation.

        >>> bench.runs("rent_payments")[["state", "population", "coverage"]].tail(1).reset_index(drop=True)
             state  population  coverage
        0  success         135       1.0
        """
        found = matching.history(self.database, name)
        self._known(name, found)
        known = precision.of_runs(self.database, found)
        return table({**row, "precision": item} for row, item in zip(found, known, strict=True))

    def decisions(self, name: Spec, *outcomes: str, run: str | None = None, rows: int | None = None) -> pd.DataFrame:
        """A row for each decision, in key order, with what the spec shows of it and why, in words.

        Args:
            name: a reconciliation, or a spec.
            outcomes: only these, such as "ambiguous"; none: all.
            run: a run; None: the latest.
            rows: at most this many; None: all. A million takes about a gigabyte.

        >>> found = bench.decisions("rent_payments", "matched")
        >>> len(found), found["pass"].value_counts().to_dict()["property_and_customer"]
        (10, 7)
        """
        spec = self._spec(name)
        decided = matching.load(self.database, spec.name, run)
        with self.database.session(read_only=True) as session:
            bound = self._bound(session, spec)
            columns, found = pairs.columns_and_rows(session, bound, decided.run, outcomes=outcomes, limit=rows)
        return frame(columns, found)

    def explain(self, name: Spec, key: object) -> Explanation:
        """Why a record is matched or not, pass by pass, with its nearest candidates.

        Args:
            name: a reconciliation, or a spec.
            key: the record's key; a composite one as a JSON array.

        Raises:
            NotFound: there is no such record.

        >>> why = bench.explain("financial_transactions", 20288)
        >>> why.decided.outcome, why.passes[0].result, len(why.candidates())
        ('ambiguous', 'null_key', 6)
        """
        with self.database.session(read_only=True) as session:
            return explaining.explain(session, self._bound(session, self._spec(name)), str(key))

    def attempt(self, name: Spec, rule: str, target: Mapping[str, Any], source: Mapping[str, Any]) -> Attempt:
        """Try one pass on two records that are in no table; `recon try`.

        Args:
            name: a reconciliation, or a spec.
            rule: the pass.
            target: the target's record, column to value; values take the types of the spec's columns.
            source: the source's record.

        Raises:
            NotFound: there is no such pass.
            UsageError: there is no such column, or a value cannot be read as its type.

        >>> bench.attempt("rent_payments", "property_without_customer",
        ...     {"property_id": 10, "customer_id": 3}, {"property_id": 10}).reason
        'when_false'
        """
        with self.database.session(read_only=True) as session:
            return trying.attempt_typed(session, self._spec(name), rule, target, source)

    def backtest(self, name: Spec, *, truth: str | Path | None = None, wrong: str | Path | None = None) -> Backtest:
        """How precise the rules are: hide the links that exist, match, and compare.

        Args:
            name: a reconciliation, or a spec.
            truth: a CSV file of right pairs (target_key,source_key); None: the links that exist.
            wrong: a CSV file to write every wrong pair to.

        Raises:
            UsageError: nothing is known to compare with, a line cannot be read, or `wrong` cannot be written.

        >>> found = bench.backtest("rent_payments")
        >>> found.known, found.found_right, found.found_wrong
        (125, 119, 3)
        """
        given, out = (Path(path).expanduser() if path else None for path in (truth, wrong))
        testing.two_files(given, out)
        with ExitStack() as stack:
            file = None
            if out:
                half = stack.enter_context(written(out, "wrong"))
                file = stack.enter_context(half.open("w", encoding="utf-8", newline=""))
            return testing.backtest(self.database, self._spec(name), self.actor, given, file)

    def precision(self, name: Spec) -> Backtest | None:
        """The latest backtest of exactly these rules; None where there is none.

        >>> bench.precision("financial_transactions") is None
        True
        """
        return precision.latest(self.database, self._spec(name))

    def what_if(self, name: Spec, rule: str | None = None) -> WhatIf:
        """What wider and narrower windows would give: every record decided again for each of ten tolerances.

        Args:
            name: a reconciliation, or a spec.
            rule: the windows of this pass alone.

        Raises:
            NotFound: there is no such pass.
            UsageError: no pass has a window.

        >>> window = {"target": "transaction_date", "source": "start_date", "tolerance": "7 days"}
        >>> near = [{"name": "near_start", "on": {"property_id": "property_id"}, "within": window}]
        >>> curve = recon.table(bench.what_if(bench.spec("rent_payments", passes=near)).records())
        >>> bool(curve["matched"].is_monotonic_increasing)
        True
        """
        return asking.what_if(self.database, self._spec(name), rule)
