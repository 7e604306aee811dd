"""A file that takes its name only once it is whole."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from recon.errors import UsageError


@contextmanager
def written(path: Path, option: str) -> Generator[Path]:
    """A file that takes its name only once it is whole: what stood there before is lost to no failure.

    Args:
        path: the name that it takes.
        option: by which it was named, for messages.

    Raises:
        UsageError: nothing can be written there.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}")
    todo = f"Name another file after {option}."
    try:
        half.touch()
    except OSError as error:
        missing = "" if path.parent.is_dir() else f"There is no folder {path.parent}."
        why = missing or f"The system says: {error.strerror}."
        raise UsageError(f"Cannot write {path}.", why=why, todo=todo) from error
    try:
        yield half
        half.replace(path)
    except IsADirectoryError as error:
        raise UsageError(f"{path} is a folder.", todo=todo) from error
    finally:
        half.unlink(missing_ok=True)
