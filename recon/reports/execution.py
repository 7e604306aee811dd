"""How papermill runs a notebook here: only the kernel gets the environment, and what goes on is told cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import zmq
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.paths import jupyter_path
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from traitlets import default
from traitlets.config import Config

ENGINE = "recon"
NOT_RUN = "not run"  # the state of a cell that a failed run did not come to
START_SECONDS = 120  # for a kernel to start on a loaded machine; on an idle one it takes about one


class Kernel(AsyncKernelManager):
    """A kernel that is looked for in Jupyter's folders only: to look in IPython's would make one in the person's home."""

    @default("kernel_spec_manager")
    def _where_kernels_are(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=jupyter_path("kernels"))


class Engine(NBClientEngine):
    """papermill's own engine, with the kernel's environment as an argument: that of this process stays as it is."""

    @classmethod
    def execute_managed_notebook(  # pyright: ignore[reportIncompatibleMethodOverride] (the keywords are ours)
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        *,
        environment: Mapping[str, str],
        progress: Callable[[int, int], None] | None,
        tell: Callable[[str], None] | None,
        **_: Any,
    ) -> Any:
        cells = len(nb_man.nb.cells)
        if progress:
            progress(0, cells)

        at = 0

        def started(cell: Any, cell_index: int) -> None:
            nonlocal at
            at = cell_index
            if tell and cell.cell_type == "markdown" and (heading := heading_of(cell.source)):
                tell(heading)

        def completed(cell: Any, cell_index: int) -> None:
            if progress:
                progress(cell_index + 1, cells)

        client = PapermillNotebookClient(
            nb_man,
            config=Config({"KernelManager": {"transport_encryption": "auto" if zmq.has("curve") else "disabled"}}),
            kernel_manager_class=Kernel,
            kernel_name=kernel_name,
            startup_timeout=START_SECONDS,
            on_cell_start=started,
            on_cell_complete=completed,
            shutdown_kernel="immediate",  # what it wrote is committed or not; it has nothing to put in order
            extra_arguments=["--HistoryManager.enabled=False"],  # nobody types into this kernel
        )
        try:
            return client.execute(env=dict(environment))
        except BaseException:
            _kill(client)  # while it starts, the client does not see to it
            nb_man.nb.metadata.papermill["exception"] = True
            nb_man.nb.cells[at].metadata.papermill["status"] = nb_man.FAILED
            raise
        finally:
            for cell in nb_man.nb.cells:  # papermill would call them completed
                if cell.metadata.papermill.get("status") == nb_man.PENDING:
                    cell.metadata.papermill["status"] = NOT_RUN


def _kill(client: PapermillNotebookClient) -> None:
    process = getattr(getattr(client.km, "provisioner", None), "process", None)
    if process is not None and process.poll() is None:
        process.kill()
        process.wait()


def heading_of(source: str) -> str:
    """The heading that a markdown cell begins with, or nothing.

    >>> heading_of("## What remains"), heading_of("What *remains*")
    ('What remains', '')
    """
    first = source.lstrip().split("\n", 1)[0]
    return first.lstrip("#").strip() if first.startswith("#") else ""


papermill_engines.register(ENGINE, Engine)
