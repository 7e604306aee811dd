"""Tables of one run or plan, in a database that has recon's roles: who owns and who may read them.

What the script of `recon database roles` makes is all that there is to know: the function recon.hand_over belongs to the
owner's role, and the plan role is the one that may call it.
"""

from __future__ import annotations

from recon.database import tables
from recon.database.connect import Session
from recon.names import DIALECT, quote

# The plan role, where there are roles and the acting user is a member of it.
_PLANNER = """
    SELECT rolname::text FROM pg_proc, aclexplode(proacl) AS given JOIN pg_roles ON pg_roles.oid = given.grantee
    WHERE pg_proc.oid = to_regprocedure('recon.hand_over(text)') AND given.grantee <> proowner
      AND pg_has_role(current_user, given.grantee, 'MEMBER')
"""


def share_decisions(session: Session, run: str) -> None:
    """Make a run's decisions the plan role's, so that every member of it may plan from them and forget them."""
    _to_planner(session, [tables.own("decisions", run).sql(DIALECT)])


def hand_over(session: Session, plan: str) -> None:
    """Give a plan's tables to the owner's role: from then on the plan role reads them, and nobody edits what is staged.

    Raises:
        psycopg.errors.RaiseException: the tables hold more than recon makes.
    """
    if _to_planner(session, [tables.own(kind, plan).sql(DIALECT) for kind in ("staged", "ledger")]):
        session.execute("SELECT recon.hand_over($1)", plan)


def _to_planner(session: Session, names: list[str]) -> bool:
    planner = session.value(_PLANNER)
    if planner is None:
        return False
    for name in names:
        session.execute(f"ALTER TABLE {name} OWNER TO {quote(planner)}")
    return True
