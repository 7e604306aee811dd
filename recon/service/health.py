"""Signs of life: whether the process answers, and whether it can work."""

from __future__ import annotations

import asyncio
import logging

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from recon.database import tables
from recon.database.connect import Database
from recon.errors import ReconError
from recon.service.answers import Turned, problems
from recon.service.place import Place

READY_SECONDS = 2.0  # within which whoever asks is told

_log = logging.getLogger("recon.service")
router = APIRouter(tags=["signs of life"])


class Alive(BaseModel):
    """The process answers."""

    state: str = Field("alive", description="Always alive.")


class Ready(BaseModel):
    """The service can work."""

    state: str = Field("ready", description="Always ready.")
    schema_version: int = Field(description="The version of recon's own tables.")


@router.get("/healthz", summary="Whether the process answers")
async def alive() -> Alive:
    """Asks nothing of the database: for whoever restarts a process that hangs."""
    return Alive(state="alive")


@router.get("/readyz", summary="Whether the service can work", responses=problems(503))
async def ready(request: Request) -> Ready:
    """Whether the database answers within 2 seconds and recon's tables are of this version."""
    place: Place = request.app.state.place
    looking = place.looking
    if looking is None or looking.done():  # one look at a time: a server that hangs must not use up the threads
        looking = place.looking = asyncio.create_task(asyncio.to_thread(_version, place.database))
    await asyncio.wait([looking], timeout=READY_SECONDS)
    if not looking.done():
        raise _not_ready(f"The database has not answered within {READY_SECONDS:.0f} s.")
    error = looking.exception()
    if isinstance(error, ReconError):
        _log.warning("not ready: %s", error)
        raise _not_ready(error.what)  # the rest tells where the database is, and anybody may ask
    version = looking.result()
    if version != tables.SCHEMA_VERSION:
        raise _not_ready(f"recon's tables are of version {version or 'none'}, not {tables.SCHEMA_VERSION}.")
    return Ready(state="ready", schema_version=version)


def _not_ready(why: str) -> Turned:
    return Turned(503, "The service cannot work now.", why=why, Retry_After="5")


def _version(database: Database) -> int | None:
    with database.session(read_only=True) as session:
        if session.value("SELECT to_regclass('recon.meta')::text") is None:
            return None
        return session.value("SELECT max(schema_version) FROM recon.meta")
