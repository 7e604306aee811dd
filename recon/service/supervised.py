"""A worker beside the service, as a child: started again when it dies, ended with the service, and never left alone.

The child reads its stdin and ends when that ends: so it ends with its parent however the parent ends, SIGKILL included.
A parent that ends as it should says so there first, and then the child may bring its running job to an end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence

GRACE_SECONDS = 30.0  # for the running job, when the service is told to end
ALONE_SECONDS = 3.0  # for the same, when the parent is gone: a job that is cut off is taken up again
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0  # before a worker that died is started again; doubles
WELL_SECONDS = 120.0  # who lived so long did not die of its start: the pauses begin anew
_END = b"end\n"

Tell = Callable[[str], None]


@contextlib.contextmanager
def worker(arguments: Sequence[str], environment: Mapping[str, str], tell: Tell) -> Generator[None]:
    """A worker runs for as long as the `with` lasts; it writes to the same stdout and stderr.

    Args:
        arguments: those of `recon worker`.
        environment: all of its environment; credentials stand there, and never among the arguments.
        tell: gets a line where a worker ended by itself.
    """
    supervisor = _Supervisor(list(arguments), dict(environment), tell)
    supervisor.start()
    try:
        yield
    finally:
        supervisor.end()


class _Supervisor(threading.Thread):
    def __init__(self, arguments: list[str], environment: dict[str, str], tell: Tell) -> None:
        super().__init__(name="worker", daemon=True)
        self._command = [sys.executable, "-c", "from recon.cli import main; main()", "worker", "--until-stdin-ends"]
        self._command += arguments
        self._environment, self._tell = environment, tell
        self._ending, self._lock = threading.Event(), threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while child := self._begun():
            began = time.monotonic()
            code = child.wait()
            if self._ending.is_set():
                return
            if time.monotonic() - began >= WELL_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            self._tell(f"The worker {how}; it is started again in {pause:.0f} s.")
            if self._ending.wait(pause):
                return
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)

    def _begun(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._ending.is_set():
                return None
            self._child = subprocess.Popen(self._command, env=self._environment, stdin=subprocess.PIPE)
            return self._child

    def end(self) -> None:
        """Have the worker end after its running job; what takes too long is killed."""
        with self._lock:
            self._ending.set()
            child = self._child
        if child is not None and child.stdin is not None:
            with contextlib.suppress(OSError):  # it is gone already
                child.stdin.write(_END)
                child.stdin.close()
            try:
                child.wait(GRACE_SECONDS + ALONE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.join()


def until_stdin_ends(stop: Callable[[], None]) -> None:
    """Call `stop` when this process's stdin ends, and end the process where it does not end by itself in time."""

    def watch() -> None:
        said = b""
        while piece := os.read(0, 64):
            said = (said + piece)[-len(_END) :]
        stop()
        time.sleep(GRACE_SECONDS if said == _END else ALONE_SECONDS)
        os._exit(1)  # with the process go its threads; its job is taken up again

    threading.Thread(target=watch, name="until stdin ends", daemon=True).start()
