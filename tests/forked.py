"""Commands in processes of their own that need not read everything anew: forked from one that has imported it all.

Starting Python and importing what a command needs is nine tenths of most commands. A server that the standard library
brings (multiprocessing's forkserver) imports it once for each worker of the tests and then only forks: every command
still has a process, an environment, a folder and output of its own, and shares no state with another one or the tests.
So are the apps that tests open in a browser, and the kernels of notebooks (`tests.kernels`).
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from tests import kernels

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.preloaded"])


def fork_kernels() -> None:
    """Kernels that this process starts are forked too, as those of its commands are."""
    kernels.forked_by(kernels.of_server(_server))


class Running:
    """A command that was started, until the `with` ends: it is killed there if it has not ended by itself.

    Args:
        arguments: those of the command.
        environment: all of its environment.
        cwd: its folder; None: that of this process.
        program: whose command it is, recon's or marimo's.
        log: where all that it writes goes; None: nobody needs it after the `with`.
    """

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        cwd: Path | None,
        program: str = "recon",
        log: Path | None = None,
    ) -> None:
        self._command, self._folder = [program, *arguments], tempfile.TemporaryDirectory()
        self._out, self._err = (log or Path(self._folder.name) / name for name in ("out", "err"))
        given = (program, arguments, environment, str(cwd or Path.cwd()), self._out, self._err)
        self._process = _server.Process(target=_command, args=given)
        self._process.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *problem: object) -> None:
        self.kill()
        self._process.close()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        found = self._process.pid
        assert found is not None
        return found

    def kill(self) -> None:
        """SIGKILL: nothing of it runs on."""
        if self._process.exitcode is None:
            self._process.kill()
        self._process.join()

    def said(self) -> str:
        """What it wrote to stdout so far."""
        return self._out.read_text() if self._out.exists() else ""

    @property
    def runs(self) -> bool:
        return self._process.exitcode is None

    def stop(self) -> None:
        """SIGTERM: it may come to its end."""
        self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        if self.runs:
            assert self._process.pid is not None
            os.kill(self._process.pid, number)

    def ended(self, timeout: float) -> tuple[int, str, str]:
        """Wait for its end; gives its exit code and what it wrote to stdout and stderr.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._command, timeout)
        return self._process.exitcode, self._out.read_text(), self._err.read_text()


def run(arguments: list[str], environment: dict[str, str], cwd: Path | None, timeout: float) -> tuple[int, str, str]:
    """Run `recon` with these arguments; gives its exit code and what it wrote to stdout and stderr.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout` seconds, and was killed.
    """
    with Running(arguments, environment, cwd) as running:
        return running.ended(timeout)


def _recon() -> NoReturn:
    from recon.cli import main

    main()
    raise SystemExit(0)


def _marimo() -> NoReturn:
    sys.argv[0] = "marimo"
    runpy.run_module("marimo", run_name="__main__")
    raise SystemExit(0)


_PROGRAMS = {"recon": _recon, "marimo": _marimo}


def _command(
    program: str, arguments: list[str], environment: dict[str, str], cwd: str, out: Path, err: Path
) -> NoReturn:
    """What the forked process does: become the command, as far as it and others can see, and end as it ends."""
    for path, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["-c", *arguments]
    kernels.forked_by(kernels.of_command)
    try:
        _PROGRAMS[program]()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves without them
