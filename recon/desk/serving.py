"""A notebook app or JupyterLab served on this machine, for whoever has its token.

The server runs in this very process, so that a signal reaches it and nothing is left behind. Its token is new each time
and stands in no command line, which other users of the machine can read: marimo gets it through standard input,
Jupyter from the environment, and the browser from a file that only its owner can read.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import secrets
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from recon.errors import NotFound, UsageError, did_you_mean
from recon.workspace import Workspace

HOST = "127.0.0.1"  # this machine and no other
FIRST_PORT, PORTS = 2718, 50  # marimo's own port, and how many after it are tried
TOKEN_BYTES = 24
PAUSE_SECONDS = 0.1  # between two looks whether the server answers
KEEP_SECONDS = 30.0  # how long a browser may take to read the file that leads it to the app

LAB = "lab"
# JupyterLab calls nobody for extensions, news or updates, and does not ask whether it may.
_NO_EXTENSIONS = "--LabApp.extension_manager=readonly"
_QUIET = Path("@jupyterlab", "apputils-extension", "notification.jupyterlab-settings")
_QUIET_SETTINGS = {"fetchNews": "false", "checkForUpdates": False}
LIBRARIES = {"lab": ("jupyterlab", "ipykernel", "plotly"), "app": ("marimo", "plotly")}  # of the extra "notebooks"
NOTEBOOKS = {"explore": "explore_mismatches.py", "preview": "preview_backfill.py"}


@dataclass(frozen=True)
class Served:
    """What is served, where, and the token that opens it."""

    app: str
    notebook: Path | None  # None: JupyterLab
    port: int
    token: str = field(repr=False)

    @property
    def address(self) -> str:
        """Where a browser finds it; whoever has this address can do all that its owner can."""
        place, name = ("lab", "token") if self.notebook is None else ("", "access_token")
        return f"http://{HOST}:{self.port}/{place}?{name}={self.token}"


def prepare(workspace: Workspace, app: str, port: int | None = None) -> Served:
    """What will be served, with a new token.

    Args:
        workspace: whose notebook it is; without one, the shipped notebook.
        app: explore, preview or lab.
        port: where; None: the first free one from 2718 on.

    Raises:
        UsageError: there is no such app, or the port is taken.
    """
    if app != LAB and app not in NOTEBOOKS:
        raise UsageError(
            f'There is no notebook "{app}".',
            why=did_you_mean(app, [*NOTEBOOKS, LAB]),
            todo=f"There are: {', '.join([*NOTEBOOKS, LAB])}.",
        )
    notebook = None if app == LAB else workspace.file("notebooks", NOTEBOOKS[app])
    return Served(app, notebook, _free(port), secrets.token_urlsafe(TOKEN_BYTES))


def opened_on(workspace: Workspace, app: str, name: str | None) -> dict[str, str]:
    """What an app finds in its environment about the reconciliation or, in preview, the plan that it opens on.

    Raises:
        NotFound: neither a reconciliation nor, in preview, a plan has this name.
    """
    if name is None:
        return {}
    if app == "preview" and name not in workspace.reconciliations():
        if (workspace.backfills / name / "plan.json").is_file() and name == Path(name).name:
            return {"RECON_PLAN": name}
        raise NotFound(
            f'"{name}" is neither a reconciliation nor a plan.',
            why=did_you_mean(name, workspace.reconciliations()),
            todo="See `recon list` and `recon plans`.",
        )
    return {"RECON_RECONCILIATION": workspace.spec(name).name}


def serve(
    workspace: Workspace,
    served: Served,
    environment: dict[str, str],
    *,
    browser: bool,
    tell: Callable[[str], None],
) -> None:
    """Serve until a signal ends this process; it does not return.

    Args:
        workspace: it becomes the current folder.
        served: what.
        environment: what the app finds in its environment besides.
        browser: whether to open it in the person's browser.
        tell: called once with the address, when the server answers there.
    """
    os.chdir(workspace.root)
    os.environ.update({"RECON_WORKSPACE": str(workspace.root), **environment})
    threading.Thread(target=_announce, args=(workspace, served, browser, tell), daemon=True).start()
    if served.notebook is None:
        os.environ.update(_lab_environment(workspace, served))
        sys.argv = ["jupyterlab", f"--ServerApp.root_dir={workspace.root}", f"--ServerApp.ip={HOST}", "--no-browser"]
        sys.argv += [_NO_EXTENSIONS]
        sys.argv += [f"--ServerApp.port={served.port}", "--ServerApp.port_retries=0", "--ServerApp.log_level=WARN"]
        sys.argv += ["--allow-root"] if os.geteuid() == 0 else []
        from recon.desk import lab_server

        lab_server.use()
        runpy.run_module("jupyterlab", run_name="__main__", alter_sys=True)
    else:
        _give_on_stdin(served.token)
        sys.argv = ["marimo", "--quiet", "run", str(served.notebook), "--headless", "--token-password-file", "-"]
        sys.argv += ["--host", HOST, "--port", str(served.port)]
        runpy.run_module("marimo", run_name="__main__", alter_sys=True)


def _lab_environment(workspace: Workspace, served: Served) -> dict[str, str]:
    """Jupyter's token, and folders of the workspace in place of those in the person's home."""
    folder = workspace.folder.resolve()
    places = {
        "IPYTHONDIR": folder / "ipython",
        "JUPYTER_CONFIG_DIR": folder / "jupyter" / "config",
        "JUPYTER_DATA_DIR": folder / "jupyter" / "data",
        "JUPYTER_RUNTIME_DIR": folder / "jupyter" / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": folder / "jupyter" / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": folder / "jupyter" / "workspaces",
        "npm_config_cache": folder / "jupyter" / "npm",  # Jupyter asks npm where it keeps things, and npm writes a log
    }
    for place in places.values():
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    quiet = places["JUPYTERLAB_SETTINGS_DIR"] / _QUIET
    if not quiet.exists():
        quiet.parent.mkdir(parents=True, exist_ok=True)
        quiet.write_text(json.dumps(_QUIET_SETTINGS), encoding="utf-8")
    return {"JUPYTER_TOKEN": served.token, **{name: str(place) for name, place in places.items()}}


def _give_on_stdin(text: str) -> None:
    """Let whoever reads standard input read this text: it is in no command line, no environment and no file."""
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)


def _announce(workspace: Workspace, served: Served, browser: bool, tell: Callable[[str], None]) -> None:
    while not _answers(served.port):
        time.sleep(PAUSE_SECONDS)
    tell(served.address)
    if browser:
        _open(workspace, served.address)


def _open(workspace: Workspace, address: str) -> None:
    """Open the browser on a file that leads to the address: the browser's own command line names the file only."""
    path = workspace.folder.resolve() / f"open-{secrets.token_hex(4)}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    page = f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><a href="{address}">Open</a>\n'
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(page)
    atexit.register(path.unlink, missing_ok=True)
    if webbrowser.open(path.as_uri()):
        time.sleep(KEEP_SECONDS)
    path.unlink(missing_ok=True)


def _answers(port: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(1.0)
        return caller.connect_ex((HOST, port)) == 0


def _free(wanted: int | None) -> int:
    for port in [wanted] if wanted is not None else range(FIRST_PORT, FIRST_PORT + PORTS):
        with socket.socket() as place:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                place.bind((HOST, port))
            except OSError:
                continue
        return port
    raise UsageError(
        f"Port {wanted} is taken." if wanted is not None else f"All ports from {FIRST_PORT} on are taken.",
        why="Another program listens there.",
        todo="Name another one with --port.",
    )
