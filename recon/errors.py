"""Everything that can go wrong, as a list.

Each error says what happened, why, and what to do next. The class docstring is the sentence used when nothing more
exact is known, `because` and `next_step` are the reason and the advice used where the one who raises gives none; the
exit code is the one the command line ends with. docs/reference/errors.md is made from this list.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

# The codes that the command line ends with, and what each tells a script.
EXIT_CODES = {
    0: "Done and as expected.",
    1: "Failed: the machine, the database or an outside system did not do what it was asked, or a check found faults.",
    2: "Wrong usage or a spec that cannot be used: correct the command, the spec or a setting, then run it again.",
    3: "Done, but breaks remain, a check fell short, or a person is awaited.",
    4: "Refused: not approved, stale, locked, over a cap, or what else a rule forbids.",
    130: "Stopped from the keyboard or by a signal.",
}


class ReconError(Exception):
    """Something went wrong: what all of the list have in common."""

    exit_code: int = 1
    because: ClassVar[str] = "Nothing more is known about it."
    next_step: ClassVar[str] = "Try it again; RECON_DEBUG=1 shows where it happens."

    def __init__(self, what: str | None = None, *, why: str = "", todo: str = "") -> None:
        self.what = what or (type(self).__doc__ or "").strip()
        self.why = why  # as it was given: those who quote an error in a sentence of their own want no more
        self.todo = todo
        super().__init__(self.what)

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.why, self.todo) if part)

    @property
    def parts(self) -> tuple[str, str, str]:
        """What happened, why, and what to do next, as people are told it: none of the three is empty."""
        return self.what, self.why or self.because, self.todo or self.next_step

    def as_dict(self) -> dict[str, Any]:
        """The error as a document for `--json`: its name and its three parts."""
        what, why, todo = self.parts
        return {"error": type(self).__name__, "what": what, "why": why, "next": todo}


# -- usage and specs: exit code 2 ------------------------------------------------------------------------


class UsageError(ReconError):
    """The command was called in a way it cannot follow."""

    exit_code = 2
    because = "recon does what it is asked or nothing: it does not guess what was meant."
    next_step = "Correct what is named here; `recon --help` lists the commands, and each has a `--help` of its own."


class SpecError(ReconError):
    """The spec cannot be used as it is written."""

    exit_code = 2
    because = "A spec is used only when all of it can be read and makes sense."
    next_step = (
        "Correct the file; `recon schema` lists every field with its meaning, and `recon check NAME` tries it again."
    )


class NotFound(ReconError):
    """Nothing has this name."""

    exit_code = 2
    because = "Names and keys are looked up exactly as they are written."
    next_step = "Look for the name in `recon list`, `recon runs` or `recon plans`."


class SchemaMismatch(ReconError):
    """The database does not have what the spec names."""

    exit_code = 2
    because = "The tables, columns and types that a spec names must be there before anything is compared."
    next_step = "Correct the spec or the database; `recon check NAME` says whether they agree."


class NotLoaded(SchemaMismatch):
    """The records of a side were not loaded yet."""

    because = "They come from a file or an outside system, and nothing has brought them in."
    next_step = "Run `recon load NAME` first."


class AlreadyExists(ReconError):
    """This would replace something that exists."""

    exit_code = 2
    because = "recon overwrites nothing that it did not make itself."
    next_step = "Move away what is there, or give another name."


class MissingExtra(ReconError):
    """A library that this needs is not installed."""

    exit_code = 2
    because = "The core is installed without it, to stay small."
    next_step = 'Install all that recon can use: pip install "recon-workbench[all]"'


# -- the machine and the database: exit code 1 -----------------------------------------------------------


class DatabaseUnreachable(ReconError):
    """The database cannot be reached."""

    because = "No server answers at the URL, or it does not let this user in."
    next_step = "Check RECON_DATABASE_URL or --database, and that the server runs; then do the same again."


class DatabaseFailed(ReconError):
    """The database refused a statement."""

    because = "What the server was asked cannot be done there."
    next_step = "Read what the server says. What was not committed was not kept, so the same can be done again."


class EmbeddedUnavailable(ReconError):
    """The embedded PostgreSQL cannot be started."""

    because = "It is a server of its own in the workspace's `.recon/`, and needs a place and rights there."
    next_step = "Look at its log in `.recon/`, or use a server of yours: set RECON_DATABASE_URL."


class LoadFailed(ReconError):
    """The records could not be loaded; nothing was kept."""

    because = "Records are taken in all together or not at all."
    next_step = "Correct what is named here in the file or at its origin, and load it again."


class BadRows(LoadFailed):
    """Some rows of a file are not as they should be; nothing was loaded."""

    because = "A value does not fit the type of its column, or a row has another number of fields."
    next_step = "Correct these rows or the types under `columns`, and load the file again."

    def __init__(
        self, what: str, rows: Sequence[tuple[int, str]], count: int, *, row: str = "line", todo: str = ""
    ) -> None:
        """Tell them by line.

        Args:
            what: the file, and what became of it.
            rows: the first of them: the line in the file, and what is wrong there.
            count: how many there are.
            row: what the number of a line is called: a row, in a sheet.
            todo: what to do next.
        """
        self.rows, self.count = tuple(rows), count
        told = [f"{row} {line:,}: {wrong}" for line, wrong in rows]
        more = count - len({line for line, _ in rows})
        super().__init__(what, why="\n".join([*told, *([f"… and {more:,} more."] if more else [])]), todo=todo)

    def as_dict(self) -> dict[str, Any]:
        return {
            **super().as_dict(),
            "count": self.count,
            "rows": [{"line": line, "wrong": wrong} for line, wrong in self.rows],
        }


class Unreadable(LoadFailed):
    """The body is JSON that PostgreSQL cannot keep."""

    because = "A text in it holds a NUL or half a character."
    next_step = "Send it without these characters."


class CheckErrored(ReconError):
    """A check could not be carried out, so it proves nothing."""

    because = "A check that raises an error has seen neither a right nor a wrong record."
    next_step = "Correct the cause and check again; the plan keeps the state that it has."


class VerifyFailed(ReconError):
    """What was written is not what was signed."""

    because = "Rows do not hold the values of the plan: somebody changed them, or they were never written."
    next_step = "See which rows with `recon verify PLAN`; `recon revert PLAN` restores what the plan changed."


class ReportFailed(ReconError):
    """The notebook of a report or of a run failed."""

    because = "A cell of it raised an error."
    next_step = "Look at the notebook as far as it came, in reports/; correct the cause and run it again."


class OutsideFailed(ReconError):
    """An outside system did not do what it was asked."""

    because = "It answered with an error, not in time, or not in the form that was agreed."
    next_step = "Try again later; if it stays so, ask who runs that system."


class OutsideDenied(OutsideFailed):
    """An outside system does not accept the credential."""

    because = "The credential is missing, wrong, expired, or lacks a right."
    next_step = "Set the credential that is named here, in the environment or in .env."


class OutsideUnsure(OutsideFailed):
    """Nobody knows whether an outside system did what it was asked; its records are read again."""

    because = "The connection ended after the request was sent and before it was answered."
    next_step = "Run the same again: what was done is found there and not done twice."


class OutsideLeft(OutsideFailed):
    """Some records of an outside system were not written; the others were."""

    because = "The outside system refused them, or they changed there since the plan was made."
    next_step = "See which and why in what is listed; `recon apply PLAN --execute` tries what is left again."

    def __init__(self, what: str, *, why: str = "", todo: str = "", outside: Mapping[str, Any]) -> None:
        super().__init__(what, why=why, todo=todo)
        self.outside = outside  # what `recon apply --json` says of them

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "outside": dict(self.outside)}


class SyncFailed(OutsideFailed):
    """The mirror could not be brought in step."""

    because = "A part of the run failed; what was brought in step before is kept."
    next_step = "See the run with `recon sync NAME --runs`; the next tick tries again."


class NoPlace(ReconError):
    """A file or a folder cannot be written or read: a full disk, a right that is missing."""

    because = "The disk is full, or the right to write or read there is missing."
    next_step = "Make room or give the right, and try again."


class OutOfMemory(ReconError):
    """There is not enough memory."""

    because = "This machine gave no more to recon, or to the server."
    next_step = "End other programs or take fewer records at a time, and do the same again."


class OutputClosed(ReconError):
    """Who read the output stopped reading it."""

    because = "A pipe was closed, as by `head`; not everything was told."
    next_step = "Write into a file where all of it is needed."


class Interrupted(ReconError):
    """It was stopped from the keyboard or by a signal."""

    exit_code = 130  # as shells say of SIGINT
    because = "What was committed is kept, the rest is not."
    next_step = "Give the same command again: it begins anew, or carries on where it stopped."


class Unforeseen(ReconError):
    """Something unforeseen went wrong."""

    because = "It is likely a fault of recon: this list does not have it."
    next_step = "Set RECON_DEBUG=1 to see where, and report it."


# -- the service: who asks ------------------------------------------------------------------------------


class TokenRefused(ReconError):
    """The bearer token is not accepted."""

    because = "It is missing, malformed, expired, or signed with another key."
    next_step = "Get a new one from who runs the service; `recon token` makes them."


class NoKey(ReconError):
    """Nobody is let in: no key for tokens is set."""

    because = "Without a key no token can be proven."
    next_step = "Set RECON_JWT_SECRET and start the service again."


# A path that leads nowhere, which is no matter of room or rights.
_NO_WAY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_OF_PLACES = (
    *_NO_WAY,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EFBIG,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
)


def of_place(error: BaseException) -> NoPlace | None:
    """What the system said of a file, as an error of ours; None where it is about something else."""
    if not isinstance(error, OSError) or error.errno not in _OF_PLACES:
        return None
    if error.errno == errno.ENOENT and not error.filename:
        return None  # of what is not there the name is all that could be said
    where = f"{error.filename} cannot be used." if error.filename else "A file could not be written."
    todo = "Check the path: each folder of it must be there." if error.errno in _NO_WAY else NoPlace.next_step
    return NoPlace(where, why=f"The system says: {error.strerror}.", todo=todo)


# -- refusals: exit code 4 -------------------------------------------------------------------------------


class Refused(ReconError):
    """This is not allowed."""

    exit_code = 4
    because = "It could do harm that is hard to undo."
    next_step = "Read what is named here before anything else."


class NotApproved(Refused):
    """The plan has no valid sign-off."""

    because = "Nothing is written without the approval of somebody else than the plan's author."
    next_step = "Ask a reviewer to run `recon approve PLAN`; `recon plans` shows what each plan waits for."


class BundleChanged(Refused):
    """The bundle is not the one that was planned."""

    because = "A file differs from what was planned: what would be written is not what people read and signed."
    next_step = "Make a new plan with `recon plan NAME`, and have it signed."


class LintRefused(Refused):
    """A script of the bundle does what no script of a plan may do."""

    because = "Scripts of a plan change the planned rows and columns, within guards and time limits, and nothing else."
    next_step = "Make a new plan with `recon plan NAME`; do not edit scripts by hand."


class Stale(Refused):
    """Rows changed since the plan was made."""

    because = "The plan would write over what others changed meanwhile."
    next_step = "Run `recon match NAME` and `recon plan NAME` again."


class SlowPlan(Refused):
    """A batch would read the whole of a large table."""

    because = "The server has no index by which it finds the rows of a batch."
    next_step = "Create an index on the key, run ANALYZE on the table, and try again."


class Locked(Refused):
    """Someone else is at work on this table."""

    because = "Two who write the same rows at a time could undo each other's work."
    next_step = "Wait until the other is done, and do the same again."


class TooManyPairs(Refused):
    """A pass would make more candidate pairs than can be compared."""

    because = "Too many records share the values that it compares."
    next_step = (
        "Add a column to `on`, or narrow the pass with `when` or `within`; `recon check NAME` shows the numbers."
    )


class Contradicted(Refused):
    """Another decision of a person says otherwise."""

    because = "Two decisions about the same records cannot both hold."
    next_step = "See them with `recon decide NAME --list`, and take one back with `--undo`."


class OverCap(Refused):
    """More records would be taken for orphans than the spec allows."""

    because = "So many absences at once mean more often that the source was read in part than that all are gone."
    next_step = "Look whether the source is complete; if it is right, raise `cap` in the spec."


class WrongDatabase(Refused):
    """The plan was made for another database."""

    because = "Its rows and their former values are those of the other one."
    next_step = "Give the URL of the database that it was planned for, or plan anew here."


class IllegalMove(Refused):
    """The plan is not in a state from which this can be done."""

    because = "A plan goes from state to state in one order, and each state allows only some steps."
    next_step = "See in `recon plans` which state it is in and whom it waits for."


def catalogue() -> list[type[ReconError]]:
    """Every error of this list, in its order."""
    kinds = [kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, ReconError)]
    return [kind for kind in kinds if kind is not ReconError]


VEIL = "•••"  # what stands for a value that people may not see


def without_values(text: str) -> str:
    """What a server says of a value, without the value: it stands in double quotes, and may hold some itself.

    >>> without_values('invalid input syntax for type integer: "12 "a" 7"')
    'invalid input syntax for type integer: •••'
    """
    return re.sub(r'".*"', VEIL, text, flags=re.DOTALL)


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
# What has no width, ends a line or turns the direction of what follows: a text would read otherwise than it is.
_UNSEEN = (
    0x00AD,
    0x061C,
    0x180E,
    0x200B,
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xD800, 0xE000),  # half a character: nothing can print or keep it
    0xFEFF,
)
_SPELLED = _CONTROLS | {code: f"\\u{code:04x}" for code in _UNSEEN}


def visible(text: str) -> str:
    """A text as people may get it: characters that would steer a terminal or deceive the eye are spelled out.

    >>> visible("\x1b[2Jgone")
    '\\\\x1b[2Jgone'
    >>> visible("5 of \u202e001 rows")
    '5 of \\\\u202e001 rows'
    """
    return text.translate(_SPELLED)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a hint, or nothing.

    >>> did_you_mean("invoice", ["invoices", "customers"])
    'Did you mean "invoices"?'
    >>> did_you_mean("zzz", ["invoices"])
    ''
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not near:
        folded = {candidate.lower(): candidate for candidate in names}
        near = [folded[name.lower()]] if name.lower() in folded else []
    return f'Did you mean "{near[0]}"?' if near else ""
