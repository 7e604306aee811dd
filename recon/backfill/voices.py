"""Who counts: every yes to a plan is a voice, and voices count once for each person and each key, the author's never."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recon.backfill.signatures import Key, Signers
from recon.database.connect import Database
from recon.errors import NotApproved, UsageError
from recon.workspace import SignOffPolicy, same_person
from recon.workspace import person as checked

SHIPS = "ships with recon"  # who gives what ships: no person, so that nobody is taken for one who looked
DEMO_PREFIX = "demo-"  # demo-analyst and demo-reviewer act in the demo database only
RECORDED, SIGNED = "recorded", "signed"


@dataclass(frozen=True)
class Voice:
    """One yes: whose, with which key (None: recorded by name), and in which standing sign-off (None: to this plan)."""

    person: str
    key: Key | None
    standing: str | None = None

    @property
    def way(self) -> str:
        """How it was given, in words."""
        how = f"signed, {self.key.fingerprint}" if self.key else "by name"
        return f"standing {self.standing}, {how}" if self.standing else how


@dataclass(frozen=True)
class Tally:
    """The voices that count, and why others do not."""

    counted: tuple[Voice, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def said(self) -> tuple[str, ...]:
        """Whose yes counts, and how it was given, for people."""
        return tuple(f"{voice.person} ({voice.way})" for voice in self.counted)

    def with_more(self, voices: Iterable[Voice], author: str, signers: Signers) -> Tally:
        """Count more voices, each only if it is neither the author's nor that of somebody counted already."""
        counted, refused = list(self.counted), list(self.refused)
        for voice in voices:
            theirs = same_voice(voice, Voice(author, None), signers)
            if theirs:
                refused.append(f"{voice.person}: {theirs}, who made the plan")
                continue
            again = next(filter(None, (same_voice(voice, other, signers) for other in counted)), "")
            if again:
                refused.append(f"{voice.person}: {again}, who is counted already")
                continue
            counted.append(voice)
        return Tally(tuple(counted), tuple(refused))

    def but(self, reasons: Iterable[str]) -> Tally:
        """The same, with more reasons why others do not count."""
        return Tally(self.counted, (*self.refused, *reasons))

    def without(self, person: str, signers: Signers) -> Tally:
        """Without the voice of the person who applies."""
        applier = Voice(person, None)
        kept = tuple(voice for voice in self.counted if not same_voice(voice, applier, signers))
        gone = [f"{voice.person} applies the plan" for voice in self.counted if voice not in kept]
        return Tally(kept, (*self.refused, *gone))


def same_voice(voice: Voice, other: Voice, signers: Signers) -> str:
    """Why two voices are of one person: the same name, the same key, or a key that is listed for both; else nothing."""
    if same_person(voice.person, other.person):
        return f"this is {other.person}"
    if voice.key is not None:
        if other.key == voice.key:
            return f"the key {voice.key.fingerprint} is that of {other.person}"
        if signers.lists(voice.key, other.person):
            return f"the key {voice.key.fingerprint} is listed for {other.person} too"
    if other.key is not None and signers.lists(other.key, voice.person):
        return f"the key of {other.person} is listed for {voice.person} too"
    return ""


def stricter(policy: SignOffPolicy, planned: Mapping[str, Any]) -> SignOffPolicy:
    """Of the policy here and the one that a plan was made under, whatever is stricter.

    >>> stricter(SignOffPolicy(approvals=1, standing_days=90), {"approvals": 2, "recorded_by_name": False}).approvals
    2
    """
    return SignOffPolicy(
        approvals=max(policy.approvals, int(planned["approvals"])),
        recorded_by_name=policy.recorded_by_name and bool(planned["recorded_by_name"]),
        # Plans of an older recon know nothing of these.
        applier_may_approve=policy.applier_may_approve and bool(planned.get("applier_may_approve", True)),
        standing_days=min(policy.standing_days, int(planned.get("standing_days", policy.standing_days))),
    )


def acting(actor: str, database: Database) -> None:
    """Refuse a name that nobody can read or has, and the demo's people outside of the demo. Raises NotApproved."""
    try:
        checked(actor)
    except UsageError as error:
        raise NotApproved(error.what, why=error.why, todo=error.todo) from error
    if same_person(actor, SHIPS):
        raise NotApproved(f"{actor} is no person.", todo="Set RECON_USER to your name.")
    if actor.strip().casefold().startswith(DEMO_PREFIX) and not database.demo:
        raise NotApproved(
            f"{actor} acts in the demo database only.", todo="Set RECON_USER to your name, or leave it unset."
        )
