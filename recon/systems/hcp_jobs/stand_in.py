"""HousecallPro and Airtable on this machine, holding what they would hold of the sample: for the demo, and for tests."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from recon.database.connect import Database

BASE, TABLE, FIELD = "appSAMPLE00000001", "Reservations", "Service Job ID"  # the field is text


@contextmanager
def stand_in(database: Database) -> Generator[Mapping[str, str]]:
    """Serve both, filled from the sample tables as they are now; gives the settings by which they are found."""
    from recon.stand_ins import airtable, housecallpro
    from recon.stand_ins.server import served

    with database.session(read_only=True) as session:
        session.users_path()
        stays = session.rows("SELECT airtable_id, service_job_id FROM reservations ORDER BY id")
        jobs = session.records("SELECT * FROM hcp_jobs ORDER BY id")
    base = airtable.Airtable(BASE, TABLE, {record: {FIELD: job} for record, job in stays}, kinds={FIELD: "text"})
    account = housecallpro.HousecallPro([as_given(job) for job in jobs])
    with served(base.app) as tables, served(account.app) as listed:
        yield {
            "RECON_AIRTABLE_URL": tables,
            "RECON_AIRTABLE_BASE": BASE,
            "RECON_AIRTABLE_TOKEN": base.token,
            "RECON_HOUSECALLPRO_URL": listed,
            "RECON_HOUSECALLPRO_TOKEN": account.token,
        }


def as_given(job: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `hcp_jobs` as HousecallPro's API gives the job."""

    def moment(name: str) -> str | None:
        at: datetime | None = job[name]
        return at.isoformat() if at else None

    return {
        "id": job["id"],
        "customer": {"id": job["customer_id"]},
        "address": {"id": job["address_id"]},
        "schedule": {"scheduled_start": moment("scheduled_start"), "scheduled_end": moment("scheduled_end")},
        "work_status": job["work_status"],
        "description": job["description"],
        "updated_at": moment("updated_at"),
    }
