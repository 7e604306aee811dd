"""What a client of an outside system needs to be told: settings by their names, and credentials that can be sent."""

from __future__ import annotations

from recon.errors import UsageError
from recon.outside.interface import Variables


def needed(variables: Variables, name: str, what: str) -> str:
    """A setting that must be there.

    Args:
        variables: of the workspace.
        name: of the variable, RECON_….
        what: what it holds, in a few words.

    Raises:
        UsageError: it is not set.
    """
    value = variables.get(name, "").strip()
    if not value:
        raise UsageError(
            f"{name} is not set.",
            why=f"It holds {what}.",
            todo="Set it in the environment, or in the workspace's .env.",
        )
    return value


def credential(variables: Variables, name: str, what: str) -> str:
    """A setting that is sent in a header. Raises UsageError, which never shows it."""
    value = needed(variables, name, what)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UsageError(
            f"{name} cannot be a credential.",
            why="It holds white space or characters that no header can hold.",
            todo="Copy it once more from where it was made.",
        )
    return value
