"""What people say: decisions that no rule undoes, and who sees to what is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.api.arguments import all_looked_at
from recon.api.frames import table
from recon.api.place import Place, Spec
from recon.matching import breaks as open_breaks
from recon.matching import overrides
from recon.reports import workbook
from recon.reports.whole import written

if TYPE_CHECKING:
    import pandas as pd


@all_looked_at
class People(Place):
    """The methods by which people have their say. Keys are as `decisions` shows them; composite ones are JSON arrays."""

    def decide(
        self, name: Spec, kind: str, *, target: object = None, source: object = None, reason: str
    ) -> dict[str, Any]:
        """Link or forbid a pair, or leave a record out; the next `match` takes account of it.

        Args:
            name: a reconciliation, or a spec.
            kind: link or forbid (of `target` and `source`), or exclude (of one of them).
            target: the target's key.
            source: the source's key.
            reason: why; kept with the decision.

        Raises:
            UsageError: no reason, or the wrong keys for this kind.
            NotFound: there is no such record.
            AlreadyExists, Contradicted: that was decided before, or otherwise.

        >>> said = bench.decide("rent_payments", "exclude", target=1483, reason="A deposit, not rent.")
        >>> said["kind"], said["target_key"], said["author"]
        ('exclude', '1483', 'ann')
        """
        keys = {side: None if key is None else str(key) for side, key in (("target", target), ("source", source))}
        return overrides.decide(self.database, self._spec(name), actor=self.actor, kind=kind, reason=reason, **keys)

    def decide_from(self, name: Spec, file: str | Path, reason: str | None = None) -> list[dict[str, Any]]:
        """Keep every decision of a CSV file (kind,target_key,source_key,reason), or none; `recon decide --from`.

        Args:
            name: a reconciliation, or a spec.
            file: in UTF-8.
            reason: for lines that give none.

        Raises:
            UsageError: the file cannot be read, or lines are wrong: each with its number and why.

        >>> _ = Path("said.csv").write_text("kind,target_key,source_key,reason\\nexclude,1484,,A deposit.\\n")
        >>> len(bench.decide_from("rent_payments", "said.csv"))
        1
        """
        path = Path(file).expanduser()
        return overrides.from_file(self.database, self._spec(name), path, self.actor, reason)

    def accept_pass(self, name: Spec, rule: str, reason: str) -> int:
        """Make a link of every pair that a pass proposed in the latest run; says how many. `recon decide --accept-pass`.

        Raises:
            UsageError: no reason.
            NotFound: there is no such pass, or no run.
            Stale: the latest run followed other rules.

        >>> bench.accept_pass("financial_transactions", "property_of_another_tenant", "The agent knows these tenants.")
        12
        """
        return overrides.accept_pass(self.database, self._spec(name), rule, self.actor, reason)

    def undo(
        self,
        name: Spec,
        *,
        target: object = None,
        source: object = None,
        rule: str | None = None,
        kind: str | None = None,
        reason: str,
    ) -> int:
        """Undo what was decided about these records, or accepted of this pass; says how much that was.

        Raises:
            UsageError: no reason, or nothing to go by.
            NotFound: nothing of the kind stands.

        >>> said = bench.decide("rent_payments", "exclude", target=1485, reason="A deposit, not rent.")
        >>> bench.undo("rent_payments", target=1485, reason="It is rent after all.")
        1
        """
        keys = {side: None if key is None else str(key) for side, key in (("target", target), ("source", source))}
        return overrides.undo(
            self.database, self._spec(name), actor=self.actor, reason=reason, pass_name=rule, kind=kind, **keys
        )

    def overrides(self, name: str) -> pd.DataFrame:
        """The decisions of people that stand, the oldest first; `recon decide --list`. Raises NotFound.

        >>> said = bench.decide("rent_payments", "exclude", target=1486, reason="A deposit, not rent.")
        >>> bench.overrides("rent_payments")[["kind", "target_key", "reason"]].tail(1).to_dict("records")
        [{'kind': 'exclude', 'target_key': '1486', 'reason': 'A deposit, not rent.'}]
        """
        found = overrides.listed(self.database, name)
        self._known(name, found)
        return table(found)

    def breaks(
        self, name: str, *, state: str | None = None, keys: Sequence[object] = (), rows: int | None = None
    ) -> pd.DataFrame:
        """What is not reconciled, since when, and who sees to it; the oldest first.

        Args:
            name: the reconciliation.
            state: open, assigned, resolved or all; None: open and assigned.
            keys: only of these records.
            rows: at most this many; None: all.

        Raises:
            NotFound: there is no such reconciliation.
            UsageError: there is no such state.

        >>> found = bench.breaks("financial_transactions")
        >>> len(found), found["outcome"].value_counts().to_dict()["ambiguous"]
        (32, 12)
        """
        found = open_breaks.listed(self.database, name, state, rows, [str(key) for key in keys])
        self._known(name, found)
        return table(found)

    def ageing(self, name: str) -> dict[str, int]:
        """How many breaks are open, by how long; days are whole.

        >>> bench.ageing("financial_transactions")["under 1 day"]
        32
        """
        with self.database.session(read_only=True) as session:
            found = open_breaks.ages(session, name)
        self._known(name, [count for count in found.values() if count])
        del found[open_breaks.AGES[0]]  # what is new is known to the run only
        return found

    def assign(self, name: str, who: str | None, keys: Sequence[object] | None = None) -> int:
        """Give open breaks to somebody; says how many changed hands. `recon breaks --assign`.

        Args:
            name: the reconciliation.
            who: who sees to them; None: nobody.
            keys: of these records; None: all open breaks.

        Raises:
            NotFound: there is no such reconciliation, or no such break; nothing is changed then.

        >>> bench.assign("financial_transactions", "bob", bench.breaks("financial_transactions")["key"][:2])
        2
        """
        texts = None if keys is None else [str(key) for key in keys]
        count = open_breaks.assign(self.database, name, who or "", self.actor, texts)
        self._known(name, range(count))
        return count

    def break_history(self, name: str, key: object) -> pd.DataFrame:
        """What happened to the break of one record; `recon breaks --history`. Raises NotFound.

        >>> first = bench.breaks("financial_transactions")["key"].iloc[0]
        >>> bench.break_history("financial_transactions", first)["event"].iloc[0]
        'opened'
        """
        return table(open_breaks.history(self.database, name, str(key)))

    def breaks_workbook(self, name: Spec, file: str | Path, *, state: str | None = None) -> int:
        """Write the breaks to an Excel file, with a summary; says how many. `recon breaks --excel`.

        Args:
            name: a reconciliation, or a spec.
            file: what stands there is replaced once the new one is whole.
            state: as for `breaks`.

        Raises:
            UsageError: the file cannot be written.

        >>> bench.breaks_workbook("financial_transactions", "breaks.xlsx")
        32
        """
        with written(Path(file).expanduser(), "file") as half:
            return workbook.write(self.database, self._spec(name), half, state=state, workspace=self.workspace)
