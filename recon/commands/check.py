"""The command that looks before any work is done."""

from __future__ import annotations

from collections import Counter
from typing import Any

import typer

from recon.commands import groups
from recon.commands.shared import (
    BREAKS_REMAIN,
    DONE,
    AsJson,
    Folder,
    NameOrGroup,
    Url,
    find_workspace,
    open_database,
    say_private,
)
from recon.errors import TooManyPairs
from recon.progress import spinner


def check(name: NameOrGroup, as_json: AsJson = False, workspace: Folder = None, database: Url = None) -> None:
    """Look at connection, spec, records and candidate pairs before any work. Writes nothing."""
    from recon.matching import check as checking

    place = find_workspace(workspace)
    if not groups.is_group(place, name):
        place.spec(name)
    opened = open_database(place, database)

    def one(name: str) -> tuple[dict[str, Any], int]:
        spec = place.spec(name)
        with spinner(f"Checking {name}") as tell:
            result = checking.check(opened, spec, tell, shows_private=place.sees_private)
        if not as_json:
            from recon import screens_check

            screens_check.checked(result)
            say_private(place.private_note(spec))
        code = TooManyPairs.exit_code if result.refused else DONE if result.clean else BREAKS_REMAIN
        return result.as_dict(), code

    raise typer.Exit(groups.conduct(place, name, as_json, one, _close))


def _close(group: str, ended: list[groups.Ended]) -> None:
    """How many findings there are of each."""
    from recon import screens_groups

    shown: list[screens_groups.Member] = []
    for name, document, code, error in (item.shown for item in ended):
        kinds = Counter(finding["severity"] for finding in document.get("findings", ()))
        says = ", ".join(f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
        shown.append((name, {"says": "could not be checked" if error else says or "nothing found"}, code, error))
    screens_groups.ended(group, shown, groups.worst(ended))
