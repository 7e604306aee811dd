"""What is installed only for who asks for it: which library comes with which extra, and what is said where it is missing."""

from __future__ import annotations

from importlib.util import find_spec

from recon.errors import MissingExtra

PACKAGE = "recon-workbench"

# The libraries of each extra in pyproject.toml that recon imports, by the name of their module.
EXTRAS = {
    "notebooks": ("papermill", "nbconvert", "nbformat", "ipykernel", "plotly", "marimo", "jupyterlab"),
    "service": (
        "fastapi",
        "starlette",
        "uvicorn",
        "jwt",
        "procrastinate",
        "croniter",
        "httpx2",
        "stamina",
        "pyairtable",
    ),
    "files": ("pyarrow", "python_calamine"),
}


def missing(module: str, what: str) -> MissingExtra | None:
    """The error that says which extra to install for a module that is not there; None where it belongs to none.

    Args:
        module: the name that could not be imported, such as `papermill.execute`.
        what: who needs it, such as "`recon report`".
    """
    top = module.partition(".")[0]
    for extra, modules in EXTRAS.items():
        if top in modules:
            return MissingExtra(
                f"{what} needs {top}, which is not installed.",
                why=f'It comes with the extra "{extra}".',
                todo=f'Install it: pip install "{PACKAGE}[{extra}]"',
            )
    return None


def lacking(extra: str, what: str, *modules: str) -> MissingExtra | None:
    """The error about the first library of an extra that is not installed; None where all are there.

    Args:
        extra: a name of EXTRAS.
        what: who needs it, such as "`recon report`".
        modules: those that it needs; none: all of the extra.
    """
    absent = (module for module in modules or EXTRAS[extra] if find_spec(module) is None)
    return next((missing(module, what) for module in absent), None)


def need(extra: str, what: str, *modules: str) -> None:
    """Raise MissingExtra where a library of an extra is not installed: before work starts, not in the middle of it.

    Args: as `lacking`.
    """
    if error := lacking(extra, what, *modules):
        raise error
