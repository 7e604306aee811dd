"""How papermill runs a notebook here: the kernel alone gets the environment, and each finished cell is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

NAME = "recon"
START_SECONDS = 120  # a kernel on a loaded machine; on an idle one it takes about one


class Engine(NBClientEngine):
    """papermill's own engine, but the environment is an argument: that of this process stays as it is."""

    @classmethod
    def execute_managed_notebook(  # pyright: ignore[reportIncompatibleMethodOverride] (its keywords are ours)
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        *,
        environment: Mapping[str, str],
        progress: Callable[[int, int], None] | None = None,
        **_: Any,
    ) -> Any:
        client = _Client(
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=START_SECONDS,
            timeout=None,
            shutdown_kernel="immediate",  # it only read, so it has nothing to put in order
            extra_arguments=["--HistoryManager.enabled=False"],  # nobody types into this kernel
        )
        client.progress = progress
        return client.execute(env=dict(environment))


class _Client(PapermillNotebookClient):
    progress: Callable[[int, int], None] | None = None

    async def async_execute_cell(self, cell: Any, cell_index: int, *arguments: Any, **options: Any) -> Any:
        done = await super().async_execute_cell(cell, cell_index, *arguments, **options)
        if self.progress:
            self.progress(cell_index + 1, len(self.nb.cells))
        return done

    execute_cell = NBClientEngine  # replaced below


papermill_engines.register(NAME, Engine)
