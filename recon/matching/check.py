"""Connection, spec, records and candidate pairs, looked at before any work; nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from recon.database.connect import Database
from recon.errors import SchemaMismatch
from recon.matching import candidates, findings, probe
from recon.matching.bind import bind
from recon.matching.candidates import MAX_PAIRS, PassPairs
from recon.matching.findings import Finding
from recon.matching.profile import Profile, SideProfile, profile
from recon.spec import Reconciliation


@dataclass(frozen=True)
class Checked:
    """What a check found. `limit` is how many candidate pairs a pass may make."""

    database: str
    server: str  # such as "PostgreSQL 18.1"
    profile: Profile
    pairs: tuple[PassPairs, ...]
    limit: int
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def refused(self) -> tuple[str, ...]:
        """The passes that would not run."""
        return tuple(item.name for item in self.pairs if item.pairs > item.allowed(self.limit))

    @property
    def clean(self) -> bool:
        """Whether there is nothing worse than notes."""
        return all(finding.severity == "note" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon check --json`."""
        values = {item.name: asdict(item) for item in self.profile.passes}
        return {
            "reconciliation": self.profile.reconciliation,
            "database": {"name": self.database, "server": self.server},
            "clean": self.clean,
            "target": _side(self.profile.target),
            "source": _side(self.profile.source),
            "passes": [
                {
                    **values.get(item.name, {"name": item.name, "on": []}),
                    "candidates": {key: value for key, value in item.as_dict().items() if key != "name"},
                    "refused": item.name in self.refused,
                }
                for item in self.pairs
            ],
            "limit": self.limit,
            "findings": [finding.as_dict() for finding in self.findings],
            "seconds": round(self.seconds, 3),
        }


def check(
    database: Database,
    spec: Reconciliation,
    tell: Callable[[str], None] = lambda _: None,
    limit: int = MAX_PAIRS,
    *,
    shows_private: bool = False,
) -> Checked:
    """Look at everything that a run would build on, in the order in which it would fail.

    Args:
        database: where the records are.
        spec: the reconciliation.
        tell: is told what is being looked at.
        limit: how many candidate pairs a pass may make.
        shows_private: whether values of private columns may be seen (`workspace.sees_private`).

    Raises:
        DatabaseUnreachable: no connection; says whether host, port, password or database is the cause.
        SchemaMismatch, SpecError: the spec and the database do not fit; names the table, column or expression.
    """
    began = perf_counter()
    with database.session(read_only=True) as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # all counts are of one moment
        info = session.driver.info
        try:
            bound = bind(session, spec, shows_private=shows_private)
        except SchemaMismatch as error:
            raise probe.with_values(session, spec, error, shows_private=shows_private) from error
        found = profile(session, bound, tell)
        pairs: list[PassPairs] = []
        for rule in bound.passes:
            tell(f"Counting candidate pairs of pass {rule.name}")
            pairs.append(candidates.count(session, bound, rule))
        version = info.server_version
        return Checked(
            info.dbname,
            f"PostgreSQL {version // 10_000}.{version % 10_000}",
            found,
            tuple(pairs),
            limit,
            findings.find(bound, found, pairs, limit),
            perf_counter() - began,
        )


def _side(side: SideProfile) -> dict[str, Any]:
    """A side with the share of records that have each column filled; None without records."""
    document = asdict(side)
    for column in document["columns"]:
        column["share_filled"] = column["filled"] / side.records if side.records else None
    return document
