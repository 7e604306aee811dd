"""Two hundred events a second for a minute: how long a sender waits, whether one is lost, when all are worked off.

`recon serve` runs in a process of its own; the events come over forty connections at times fixed beforehand, and a time
runs from when an event was due, so that an answer that is late makes those behind it late too. Before each event its
reservation is changed at the source.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
from time import perf_counter
from urllib.parse import urlsplit

from benchmarks import stays
from benchmarks.measure import ROOT, Figure, Setting, at_most
from benchmarks.stays import ORGANIZATION, Place

SUBJECT = "m"
PER_SECOND, SECONDS, RESERVATIONS, CONNECTIONS = 200, 60, 2_000, 40
P99_SECONDS = 1.0
PATIENCE_SECONDS = 600.0  # until all is worked off
SETTLED = "SELECT state, count(*) FROM recon.webhook_events WHERE scope = $1 GROUP BY 1"


def run(setting: Setting) -> list[Figure]:
    """The answers' times, the events that were lost, and the time until none waits."""
    seconds = min(SECONDS, max(1, setting.rows // 10_000))
    many = PER_SECOND * seconds
    with stays.place(setting, min(RESERVATIONS, many)) as place:
        command = [sys.executable, "-c", "from recon.cli import main; main()", "serve", "--port", "0", "--json"]
        with subprocess.Popen(
            [*command, "--workspace", str(place.workspace.root)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, "RECON_DATABASE_URL": setting.database.url},
        ) as process:  # fmt: skip
            try:
                assert process.stdout is not None
                address = json.loads(process.stdout.readline())["address"]
                _clear(setting)
                took, statuses = asyncio.run(_sent(address, place, many))
                began = perf_counter()
                states = _worked_off(setting, began)
                backlog = perf_counter() - began
            finally:
                process.terminate()
    lost = many - sum(states.values())
    assert set(statuses) <= {200, 202}, f"refused: {statuses}"
    assert lost == 0, f"{lost} of {many} events were lost"
    assert states == {"success": many}, f"not all were worked off: {states}"
    what = f"{PER_SECOND} events a second for {seconds} s"
    cuts = statistics.quantiles(took, n=100)
    target, met = at_most(P99_SECONDS, cuts[98])
    return [
        Figure(SUBJECT, f"{what}: the answer, median", cuts[49], "s"),
        Figure(SUBJECT, f"{what}: the answer, 95 of 100", cuts[94], "s"),
        Figure(
            SUBJECT, f"{what}: the answer, 99 of 100", cuts[98], "s", target, met, note=f"slowest {max(took):.2f} s"
        ),
        Figure(SUBJECT, f"{what}: lost", float(lost), "events", "0", met=True),
        Figure(SUBJECT, f"{what}: until all are worked off", backlog, "s", note="counted from the last answer"),
    ]


def _clear(setting: Setting) -> None:
    with setting.database.session() as session:
        session.execute("DELETE FROM recon.webhook_events WHERE scope = $1", ORGANIZATION)


def _worked_off(setting: Setting, began: float) -> dict[str, int]:
    """How many events are in which state, once none waits."""
    while True:
        with setting.database.session(read_only=True) as session:
            states = {str(state): int(count) for state, count in session.rows(SETTLED, ORGANIZATION)}
        if "pending" not in states:
            return states
        assert perf_counter() - began < PATIENCE_SECONDS, f"events wait: {states}"
        _pause()


def _pause() -> None:
    asyncio.run(asyncio.sleep(0.2))


async def _sent(address: str, place: Place, many: int) -> tuple[list[float], dict[int, int]]:
    """Send the events, each at its time; returns how long each took, and how many answers had which status."""
    took: list[float] = []
    statuses: dict[int, int] = {}
    split, due = urlsplit(address), perf_counter() + 0.5

    numbers = iter(range(many))

    async def sender() -> None:
        reader, writer = await asyncio.open_connection(split.hostname, split.port)
        for number in numbers:  # of all senders: whoever is free sends the next one
            at = due + number / PER_SECOND
            await asyncio.sleep(max(0.0, at - perf_counter()))
            code = f"R{number * 7 % min(RESERVATIONS, many)}"
            place.stays.change(ORGANIZATION, code, check_out=f"2026-04-{3 + number % 25:02}")
            writer.write(_request(place, code, split.netloc))
            await writer.drain()
            status = await _answered(reader)
            took.append(perf_counter() - at)
            statuses[status] = statuses.get(status, 0) + 1
        writer.close()

    await asyncio.gather(*[sender() for _ in range(CONNECTIONS)])
    return took, statuses


def _request(place: Place, code: str, host: str) -> bytes:
    headers, body = place.stays.event(code)
    lines = [f"POST /staysnet/webhook/{ORGANIZATION} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _answered(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(":")[1]) for line in head.lower().split("\r\n") if line.startswith("content-length"))
    await reader.readexactly(length)
    return int(head.split(" ", 2)[1])
