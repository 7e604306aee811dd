"""A workspace of one's own: the folders of this repository, its notebooks, settings with comments, a small example."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from recon.errors import AlreadyExists, NoPlace
from recon.workspace import POLICY_FILE, SIGNERS_FILE, SPEC_SCHEMA, template

_EXAMPLE = Path(__file__).parent / "example"  # two files and a spec, which every new workspace has
_GITIGNORE = ".recon/\n.env\nbronze/\nsql/backfills/*\nreports/*\n__marimo__/\n.ipynb_checkpoints/\n"
_ENVIRONMENT = """\
# Copy to .env and fill in; .env is never committed.
# RECON_DATABASE_URL=postgresql://user@host:5432/name
# RECON_USER=your-name
# RECON_ENVIRONMENT=production
# RECON_SHOW_PRIVATE=1
# RECON_HUBSPOT_TOKEN=
# RECON_HOUSECALLPRO_TOKEN=
# RECON_AIRTABLE_TOKEN=
# RECON_AIRTABLE_BASE=
# RECON_WEBHOOKS=production
# RECON_HOUSECALLPRO_WEBHOOK_SECRET=
# RECON_STAYS_URL=https://example.stays.net
# RECON_STAYS_TOKEN=
# RECON_STAYS_ORGANIZATIONS=
# RECON_STAYS_TIME_ZONE=America/Sao_Paulo
# RECON_STAYS_SCHEDULE=*/30 * * * *
# RECON_STAYS_WEBHOOK_SECRET=
# RECON_LOCKS_URL=
# RECON_LOCKS_TOKEN=
# RECON_JWT_SECRET=
# RECON_SERVICE_TOKEN=
"""


def init(folder: Path) -> list[Path]:
    """Make a workspace: the folders of this repository, the notebooks, settings with comments.

    Raises:
        AlreadyExists: the folder holds something.
        NoPlace: it cannot be made or written; nothing of it is left.
    """
    ours = there = False
    try:
        there = folder.exists()
        if there and (not folder.is_dir() or any(folder.iterdir())):
            raise AlreadyExists(f"{folder} is not empty.", todo="Name a new or an empty folder.")
        ours = True  # it is empty or not there: all in it is made here
        _laid_out(folder)
    except OSError as error:
        with suppress(OSError):
            if ours:
                empty(folder, keep=there)
        raise NoPlace(
            f"No workspace can be made at {folder}.",
            why=f"The system says: {error.strerror or type(error).__name__}.",
            todo="Name a folder in a place where you may write, and look that its disk has room.",
        ) from error
    return sorted(path.relative_to(folder) for path in folder.iterdir())


def empty(folder: Path, *, keep: bool) -> None:
    """Delete all that is in a folder, and the folder too unless it is kept."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not keep:
        folder.rmdir()


def _laid_out(folder: Path) -> None:
    for name in ("reconciliations", "sql/backfills", "reports"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    ignored = shutil.ignore_patterns("backfills", "__pycache__", "__marimo__", ".ipynb_checkpoints", "*.md")
    for name in ("notebooks", "sql", "expectations"):
        shutil.copytree(template(name), folder / name, ignore=ignored, dirs_exist_ok=True)
    for name in (POLICY_FILE, SIGNERS_FILE):
        shutil.copyfile(template(name), folder / name)
    shutil.copyfile(SPEC_SCHEMA, folder / SPEC_SCHEMA.name)
    (folder / "bronze").mkdir(exist_ok=True)
    for path in _EXAMPLE.iterdir():
        shutil.copyfile(path, folder / ("bronze" if path.suffix == ".csv" else "reconciliations") / path.name)
    (folder / ".gitignore").write_text(_GITIGNORE, encoding="utf-8")
    (folder / ".env.example").write_text(_ENVIRONMENT, encoding="utf-8")
