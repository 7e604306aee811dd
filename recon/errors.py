"""Everything that can go wrong, as a list.

Each error says what happened, why, and what to do next. The class docstring is the sentence used when
nothing more exact is known; the exit code is the one the command line ends with (0 done, 1 failed,
2 wrong usage or spec, 3 done but breaks remain, 4 refused).
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class ReconError(Exception):
    """Something went wrong."""

    exit_code = 1

    def __init__(self, what: str | None = None, *, why: str = "", todo: str = "") -> None:
        self.what = what or (type(self).__doc__ or "").strip()
        self.why = why
        self.todo = todo
        super().__init__(self.what)

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.why, self.todo) if part)

    def as_dict(self) -> dict[str, Any]:
        """The error as a document for `--json`: its name and its three parts."""
        return {"error": type(self).__name__, "what": self.what, "why": self.why, "next": self.todo}


# -- usage and specs: exit code 2 ------------------------------------------------------------------------


class UsageError(ReconError):
    """The command was called in a way it cannot follow."""

    exit_code = 2


class SpecError(ReconError):
    """The spec cannot be used as it is written."""

    exit_code = 2


class NotFound(ReconError):
    """Nothing has this name."""

    exit_code = 2


class SchemaMismatch(ReconError):
    """The database does not have what the spec names."""

    exit_code = 2


class NotLoaded(SchemaMismatch):
    """The records of a side were not loaded yet."""


class AlreadyExists(ReconError):
    """This would replace something that exists."""

    exit_code = 2


# -- the machine and the database: exit code 1 -----------------------------------------------------------


class DatabaseUnreachable(ReconError):
    """The database cannot be reached."""


class DatabaseFailed(ReconError):
    """The database refused a statement."""


class EmbeddedUnavailable(ReconError):
    """The embedded PostgreSQL cannot be started."""


class LoadFailed(ReconError):
    """The records could not be loaded; nothing was kept."""


class BadRows(LoadFailed):
    """Some rows of a file are not as they should be; nothing was loaded."""

    def __init__(self, what: str, rows: Sequence[tuple[int, str]], count: int, *, todo: str = "") -> None:
        """Tell them by line.

        Args:
            what: the file, and what became of it.
            rows: the first of them: the line in the file, and what is wrong there.
            count: how many there are.
            todo: what to do next.
        """
        self.rows, self.count = tuple(rows), count
        told = [f"line {line:,}: {wrong}" for line, wrong in rows]
        more = count - len({line for line, _ in rows})
        super().__init__(what, why="\n".join([*told, *([f"… and {more:,} more."] if more else [])]), todo=todo)

    def as_dict(self) -> dict[str, Any]:
        return {
            **super().as_dict(),
            "count": self.count,
            "rows": [{"line": line, "wrong": wrong} for line, wrong in self.rows],
        }


class CheckErrored(ReconError):
    """A check could not be carried out, so it proves nothing."""


class VerifyFailed(ReconError):
    """What was written is not what was signed."""


class ReportFailed(ReconError):
    """The notebook of a report or of a run failed."""


class OutsideFailed(ReconError):
    """An outside system did not do what it was asked."""


class OutsideDenied(OutsideFailed):
    """An outside system does not accept the credential."""


class OutsideUnsure(OutsideFailed):
    """Nobody knows whether an outside system did what it was asked; its records are read again."""


class OutsideLeft(OutsideFailed):
    """Some records of an outside system were not written; the others were."""

    def __init__(self, what: str, *, why: str = "", todo: str = "", outside: Mapping[str, Any]) -> None:
        super().__init__(what, why=why, todo=todo)
        self.outside = outside  # what `recon apply --json` says of them

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "outside": dict(self.outside)}


class NoPlace(ReconError):
    """A file or a folder cannot be written or read: a full disk, a right that is missing."""


_OF_PLACES = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
)


def of_place(error: BaseException) -> NoPlace | None:
    """What the system said of a file, as an error of ours; None where it is about something else."""
    if not isinstance(error, OSError) or error.errno not in _OF_PLACES:
        return None
    where = f"{error.filename} cannot be used." if error.filename else "A file could not be written."
    return NoPlace(where, why=f"The system says: {error.strerror}.", todo="Make room or give the right, and try again.")


# -- refusals: exit code 4 -------------------------------------------------------------------------------


class Refused(ReconError):
    """This is not allowed."""

    exit_code = 4


class NotApproved(Refused):
    """The plan has no valid sign-off."""


class BundleChanged(Refused):
    """The bundle is not the one that was planned."""


class LintRefused(Refused):
    """A script of the bundle does what no script of a plan may do."""


class Stale(Refused):
    """Rows changed since the plan was made."""


class SlowPlan(Refused):
    """A batch would read the whole of a large table."""


class Locked(Refused):
    """Someone else is at work on this table."""


class TooManyPairs(Refused):
    """A pass would make more candidate pairs than can be compared."""


class Contradicted(Refused):
    """Another decision of a person says otherwise."""


class OverCap(Refused):
    """More records would be taken for orphans than the spec allows."""


class WrongDatabase(Refused):
    """The plan was made for another database."""


class IllegalMove(Refused):
    """The plan is not in a state from which this can be done."""


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
