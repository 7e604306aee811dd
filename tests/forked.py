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


def run(arguments: list[str], environment: dict[str, str], cwd: Path | None, timeout: float) -> tuple[int, str, str]:
    """Run `recon` with these arguments; gives its exit code and what it wrote to stdout and stderr.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout` seconds, and was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = _server.Process(target=_command, args=(arguments, environment, str(cwd or Path.cwd()), out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["recon", *arguments], timeout)
        code = process.exitcode
        process.close()
        return code, out.read_text(), err.read_text()


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
