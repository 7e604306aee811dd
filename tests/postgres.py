"""A throw-away PostgreSQL of this machine's own for the test suite: the system's binaries, a fresh cluster."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import psycopg

DEBIAN = Path("/usr/lib/postgresql")  # Debian keeps each major version in a folder of its own
OLDEST_MAJOR = 15  # the oldest PostgreSQL that recon supports
ACCOUNTS = ("postgres", "nobody")  # who runs the server when the tests run as root, which it refuses
START_SECONDS = 30.0
STOP_SECONDS = 10.0
PAUSE_SECONDS = 0.05

# Nobody reads this cluster after the tests, so nothing waits for the disk.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    "max_wal_size": "2GB",
    "jit": "off",  # compiling costs these small tables more than running
    "password_encryption": "md5",  # hundreds of connections: SCRAM computes 4,096 rounds for each
}


def debian_binaries() -> Path | None:
    """The folder of the newest server programs installed on this machine, 15 or later; None without any."""
    by_version = {int(folder.parent.name): folder for folder in DEBIAN.glob("*/bin") if folder.parent.name.isdigit()}
    for version in sorted(by_version, reverse=True):
        if version >= OLDEST_MAJOR and (by_version[version] / "initdb").exists():
            return by_version[version]
    if shutil.which("pg_config"):
        asked = subprocess.run(["pg_config", "--bindir", "--version"], capture_output=True, text=True, check=True)
        folder, version_line = asked.stdout.splitlines()  # "/usr/bin", "PostgreSQL 15.8 (Debian 15.8-0)"
        major = "".join(filter(str.isdigit, version_line.split()[1].split(".")[0]))
        if int(major) >= OLDEST_MAJOR and (Path(folder) / "initdb").exists():
            return Path(folder)
    return None


class DebianServer:
    """A running server in a temporary folder, as a context manager; `url` is its SQLAlchemy URL.

    It listens on a free port of the loopback address and asks for a password made up for it.
    """

    def __init__(self, binaries: Path | None = None, settings: dict[str, str] = SETTINGS) -> None:
        found = binaries or debian_binaries()
        if found is None:
            raise FileNotFoundError(f"no PostgreSQL {OLDEST_MAJOR} or later is installed")
        self.binaries = found
        self.settings = settings
        self.password = secrets.token_urlsafe(16)
        self.port = 0
        self._account = _server_account()
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql+psycopg://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> DebianServer:
        self._folder = Path(tempfile.mkdtemp(prefix="recon-tests-"))
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and delete its data."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # the fast shutdown: open sessions are cut off
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_SECONDS)
            self._process = None
        shutil.rmtree(self._folder)

    def _initialise(self) -> None:
        password_file = self._folder / "password"
        password_file.write_text(self.password)
        user, group = self._account
        if user is not None and group is not None:
            for path in (self._folder, password_file):
                os.chown(path, user, group)
        command = [self.binaries / "initdb", "-D", self._folder / "data", "--username=postgres", "--no-sync"]
        options = ["--auth=md5", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C"]
        made = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=False, user=user, group=group, cwd="/"
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr}")

    def crash(self) -> None:
        """Stop it at once: no session is asked, and recovery is left to the next `start`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(STOP_SECONDS)

    def start(self) -> None:
        """Start it, on a port that is free now."""
        self.port = _free_port()
        command = [str(self.binaries / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port)]
        for name, value in self.settings.items():
            command += ["-c", f"{name}={value}"]
        log = self._folder / "log"
        with log.open("wb") as output:
            # A session of its own: Ctrl-C on the tests must not stop the server before its last user.
            self._process = subprocess.Popen(
                command,
                user=self._account[0],
                group=self._account[1],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from None
                time.sleep(PAUSE_SECONDS)


def _server_account() -> tuple[int, int] | tuple[None, None]:
    """User and group id for the server: another account's where we are root, else our own."""
    if os.geteuid() != 0:
        return None, None
    known = {user.pw_name: user for user in pwd.getpwall()}
    user = next(known[name] for name in ACCOUNTS if name in known)
    return user.pw_uid, user.pw_gid


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
