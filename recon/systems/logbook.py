"""Log files of a workspace, one for each environment: a line for each event, bounded in size, safe to read in a terminal.

Lines are `2026-04-02T09:00:00.000Z INFO found match reservation=12 job=job_7`: the time in UTC, the level, the message,
then what it is about, as key=value. Several processes may write to one file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from recon.errors import visible
from recon.workspace import Workspace

MOST_BYTES = 20_000_000  # of one file; then it becomes NAME.log.1, and so on
KEPT_FILES = 5  # beside the one that is written
MOST_CHARACTERS = 500  # of a value
_PLAIN = re.compile(r"[A-Za-z0-9_.:+/@-]+")


def path_of(workspace: Workspace, environment: str, name: str) -> Path:
    """Where the log of a reconciliation is, in this environment."""
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", environment)
    slug = re.sub(r"[^A-Za-z0-9_-]+", "_", environment)[:40]
    folder = environment if plain else f"{slug}-{hashlib.sha256(environment.encode()).hexdigest()[:8]}"
    return workspace.folder / "logs" / folder / f"{name}.log"


class Logbook:
    """A log file that lines are appended to."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES, kept: int = KEPT_FILES) -> None:
        self.path = path
        self._handler = _Bounded(path, most_bytes, kept)
        self._handler.setFormatter(_Line())
        self._logger = logging.Logger(path.stem, logging.INFO)  # not in the tree of loggers: nobody else writes here
        self._logger.addHandler(self._handler)

    def say(self, message: str, about: Mapping[str, object], level: int = logging.INFO) -> None:
        """Append a line. What is None is left out. Raises OSError where the file cannot be written."""
        self._logger.log(level, message, extra={"about": about})

    @property
    def handler(self) -> logging.Handler:
        """For loggers of others: a record's `line` is the message, its `about` what it is about."""
        return self._handler

    def close(self) -> None:
        self._handler.close()


def value(given: object) -> str:
    r"""A value as a line holds it: in one piece, and without anything that steers a terminal or ends the line.

    >>> value("job_7"), value("1 minute outside"), value('a "b"\nc')
    ('job_7', '"1 minute outside"', '"a \\"b\\"\\nc"')
    """
    text = str(given)
    text = f"{text[:MOST_CHARACTERS]}…" if len(text) > MOST_CHARACTERS else text
    return text if _PLAIN.fullmatch(text) else visible(json.dumps(text, ensure_ascii=False))


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        about = record.__dict__.get("about") or {}
        message = record.__dict__.get("line") or record.getMessage()
        said = "".join(f" {name}={value(given)}" for name, given in about.items() if given is not None)
        return f"{at}Z {record.levelname} {message}{said}"


class _Bounded(logging.Handler):
    """Appends to a file, and starts a new one where it grows too long, also if another process was first."""

    def __init__(self, path: Path, most_bytes: int, kept: int) -> None:
        super().__init__()
        self._path, self._most, self._kept = path, most_bytes, kept
        self._file = -1
        self._inode = 0
        path.parent.mkdir(parents=True, exist_ok=True)

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        if self._size() + len(line) > self._most:
            self._turn(len(line))
        os.write(self._file, line)  # one write to a file open for appending: lines of two processes do not mix

    def _size(self) -> int:
        """How long the file is; opened anew where it is not the one that was opened before."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            found = None
        if found is None or found.st_ino != self._inode or self._file < 0:
            if self._file >= 0:
                os.close(self._file)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            found = os.fstat(self._file)
            self._inode = found.st_ino
        return found.st_size

    def _turn(self, more: int) -> None:
        lock = os.open(f"{self._path}.lock", os.O_RDONLY | os.O_CREAT, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._size() + more > self._most:  # nobody did it meanwhile
                for number in range(self._kept, 0, -1):
                    older = Path(f"{self._path}.{number - 1}") if number > 1 else self._path
                    if older.exists():
                        os.replace(older, f"{self._path}.{number}")
                self._size()
        finally:
            os.close(lock)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        super().close()
