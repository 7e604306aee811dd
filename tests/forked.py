"""Commands in processes of their own that need not read everything anew: forked from one that has imported it all.

Starting Python and importing what a command needs is nine tenths of most commands. A server that the standard library
brings (multiprocessing's forkserver) imports it once for each worker of the tests and then only forks: every command
still has a process, an environment, a folder and output of its own, and shares no state with another one or the tests.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.preloaded"])


class Running:
    """A command that was started, until the `with` ends: it is killed there if it has not ended by itself."""

    def __init__(self, arguments: list[str], environment: dict[str, str], cwd: Path | None) -> None:
        self._arguments, self._folder = arguments, tempfile.TemporaryDirectory()
        self._out, self._err = (Path(self._folder.name) / name for name in ("out", "err"))
        given = (arguments, environment, str(cwd or Path.cwd()), self._out, self._err)
        self._process = _server.Process(target=_command, args=given)
        self._process.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *problem: object) -> None:
        self.kill()
        self._process.close()
        self._folder.cleanup()

    def kill(self) -> None:
        """SIGKILL: nothing of it runs on."""
        if self._process.exitcode is None:
            self._process.kill()
        self._process.join()

    def said(self) -> str:
        """What it wrote to stdout so far."""
        return self._out.read_text() if self._out.exists() else ""

    def stop(self) -> None:
        """SIGTERM: it may come to its end."""
        self._process.terminate()

    def ended(self, timeout: float) -> tuple[int, str, str]:
        """Wait for its end; gives its exit code and what it wrote to stdout and stderr.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(["recon", *self._arguments], timeout)
        return self._process.exitcode, self._out.read_text(), self._err.read_text()


def run(arguments: list[str], environment: dict[str, str], cwd: Path | None, timeout: float) -> tuple[int, str, str]:
    """Run `recon` with these arguments; gives its exit code and what it wrote to stdout and stderr.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout` seconds, and was killed.
    """
    with Running(arguments, environment, cwd) as running:
        return running.ended(timeout)


def _command(arguments: list[str], environment: dict[str, str], cwd: str, out: Path, err: Path) -> NoReturn:
    """What the forked process does: become the command, as far as it and others can see, and end as it ends."""
    for path, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["-c", *arguments]
    from recon.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves without them
