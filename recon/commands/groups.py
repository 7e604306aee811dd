"""A name that is a group: what a command does with each of its reconciliations, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recon.commands.shared import BREAKS_REMAIN, DONE, FAILED, note, show
from recon.errors import ReconError, Refused, UsageError

if TYPE_CHECKING:
    from recon.workspace import Workspace

# Exit codes, the worst first: the one that a group ends with is the worst of its members.
WORST = (FAILED, UsageError.exit_code, Refused.exit_code, BREAKS_REMAIN, DONE)


@dataclass(frozen=True)
class Ended:
    """What a command gave for one reconciliation: its document, and its exit code; or the error that ended it."""

    name: str
    document: Mapping[str, Any]
    exit_code: int
    error: ReconError | None = None

    @property
    def shown(self) -> tuple[str, Mapping[str, Any], int, str | None]:
        """As `recon.screens_groups` takes it."""
        return self.name, self.document, self.exit_code, str(self.error) if self.error else None

    def as_dict(self) -> dict[str, Any]:
        return {"reconciliation": self.name, **self.document, "exit_code": self.exit_code}


def is_group(place: Workspace, name: str) -> bool:
    """Whether a name stands for several reconciliations. Raises NotFound where it stands for nothing."""
    return place.members(name) != [name]


def each(place: Workspace, group: str, work: Callable[[str], tuple[Mapping[str, Any], int]]) -> list[Ended]:
    """Do something with each reconciliation of a group in turn; one that fails does not stop the others.

    Args:
        place: the workspace.
        group: its name.
        work: gets a reconciliation's name; gives its document and its exit code.
    """
    ended: list[Ended] = []
    for name in place.members(group):
        try:
            document, code = work(name)
            ended.append(Ended(name, document, code))
        except ReconError as error:
            note(f"{name}: {error}")
            ended.append(Ended(name, error.as_dict(), error.exit_code, error))
    return ended


def conduct(
    place: Workspace,
    name: str,
    as_json: bool,
    work: Callable[[str], tuple[Mapping[str, Any], int]],
    close: Callable[[str, list[Ended]], None],
) -> int:
    """Do something with a reconciliation, or with each of a group; returns the exit code.

    Args:
        place: the workspace.
        name: a reconciliation, or a group.
        as_json: print one JSON document; else `work` shows its own screen.
        work: as for `each`.
        close: shows the table under the screens of a group.
    """
    if not is_group(place, name):
        document, code = work(name)
        show(dict(document), as_json)
        return code
    from recon import screens_groups

    def told(member: str) -> tuple[Mapping[str, Any], int]:
        if not as_json:
            screens_groups.heading(member)
        return work(member)

    ended = each(place, name, told)
    if not show(of_group(name, ended), as_json):
        close(name, ended)
    return worst(ended)


def worst(ended: list[Ended]) -> int:
    """The exit code of all.

    >>> worst([Ended("a", {}, 0), Ended("b", {}, 3), Ended("c", {}, 4)])
    4
    """
    return min((item.exit_code for item in ended), key=WORST.index)


def of_group(group: str, ended: list[Ended]) -> dict[str, Any]:
    """The document of `--json`: what each gave, as for it alone, with its exit code."""
    return {"group": group, "members": [item.as_dict() for item in ended], "exit_code": worst(ended)}
