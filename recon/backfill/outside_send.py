"""Send edits to an outside system so that each is carried out once, as far as the other side allows.

An answer that never came says nothing: the records are read again, and only those that still hold what they held are sent
again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from recon.backfill import outside_read, seams
from recon.backfill.outside_bundle import Line
from recon.backfill.outside_read import ABSENT, NOT_THERE, READY, THERE, UNANSWERED, Look
from recon.errors import OutsideUnsure, visible
from recon.outside.interface import Answer, Fields, Target

MOST_TRIES = 4  # of one chunk whose answer did not come; then it is left for a resume
PAUSE_SECONDS = 0.25  # before records are read again, doubled each time: a request may still be at work over there

Announce = Callable[[Sequence[Look]], None]  # writes ahead, on disk, what is about to be sent


@dataclass
class Sent:
    """What became of the records of a chunk, by place."""

    done: set[int] = field(default_factory=set[int])
    errors: dict[int, str] = field(default_factory=dict[int, str])
    drifted: dict[int, Fields] = field(default_factory=dict[int, Fields])  # what they hold


def send(target: Target, looks: Sequence[Look], announce: Announce) -> Sent:
    """Write the records that are ready; those that hold what is wanted are done already.

    Args:
        target: the outside system.
        looks: the records of a chunk as they were read just now.
        announce: called before each request that changes something.

    Raises:
        OutsideUnsure: nobody knows what became of the last request; what was announced says which records to look at.
        OutsideFailed: the system cannot be asked.
    """
    sent, pause, unsure, heard = Sent(), PAUSE_SECONDS, list[Line](), False
    for tried in range(MOST_TRIES):
        _sort(looks, sent)
        ready = [item for item in looks if item.verdict == READY]
        if not ready:
            return sent
        announce(ready)
        seams.reached("outside announced")
        try:
            answers = _by_record(target.write([item.line.edit for item in ready]))
        except OutsideUnsure:
            if tried == MOST_TRIES - 1:
                raise
            answers = {}
        seams.reached("outside written")
        unsure = _take(ready, answers, sent)
        if not unsure:
            return sent
        heard = heard or len(unsure) < len(ready)
        time.sleep(pause)
        pause *= 2
        looks = outside_read.look(target, unsure)
    _sort(looks, sent)
    ready = [item for item in looks if item.verdict == READY]
    if len(ready) > 1 and not heard:
        raise OutsideUnsure(
            f"The outside system did not say what became of {len(ready)} records.",
            why=f"It was asked {MOST_TRIES} times, and they are as they were.",
            todo="Try again later: they are read before anything is sent again.",
        )
    # It answers, only not about these: they stop nobody else.
    sent.errors |= {item.line.place: UNANSWERED for item in ready}
    return sent


def _by_record(answers: Iterable[Answer]) -> dict[str, Answer]:
    """The answers by record; of several about one record an error is the one that counts."""
    found: dict[str, Answer] = {}
    for answer in answers:
        if answer.error is not None or answer.record not in found:
            found[answer.record] = answer
    return found


def _sort(looks: Sequence[Look], sent: Sent) -> None:
    """Take note of what need not or must not be sent."""
    for item in looks:
        if item.verdict == THERE:
            sent.done.add(item.line.place)
        elif item.verdict == ABSENT:
            sent.errors[item.line.place] = NOT_THERE
        elif item.verdict != READY:
            sent.drifted[item.line.place] = item.before


def _take(ready: Sequence[Look], answers: Mapping[str, Answer], sent: Sent) -> list[Line]:
    """Take note of the answers; gives the lines that got none."""
    unsure: list[Line] = []
    for item in ready:
        answer = answers.get(item.line.edit.record)
        if answer is None:
            unsure.append(item.line)
        elif answer.error is None:
            sent.done.add(item.line.place)
        else:
            sent.errors[item.line.place] = visible(answer.error)
    return unsure
