"""Kernels of notebooks that need not read everything anew: forked, where a person's command starts Python for them.

Nine tenths of most runs of a notebook are the kernel's imports, Great Expectations first of all. A kernel that is
forked from a process which has imported them is a process, a session and an environment of its own all the same: what
papermill and jupyter_client do with it is not touched. Kernels of JupyterLab start as ever, and so does one where
`REAL` is in the environment of whoever starts it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from io import BytesIO
from multiprocessing.context import ForkServerContext
from typing import Any, NoReturn

REAL = "RECON_TESTS_REAL_KERNEL"
MODULE = ["-m", "ipykernel_launcher"]  # what follows Python in the command of a kernel
PAUSE_SECONDS = 0.001


def forked_by(start: Callable[[list[str], dict[str, str], str | None], Any]) -> None:
    """From now on this process starts its kernels by `start`, or as ever where that gives None."""
    from jupyter_client import launcher

    anew = launcher.Popen

    def popen(command: list[str], *, env: dict[str, str], cwd: str | None = None, **others: Any) -> Any:
        is_kernel = command[1:3] == MODULE and REAL not in env
        return (is_kernel and start(command, env, cwd)) or anew(command, env=env, cwd=cwd, **others)

    launcher.Popen = popen  # pyright: ignore


def of_server(server: ForkServerContext) -> Callable[[list[str], dict[str, str], str | None], Any]:
    """Kernels of a process with threads, such as that of the tests: forked from this server."""
    return lambda *given: _OfServer(server, *given)


def of_command(command: list[str], environment: dict[str, str], cwd: str | None) -> Any:
    """The kernel of a command: forked from it, so that it is its child as it is for people; only where it has one thread."""
    return _Child(command, environment, cwd) if len(os.listdir("/proc/self/task")) == 1 else None


class _Kernel:
    """What jupyter_client and the product ask of a `Popen`."""

    pid: int
    stdout = stderr = None

    def __init__(self) -> None:
        self.stdin = BytesIO()
        # Signals go to the group that it leads; before it does, that is the group of whoever started it.
        while self.poll() is None and os.getpgid(self.pid) != self.pid:
            time.sleep(PAUSE_SECONDS)

    def poll(self) -> int | None:
        raise NotImplementedError

    def wait(self) -> int | None:
        raise NotImplementedError

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class _OfServer(_Kernel):
    def __init__(
        self, server: ForkServerContext, command: list[str], environment: dict[str, str], cwd: str | None
    ) -> None:
        self._process = server.Process(target=_become_kernel, args=(command, environment, cwd))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        super().__init__()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode


class _Child(_Kernel):
    def __init__(self, command: list[str], environment: dict[str, str], cwd: str | None) -> None:
        self._code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _leave_the_command_alone()
            _become_kernel(command, environment, cwd)
        super().__init__()

    def poll(self) -> int | None:
        return self._asked(os.WNOHANG)

    def wait(self) -> int | None:
        return self._asked(0)

    def _asked(self, how: int) -> int | None:
        if self._code is None:
            ended, status = os.waitpid(self.pid, how)
            self._code = os.waitstatus_to_exitcode(status) if ended else None
        return self._code


def _leave_the_command_alone() -> None:
    """Nothing of it is open here any more, and no object of it is put away: that would close what has its number now."""
    gc.freeze()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:
        if number > 2 and os.path.exists(f"/proc/self/fd/{number}"):
            os.dup2(nothing, number)
    signal.set_wakeup_fd(-1)
    asyncio.set_event_loop(None)


def _become_kernel(command: list[str], environment: dict[str, str], cwd: str | None) -> NoReturn:
    """What the forked process does; it ends here, whatever it was in the middle of."""
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(cwd or os.curdir)
        # Its class read the parent from the environment when it was imported.
        sys.argv = ["ipykernel_launcher", *command[3:], f"--IPKernelApp.parent_handle={environment['JPY_PARENT_PID']}"]
        from ipykernel import kernelapp

        kernelapp.launch_new_instance()  # pyright: ignore
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
