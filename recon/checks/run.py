"""Run a suite with Great Expectations on the live tables, and say honestly what passed, failed or proved nothing.

The library is quiet where it should not be: it drops an expectation that it does not know, passes an empty
suite and an empty table, and reports an expectation that raised as one that failed. Each is met here.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, Literal, LiteralString, cast

import psycopg
from sqlalchemy.pool import NullPool
from sqlglot import exp

from recon import libraries
from recon.checks import never, pairs, relation, suites
from recon.checks.suites import Suite
from recon.database import relations
from recon.database.connect import Database, Session
from recon.errors import CheckErrored, without_values
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.coverage import percent
from recon.names import DIALECT, identifier
from recon.spec import Reconciliation
from recon.workspace import Workspace

EXAMPLES = 20  # keys named for each check; the count says how many there are
ERROR_CHARACTERS = 300  # of what the library says when an expectation raises; the rest is the statement

Status = Literal["passed", "failed", "errored"]


@dataclass(frozen=True)
class CheckItem:
    """What one expectation found. An errored one proves nothing, neither right nor wrong."""

    name: str
    says: str
    kind: str  # coverage, right, never, or other for what people added
    status: Status
    observed: str
    unexpected: int
    examples: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class CheckResult:
    """What a suite found at one time (UTC)."""

    reconciliation: str
    at: datetime
    items: tuple[CheckItem, ...]

    def _with(self, status: Status) -> list[CheckItem]:
        return [item for item in self.items if item.status == status]

    @property
    def passed(self) -> list[CheckItem]:
        return self._with("passed")

    @property
    def failed(self) -> list[CheckItem]:
        return self._with("failed")

    @property
    def errored(self) -> list[CheckItem]:
        return self._with("errored")

    @property
    def success(self) -> bool:
        """Whether there are checks and all of them passed."""
        return bool(self.items) and len(self.passed) == len(self.items)

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON document."""
        return {
            "reconciliation": self.reconciliation,
            "at": self.at.isoformat(),
            "success": self.success,
            "items": [asdict(item) | {"examples": list(item.examples)} for item in self.items],
        }


def check(database: Database, workspace: Workspace, spec: Reconciliation) -> CheckResult:
    """Run the suite of a reconciliation, read-only.

    Raises:
        CheckErrored: nothing could be checked: no expectation, an unknown one, one that the spec asks for and
            the file lacks, no run of the whole where the spec sets no link, source keys that are not unique, or a library that does not load.
        SchemaMismatch, SpecError: the spec does not fit the database, or the suite's file cannot be read.
    """
    suite = suites.load(workspace, spec)
    if not suite["expectations"]:
        raise CheckErrored(
            f"There is nothing to check for {spec.name}.",
            why="Its suite is empty.",
            todo="An empty suite proves nothing: say what must be true under `expect` in the spec.",
        )
    at = datetime.now(UTC)
    decided = None if spec.link is not None else _decided(database, spec)
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        if spec.link is not None:
            _unique_source(session, bound)
        found = never.finding(session, bound)
    with _quiet():
        library = _library()
        loaded = _loaded(library, suite)
        if missing := suites.lacking(suite, spec):
            raise CheckErrored(
                f"The suite of {spec.name} does not hold what its spec expects: {', '.join(missing)}.",
                why="A check that is left out would count as passed.",
                todo=f"Delete {suites.own_path(workspace, spec)} to use what the spec asks, or add it there.",
            )
        query = relation.checked(bound) if decided is None else pairs.checked(bound, decided)
        named = {"recon_checked": query, **{never.relation_name(name): one for name, one in found.items()}}
        results = _validated(library, database, bound, loaded, named)
    with database.session(read_only=True) as session:
        items = [
            _item(session, bound, decided, expectation, results.get(position), found)
            for position, expectation in enumerate(suite["expectations"])
        ]
    return CheckResult(spec.name, at, tuple(items))


def _decided(database: Database, spec: Reconciliation) -> list[str]:
    """The latest run that looked at every record, or of each scope the latest. Raises CheckErrored where there is none."""
    if found := runs.of_all(database, spec.name):
        return found
    raise CheckErrored(
        f"Nothing was decided yet that could be checked for {spec.name}.",
        why="It sets no link: what a run of all its records decided takes its place.",
        todo=f"Run `recon match {spec.name}` first.",
    )


def _unique_source(session: Session, bound: Bound) -> None:
    if relations.is_unique(session, bound.source, bound.spec.source.keys):
        return
    if found := session.rows(relation.doubled_sources(bound).sql(DIALECT)):
        raise CheckErrored(
            f"{bound.source.label}: the key {bound.spec.source.keys[0]} is not unique.",
            why=f"At least two records have {found[0][0]!r}, so links to it cannot be counted.",
            todo="Remove the duplicates.",
        )


# -- the library -----------------------------------------------------------------------------------------


@contextmanager
def _quiet() -> Generator[None]:
    """The library logs what we report ourselves, and warns of what is its own to mend."""
    logger = logging.getLogger("great_expectations")
    propagate, silent = logger.propagate, logging.NullHandler()
    logger.propagate = False  # its modules set levels of their own
    logger.addHandler(silent)  # without any handler Python would write warnings to stderr
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            # Of add_sql: it would have us use add_postgres, which refuses some URLs.
            warnings.filterwarnings("ignore", message="You are using a generic SQLDatasource")
            yield
    finally:
        logger.removeHandler(silent)
        logger.propagate = propagate


def _library() -> ModuleType:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when it is imported; nothing is sent anywhere
    try:
        with libraries.lean():
            import great_expectations
    except (Exception, SystemExit) as error:  # a broken pyspark beside it makes its import call sys.exit(0)
        raise CheckErrored(
            "Great Expectations cannot be loaded.",
            why=f"Its import ended with {type(error).__name__}: {error}.",
            todo="Repair the installation; a pyspark beside it needs grpcio.",
        ) from error
    # It prints advice about queries that do not name their batch, and stdout is for our own answers.
    if module := sys.modules.get("great_expectations.expectations.core.unexpected_rows_expectation"):
        vars(module)["print"] = _unsaid
    return great_expectations


def _unsaid(*_said: object) -> None:
    """What the library would print."""


def _loaded(library: ModuleType, suite: Suite) -> Any:
    """The suite as the library's object, with every expectation of the file in it, marked with its position."""
    expectations = [
        {"type": item["type"], "kwargs": dict(item["kwargs"]), "meta": {**item["meta"], "position": position}}
        for position, item in enumerate(suite["expectations"])
    ]
    for position, item in enumerate(expectations):
        try:
            alone = library.ExpectationSuite(name="one", expectations=[item]).expectations
            why = "Great Expectations has no expectation of this type, and would leave it out without a word."
        except Exception as error:
            alone, why = [], _said(error)  # of the suite's file, which holds no record
        if len(alone) != 1:
            raise CheckErrored(
                f"Expectation {position + 1} cannot be used: {item['type']}.", why=why, todo="Correct it in the suite."
            )
    whole = library.ExpectationSuite(name=str(suite.get("name") or "suite"), expectations=expectations)
    if len(whole.expectations) != len(expectations):
        raise CheckErrored(
            f"Of {len(expectations)} expectations {len(whole.expectations)} were loaded.",
            why="What is left out would count as passed.",
        )
    return whole


def _validated(
    library: ModuleType, database: Database, bound: Bound, suite: Any, named: Mapping[str, exp.Query]
) -> dict[int, Any]:
    """The library's result of each expectation, by its position in the file; it knows the queries by their names."""
    try:
        context = library.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        source = context.data_sources.add_sql(
            name="database",
            connection_string="postgresql+psycopg://",
            create_temp_table=False,
            kwargs={
                "creator": _connector(database, {f'"{name}"': query.sql(DIALECT) for name, query in named.items()}),
                "poolclass": NullPool,
            },
        )
        asset = source.add_query_asset(name="checked", query=_QUERY)
        batch = asset.add_batch_definition_whole_table("all").get_batch()
        # Counts only: rows stay in the database, and examples are asked for below.
        found = batch.validate(suite, result_format={"result_format": "BASIC", "partial_unexpected_count": 0})
    except Exception as error:
        raise CheckErrored(why=_said(error, bound)) from error
    return {result.expectation_config.meta["position"]: result for result in found.results}


# The library reads SQL as sqlalchemy.text() and prints it again, how often depends on its version: `:name` becomes a
# bind parameter and % is doubled, also inside literals. So it knows each query by a name only.
_QUERY = 'SELECT * FROM "recon_checked" AS "checked"'


def _connector(database: Database, named: Mapping[str, str]) -> Callable[[], Any]:
    """Opens read-only connections in which each name, in its quotes, means its query.

    The library is handed open connections, so it never holds the URL with its password.
    """

    stand_ins = re.compile("|".join(map(re.escape, named)))

    class Cursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            if query.strip() == _QUERY:
                query += " LIMIT 0"  # it asks for the columns; without a limit every row would come into memory

            def meant(name: re.Match[str]) -> str:
                sql = named[name[0]]
                # With parameters psycopg reads %% as %.
                return f"({sql if params is None else sql.replace('%', '%%')})"

            return super().execute(cast(LiteralString, stand_ins.sub(meant, query)), params, **options)

    def connect() -> Any:
        pooled = database.engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()  # so that it stays open when `pooled` goes
        connection.read_only = True
        connection.cursor_factory = Cursor
        return connection

    return connect


def _said(error: object, bound: Bound | None = None) -> str:
    """The first line of what went wrong; the statement and its values stay out of it, and private ones wholly.

    Results are kept and shown to everybody, so nobody sees more.
    """
    text = str(error).strip()
    lines = (without_values(text) if bound and bound.private else text).splitlines()
    return (lines[0] if lines else type(error).__name__)[:ERROR_CHARACTERS]


# -- results ---------------------------------------------------------------------------------------------


def _item(
    session: Session,
    bound: Bound,
    decided: list[str] | None,
    expectation: dict[str, Any],
    result: Any,
    found: Mapping[str, exp.Select],
) -> CheckItem:
    meta = expectation["meta"]
    name = str(
        meta.get("name") or " ".join([expectation["type"], str(expectation["kwargs"].get("column", ""))]).strip()
    )
    says, kind = str(meta.get("says") or name), str(meta.get("kind") or "other")
    error = _raised(result, bound)
    if error is not None:
        return CheckItem(name, says, kind, "errored", "", 0, error=error)
    document: dict[str, Any] = result.result
    status: Status = "passed" if result.success else "failed"
    unexpected = int(document.get("unexpected_count") or 0)  # None where there is no row
    if kind == "never" and name in found:
        count = int(document["observed_value"])
        named = never.examples(session, found[name], EXAMPLES) if count else ()
        return CheckItem(name, says, kind, status, f"{count} found", count, named)
    if document.get("element_count") is None:
        return CheckItem(name, says, kind, status, str(document.get("observed_value", "")), unexpected)
    whole = int(document["element_count"]) - int(document.get("missing_count") or 0)
    if kind == "coverage" and whole == 0:
        # The library passes an empty table, and a `where` that selects nothing with it.
        return CheckItem(name, says, kind, "errored", "0 of 0", 0, error="There is no record to check.")
    examples = _examples(session, bound, decided, expectation) if unexpected else ()
    return CheckItem(name, says, kind, status, observed(whole - unexpected, whole), unexpected, examples)


def observed(right: int, whole: int) -> str:
    """A count with its share.

    >>> observed(125, 135), observed(0, 0)
    ('125 of 135 (92.6 %)', '0 of 0')
    """
    return f"{right} of {whole} ({percent(right / whole)})" if whole else "0 of 0"


def _raised(result: Any, bound: Bound) -> str | None:
    """Why an expectation has no answer; None where it came to one, right or wrong."""
    if result is None:
        return "It gave no result."
    info: dict[str, Any] = result.exception_info or {}
    # One expectation has one such record, or one for each metric that it needed.
    for part in [info, *[value for value in info.values() if isinstance(value, dict)]]:
        if part.get("raised_exception"):
            return _said(part.get("exception_message") or "It raised an error.", bound)
    return None if result.success or result.result else "It gave no result."


def _examples(
    session: Session, bound: Bound, decided: list[str] | None, expectation: dict[str, Any]
) -> tuple[str, ...]:
    """Keys of records that do not keep an expectation, by SQL of our own: the library would fetch every row."""
    kwargs = expectation["kwargs"]
    if set(kwargs) - {"column", "value_set", "mostly"}:
        return ()  # a row_condition, say, of which our query would know nothing
    column = exp.Column(this=identifier(kwargs["column"]), table=identifier("checked"))
    if expectation["type"] == suites.NOT_NULL:
        condition: exp.Expr = exp.Is(this=column, expression=exp.Null())
    elif expectation["type"] == suites.IN_SET and kwargs["value_set"] == [True]:
        condition = exp.not_(column)
    else:
        return ()
    if decided is not None:
        return tuple(row[0] for row in session.rows(pairs.examples(bound, decided, condition, EXAMPLES)))
    rows = session.rows(relation.examples(bound, condition, EXAMPLES).sql(DIALECT))
    return tuple(_key(row) for row in rows)


def _key(parts: tuple[Any, ...]) -> str:
    """A key as text; a composite one as a JSON array, as everywhere."""
    if len(parts) == 1:
        return str(parts[0])
    return json.dumps([value if isinstance(value, (int, str, type(None))) else str(value) for value in parts])
