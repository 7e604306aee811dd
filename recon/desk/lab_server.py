"""JupyterLab's server, which ends when it is told to, also while a kernel is just starting."""

from __future__ import annotations

import os
import threading

from jupyter_server.serverapp import ServerApp
from jupyterlab.labapp import LabApp

GRACE_SECONDS = 8.0  # to end in good order; kernels that are left end by themselves once this process is gone


class Server(ServerApp):
    """Jupyter's server with an end to its patience: on a busy machine it may wait for minutes for a kernel."""

    def stop(self, from_signal: bool = False) -> None:
        """End; where good order takes too long, without it."""
        end = threading.Timer(GRACE_SECONDS, os._exit, (0,))
        end.daemon = True
        end.start()
        super().stop(from_signal=from_signal)


def use() -> None:
    """Let JupyterLab run on this server."""
    LabApp.serverapp_class = Server
