"""Lint of a bundle: what no script of a plan may do, and what a reviewer should know of the table.

Every bundle goes through the rules when it is planned, when it is approved and before anything is written. They look at
the script as a tree, so that a name or a value that looks like SQL is a name or a value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

from sqlglot import exp

from recon.allowed import QUERY_FUNCTIONS, called
from recon.backfill import bundle, script_tree
from recon.backfill.bundle import MANIFEST, SCRIPTS
from recon.backfill.script_tree import Script, bounded, compared, conditions, written, written_columns
from recon.errors import LintRefused

Severity = Literal["refuse", "warn"]
Subject = TypeVar("Subject")

READING, WRITING = ("dry_run.sql", "verify.sql"), ("execute.sql", "revert.sql")
# What our scripts call beside what the rules of a spec may; `collate` is no function, but reads as one.
FUNCTIONS = QUERY_FUNCTIONS | {"row", "hash_record_extended", "sha256", "convert_to", "clock_timestamp", "collate"}
LONGEST_LOCK_TIMEOUT, LONGEST_STATEMENT_TIMEOUT = 60_000, 3_600_000  # milliseconds; longer is as good as none
SEARCH_PATH = "pg_catalog, pg_temp"  # where nobody can put a function or an operator of their own
SETTINGS = frozenset(
    "search_path lock_timeout statement_timeout idle_in_transaction_session_timeout enable_seqscan jit synchronous_commit".split()
)
MANY_FINDINGS = 5  # named in an error
KEPT = 16  # bundles, a few pages of text each, whose findings are kept


@dataclass(frozen=True)
class Rule(Generic[Subject]):
    """One rule: where it looks, how grave it is, what finds the fault, and how it is mended."""

    name: str
    where: tuple[str, ...]
    severity: Severity
    check: Callable[[Subject], Iterable[str]]  # each answer is one fault, the rest of a sentence about the script
    todo: str


@dataclass(frozen=True)
class Finding:
    """A rule that was broken, or something that a reviewer should know."""

    rule: str
    where: str
    severity: Severity
    what: str
    todo: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


# -- the checks ------------------------------------------------------------------------------------------


def _one_statement(script: Script) -> Iterator[str]:
    if not script.readable:
        yield "holds a text that cannot be told where it ends"
    elif len(script.statements) != 1:
        begins = (script.body.split(maxsplit=1) or ["nothing"])[0].upper()
        yield f"is not one statement that can be read (it begins with {begins})"
    elif not isinstance(script.tree, (exp.Query, exp.Insert, exp.Update, exp.Delete)):
        yield f"is a {type(script.tree).__name__.upper()}"


def _title_only(script: Script) -> Iterator[str]:
    # To PostgreSQL a carriage return ends the comment as well, so nothing but plain characters may stand there.
    if not script.title.startswith("-- ") or not script.title.isprintable():
        yield "does not begin with one line that says what it does"
    if script.comments:
        yield f"has a comment below its title ({script.comments[0].strip()[:40]})"


def _only_reads(script: Script) -> Iterator[str]:
    for node in script.tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Lock):
        yield f"must only read, and has {type(node).__name__.upper()}"
    if script.tree.find(exp.Parameter):
        yield "must take no parameters"


def _no_detours(script: Script) -> Iterator[str]:
    for node in script.tree.find_all(exp.Into, exp.Merge, exp.Operator, exp.Command, exp.TableSample):
        yield f"has {type(node).__name__.upper()}"


def _known_functions(script: Script) -> Iterator[str]:
    for name in called(script.tree):
        if name not in FUNCTIONS:
            yield f"calls {name}()"


def _full_names(script: Script) -> Iterator[str]:
    for table in script.tree.find_all(exp.Table):
        if isinstance(table.this, exp.Identifier) and not table.db and table.name not in script.ctes:
            yield f"names {table.name} without its schema"
        if table.catalog:
            yield f"names {table.name} with its database"
    for dot in script.tree.find_all(exp.Dot):
        if isinstance(dot.expression, exp.Func):
            yield f"calls a function of a schema ({dot.expression.name})"


def _own_tables(script: Script) -> Iterator[str]:
    for table in script.tree.find_all(exp.Table):
        # A name without quotes is read in small letters; one without a schema may be found in PostgreSQL's own.
        schema = table.args.get("db")
        name = table.db if schema is None or schema.args.get("quoted") else table.db.lower()
        if (name or table.name).lower().startswith("pg_") or name.lower() == "information_schema":
            yield f"reads the system table {table.name}"
        if name == script.staged[0] and (table.db, table.name) not in (script.staged, script.ledger):
            yield f"uses {table.db}.{table.name}, which is not this plan's"


def _target_only(script: Script) -> Iterator[str]:
    own = exp.Update if script.name == "revert.sql" else exp.Insert
    for write in script.writes:
        name = written(write)
        if name != script.target and not (name == script.ledger and isinstance(write, own)):
            yield f"has {type(write).__name__.upper()} of {'.'.join(name)}"


def _listed_columns(script: Script) -> Iterator[str]:
    for write in script.writes:
        if written(write) == script.ledger:
            allowed = {"reverted_at"} if isinstance(write, exp.Update) else None
        else:
            allowed = {*script.columns, *(script.keys if isinstance(write, exp.Insert) else ())}
            if isinstance(write, exp.Insert) and not written_columns(write):
                yield "inserts rows without naming their columns"
        for name in written_columns(write):
            if allowed is not None and name not in allowed:
                yield f'writes the column "{name}"'


def _inserts_new_rows(script: Script) -> Iterator[str]:
    for write in script.changes(exp.Insert):
        conflict = write.args.get("conflict")
        if not script.inserts or script.name != "execute.sql":
            yield "inserts rows, which the plan does not"
        elif conflict is None or conflict.args.get("expressions") or conflict.text("action") != "DO NOTHING":
            yield "inserts rows without ON CONFLICT DO NOTHING"


def _deletes_own_rows(script: Script) -> Iterator[str]:
    for write in script.changes(exp.Delete):
        if script.name != "revert.sql" or not script.inserts:
            yield "deletes rows, which only the revert of a plan that inserts may"
            continue
        target, ledger = write.this.alias_or_name, script.alias_of(script.ledger, write)
        if not any(_untouched(condition, target, ledger) for condition in conditions(write)):
            yield "deletes rows that somebody may have changed since"


def _untouched(condition: exp.Expr, target: str, ledger: str | None) -> bool:
    """Whether a condition compares the digest of the whole row with the one that was recorded."""
    if not isinstance(condition, (exp.EQ, exp.NullSafeEQ)):
        return False
    sides = (condition.this, condition.expression)
    for kept, now in (sides, sides[::-1]):
        inside = {column.table for column in now.find_all(exp.Column)}
        if isinstance(kept, exp.Column) and (kept.table, kept.name) == (ledger, "row_digest") and inside == {target}:
            return now.find(exp.Func) is not None and "sha256" in called(now)
    return False


def _guarded(script: Script) -> Iterator[str]:
    side = "after" if script.name == "revert.sql" else "before"
    for write in script.changes(exp.Update):
        target, recorded = write.this.alias_or_name, script.alias_of(script.recorded, write) or ""
        held = {compared(item) for item in conditions(write) if isinstance(item, exp.NullSafeEQ)}
        for column in written_columns(write):
            if frozenset({(target, column), script.image(recorded, side, column)}) not in held:
                yield f'writes "{column}" without comparing it with its {side} image'


def _recorded_values(script: Script) -> Iterator[str]:
    side = "before" if script.name == "revert.sql" else "after"
    for write in script.changes(exp.Update):
        recorded = script.alias_of(script.recorded, write) or ""
        for item, column in zip(write.expressions, written_columns(write), strict=True):
            value = item.expression
            named = (value.table, value.name) if isinstance(value, exp.Column) else None
            if named != script.image(recorded, side, column):
                yield f'gives "{column}" another value than its {side} image'


def _same_row(script: Script) -> Iterator[str]:
    for write in script.changes(exp.Update, exp.Delete):
        target, recorded = write.this.alias_or_name, script.alias_of(script.recorded, write) or ""
        names = script_tree.key_names(script)
        held = {compared(item) for item in conditions(write) if isinstance(item, exp.EQ)}
        for key, name in zip(script.keys, names, strict=True):
            if frozenset({(target, key), (recorded, name)}) not in held:
                yield f'does not compare the key "{key}" with the recorded one'


def _bounded(script: Script) -> Iterator[str]:
    for write in script.changes():
        if isinstance(write, exp.Insert):
            # Its rows may come from the recorded ones by other WITH queries; there is no key yet to be bounded.
            if not script_tree.from_places(script, write):
                yield "inserts rows without holding their places within $1 and $2"
            continue
        if not script_tree.in_places(script, write):
            yield f"does not hold its places within $1 and $2 ({type(write).__name__.upper()})"
        keys = [(write.this.alias_or_name, key) for key in script.keys]
        for side, first, word in ((exp.GTE, 3, "lowest"), (exp.LTE, 3 + len(keys), "highest")):
            if not any(bounded(item, side, keys, first) for item in conditions(write)):
                yield f"does not bound the key of the target by the {word} of the batch"


def _recorded(script: Script) -> Iterator[str]:
    """What is written goes to the ledger in the same statement; what is undone is marked there, and undone once."""
    if script.name == "execute.sql":
        kept = script_tree.reached(script, (w for w in script.writes if written(w) == script.ledger))
        for write in script.changes():
            if (
                not isinstance(write.parent, exp.CTE)
                or write.parent.alias not in kept
                or not write.args.get("returning")
            ):
                yield f"has {type(write).__name__.upper()} without a row in the ledger"
        for write in script.writes:
            if written(write) == script.ledger and write.args.get("conflict"):
                yield "may change rows that are in the ledger"
        return
    if not any(written(write) == script.ledger for write in script.writes):
        yield "does not mark in the ledger what it undid"
    for write in script.writes:
        if written(write) == script.ledger and not script_tree.marks_undone(script, write):
            yield "marks rows in the ledger that it did not undo"
    for write in script.changes():
        open_rows = exp.Is(this=exp.column("reverted_at", script.alias_of(script.ledger, write)), expression=exp.Null())
        if not any(_same(condition, open_rows) for condition in conditions(write)):
            yield "may undo twice what was undone"


def _same(tree: exp.Expr, other: exp.Is) -> bool:
    held = tree.this if isinstance(tree, exp.Is) and isinstance(tree.expression, exp.Null) else None
    wanted = other.this
    return isinstance(held, exp.Column) and (held.table, held.name) == (wanted.table, wanted.name)


def _session(document: Mapping[str, Any]) -> Iterator[str]:
    session: Mapping[str, Any] = document.get("session") or {}
    for name, most in (("lock_timeout", LONGEST_LOCK_TIMEOUT), ("statement_timeout", LONGEST_STATEMENT_TIMEOUT)):
        value = str(session.get(name, ""))
        if not value.isdecimal() or not 0 < int(value) <= most:
            yield f"states no {name} between 1 and {most:,} ms"
    if session.get("search_path") != SEARCH_PATH:
        yield f"states another search_path than {SEARCH_PATH}"
    for name in session:
        if name not in SETTINGS:
            yield f"sets {name}"


# -- the rules -------------------------------------------------------------------------------------------

_AGAIN = "Make a new plan with `recon plan`; a script is not edited by hand."

RULES: tuple[Rule[Script], ...] = (
    Rule("one statement", SCRIPTS, "refuse", _one_statement, "Keep one SELECT, INSERT, UPDATE or DELETE."),
    Rule("title only", SCRIPTS, "refuse", _title_only, "Keep the first line and take every other comment out."),
    Rule("only reads", READING, "refuse", _only_reads, "Take out what writes or locks: it belongs into execute.sql."),
    Rule("no detours", SCRIPTS, "refuse", _no_detours, "Take out INTO, MERGE, OPERATOR(…) and TABLESAMPLE."),
    Rule("known functions", SCRIPTS, "refuse", _known_functions, "Call functions that give the same answer every time."),
    Rule("full names", SCRIPTS, "refuse", _full_names, "Name every table as schema.table, and functions alone."),
    Rule("own tables", SCRIPTS, "refuse", _own_tables, "Use the staged rows and the ledger of this plan only."),
    Rule("target only", WRITING, "refuse", _target_only, "Write the target and this plan's ledger only."),
    Rule("listed columns", WRITING, "refuse", _listed_columns, "Write the columns that plan.json lists only."),
    Rule("inserts new rows", WRITING, "refuse", _inserts_new_rows, "Insert with ON CONFLICT DO NOTHING."),
    Rule("deletes own rows", WRITING, "refuse", _deletes_own_rows, "Delete where the row's digest is the ledger's."),
    Rule("guarded", WRITING, "refuse", _guarded, "Add: target.column IS NOT DISTINCT FROM its recorded image."),
    Rule("recorded values", WRITING, "refuse", _recorded_values, "Take each value from the recorded rows as it is."),
    Rule("same row", WRITING, "refuse", _same_row, "Add: target.key = the recorded target_key."),
    Rule("bounded", WRITING, "refuse", _bounded, "Bound the place by $1 and $2, and the key by the parameters after."),
    Rule("recorded", WRITING, "refuse", _recorded, "Write and mark ledger rows in the same statement."),
)  # fmt: skip

PLAN_RULES: tuple[Rule[Mapping[str, Any]], ...] = (
    Rule("timeouts", (MANIFEST,), "refuse", _session, f"Its `session` bounds both timeouts. {_AGAIN}"),
)


def of_bundle(document: Mapping[str, Any], texts: Mapping[str, str]) -> list[Finding]:
    """What the rules find in the scripts and the plan.json of a bundle; looks at nothing else.

    Args:
        document: plan.json.
        texts: file name to text of the scripts that there are; one that is absent is left out.
    """
    scripts = tuple((name, texts[name]) for name in SCRIPTS if name in texts)
    return list(_of_texts(bundle.canonical(document), scripts))


@lru_cache(maxsize=KEPT)
def _of_texts(manifest: str, scripts: tuple[tuple[str, str], ...]) -> tuple[Finding, ...]:
    """A plan is linted five times from its making to its last batch, and as long as no letter changes nothing else does."""
    document = json.loads(manifest)
    found = [
        Finding(rule.name, MANIFEST, rule.severity, what, rule.todo)
        for rule in PLAN_RULES
        for what in rule.check(document)
    ]
    for name, text in scripts:
        found += _of_script(Script(name, text, document))
    return tuple(found)


def _of_script(script: Script) -> Iterator[Finding]:
    for rule in RULES:
        if script.name not in rule.where:
            continue
        faults = list(dict.fromkeys(rule.check(script)))
        yield from (Finding(rule.name, script.name, rule.severity, what, f"{rule.todo} {_AGAIN}") for what in faults)
        if faults and rule.name == "one statement":
            return  # there is no tree that the others could look at


def refused(found: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.severity == "refuse"]


def refuse(document: Mapping[str, Any], texts: Mapping[str, str]) -> None:
    """Refuse a bundle that breaks a rule. Raises LintRefused, which names the first faults."""
    found = refused(of_bundle(document, texts))
    if not found:
        return
    first, *others = found
    more = [f"{finding.where} {finding.what}" for finding in others[: MANY_FINDINGS - 1]]
    left = len(others) - len(more)
    raise LintRefused(
        f"{first.where} {first.what}.",
        why="; ".join(more) + (f"; and {left} more" if left else "") + "." if more else "",
        todo=first.todo,
    )
