"""Where things are: specs, sql/, expectations/, reports/; settings from the environment; policy from recon.toml."""

from __future__ import annotations

import getpass
import os
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from recon import spec_file
from recon.errors import VEIL, NotFound, SpecError, UsageError, did_you_mean
from recon.names import storable
from recon.spec import Reconciliation

POLICY_FILE = "recon.toml"
SIGNERS_FILE = "allowed_signers"  # whose SSH keys count; the workspace's own, never one that comes with a bundle
LONGEST_DAYS = 36_500  # a hundred years; what is longer ends in no calendar
_PACKAGE = Path(__file__).parent
SPEC_SCHEMA = _PACKAGE / "reconciliation.schema.json"  # of a spec, for editors; each workspace has it


def _yes(value: object) -> bool:
    """Whether a setting says yes; whatever is not clearly a yes is none."""
    return str(value).strip().lower() in ("1", "true", "yes", "on")


class Settings(BaseSettings):
    """What the environment (or a `.env` file in the workspace) says; every variable starts with RECON_."""

    model_config = SettingsConfigDict(env_prefix="RECON_", extra="ignore")

    database_url: SecretStr | None = Field(None, description="Any PostgreSQL 15 or later; absent: the embedded one.")
    user: str | None = Field(None, description="The acting person; absent: the operating system's user.")
    environment: str | None = Field(
        None, description="Where this runs; absent: development when embedded, else production."
    )
    show_private: Annotated[bool, BeforeValidator(_yes)] = Field(
        False, description="1: show private columns, to a person whom recon.toml lists in [private] seen_by."
    )


class SignOffPolicy(BaseModel):
    """Who must say yes to a plan."""

    model_config = ConfigDict(extra="forbid")
    approvals: int = Field(1, ge=1, description="How many people other than the author must approve a plan.")
    recorded_by_name: bool = Field(
        True, description="Whether an approval by name counts, or only SSH signatures by keys of allowed_signers."
    )
    applier_may_approve: bool = Field(
        True, description="Whether whoever applies a plan may be among the people whose approval it needs."
    )
    standing_days: int = Field(
        90, ge=0, le=LONGEST_DAYS, description="How many days at most a standing sign-off holds; 0: none is accepted."
    )


class PlanPolicy(BaseModel):
    """How long a plan holds, and how much may change under it."""

    model_config = ConfigDict(extra="forbid")
    expires_days: int = Field(
        7, ge=1, le=LONGEST_DAYS, description="After how many days a plan that nobody applied must be made again."
    )
    tolerance_rows: int = Field(
        0, ge=0, description="How many planned rows may have changed before an apply refuses to start."
    )


class PrivatePolicy(BaseModel):
    """Who may see private columns."""

    model_config = ConfigDict(extra="forbid")
    seen_by: list[str] = Field(
        default_factory=list,
        description="Who may see columns that a spec marks private, and then only with RECON_SHOW_PRIVATE=1.",
    )


class Policy(BaseModel):
    """What `recon.toml` lays down for a workspace."""

    model_config = ConfigDict(extra="forbid")
    sign_off: SignOffPolicy = Field(default_factory=SignOffPolicy.model_construct)
    plan: PlanPolicy = Field(default_factory=PlanPolicy.model_construct)
    private: PrivatePolicy = Field(default_factory=PrivatePolicy.model_construct)


def template(name: str) -> Path:
    """The shipped file or folder of this name: inside an installed wheel, or in the repository."""
    inside = _PACKAGE / "template" / name
    return inside if inside.exists() else _PACKAGE.parent / name


@dataclass(frozen=True)
class Workspace:
    """A folder with specs, bundles, suites and reports."""

    root: Path
    given: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)  # RECON_… settings that win

    def with_variables(self, given: Mapping[str, str]) -> Workspace:
        """The same workspace, in which these variables are set whatever the environment says: a demo's stand-ins."""
        return Workspace(self.root, {**self.given, **given})

    @classmethod
    def find(cls, folder: Path | None = None, *, anywhere: bool = False) -> Workspace:
        """The given folder, else the nearest one from here upwards that holds recon.toml.

        Args:
            folder: the workspace, whether it holds recon.toml or not.
            anywhere: take the current folder where no workspace is found.

        Raises:
            UsageError: no such folder; or no workspace here.
        """
        if folder is not None:
            if not folder.is_dir():
                raise UsageError(f"There is no folder {folder}.", todo="Make one with `recon init DIR`.")
            return cls(folder.resolve())
        here = Path.cwd()
        for candidate in (here, *here.parents):
            if (candidate / POLICY_FILE).is_file():
                return cls(candidate)
        if not anywhere:
            raise UsageError(
                "There is no workspace here.",
                why=f"Neither {here} nor a folder above it holds {POLICY_FILE}.",
                todo="Make one with `recon init DIR`, or name one with --workspace.",
            )
        return cls(here)

    @cached_property
    def settings(self) -> Settings:
        given = {
            name: self.given[key] for name in Settings.model_fields if (key := f"RECON_{name.upper()}") in self.given
        }
        return Settings(_env_file=self.root / ".env", **given)  # pyright: ignore[reportCallIssue, reportArgumentType] (pydantic-settings' own argument)

    @cached_property
    def variables(self) -> Mapping[str, str]:
        """Every RECON_… variable that is set, as given here, else by the environment or `.env`: where clients find credentials."""
        from dotenv import dotenv_values

        path = self.root / ".env"
        written = dotenv_values(path, interpolate=False) if path.is_file() else {}
        every = {**written, **os.environ, **self.given}
        return {name: value for name, value in every.items() if name.startswith("RECON_") and value}

    @cached_property
    def policy(self) -> Policy:
        path = self.root / POLICY_FILE
        if not path.is_file():
            return Policy()
        try:
            return Policy.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SpecError(
                f"{path} cannot be read.", why=f"{error}.", todo="Correct it, in TOML and UTF-8."
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise SpecError(
                f"{path}: {field}: {first['msg']}.",
                why="Policy must be clear, or nobody could rely on it.",
                todo="Correct the field.",
            ) from error

    @property
    def actor(self) -> str:
        """The acting person: RECON_USER, else the operating system's user; white space around it is not part of it."""
        return person(" ".join(unicodedata.normalize("NFKC", self.settings.user or "").split()) or getpass.getuser())

    @property
    def _may_see_private(self) -> bool:
        return any(same_person(self.actor, name) for name in self.policy.private.seen_by)

    @property
    def sees_private(self) -> bool:
        """Whether values of private columns are shown: the acting person may see them, and asks for it.

        May: `[private] seen_by` in recon.toml. Asks: RECON_SHOW_PRIVATE=1. Both are needed, so that nobody shows them
        by being who they are. The kernel of a notebook inherits the environment, so the answer is the same there.
        """
        return self.settings.show_private and self._may_see_private

    def private_note(self, spec: Reconciliation) -> str | None:
        """What a screen, page or report must say about private columns; None where the spec has none."""
        if not spec.has_private:
            return None
        if self.sees_private:
            sides = (("target", spec.target.private), ("source", spec.source.private))
            named = "; ".join(f"{side} {', '.join(names)}" for side, names in sides if names)
            return f"This shows private columns to {self.actor}: {named}. Keep it from others."
        if not self.settings.show_private:
            more = "; RECON_SHOW_PRIVATE=1 shows them" if self._may_see_private else ""
            return f"Private columns are veiled ({VEIL}){more}."
        return f"Private columns are veiled ({VEIL}); {self.actor} is not in seen_by of {POLICY_FILE}."

    @property
    def folder(self) -> Path:
        """`.recon/`: the embedded database and other things of this machine."""
        return self.root / ".recon"

    @property
    def backfills(self) -> Path:
        return self.root / "sql" / "backfills"

    @property
    def signers(self) -> Path:
        """The list of people and their SSH keys, as ssh-keygen reads it (ALLOWED SIGNERS in its manual)."""
        return self.root / SIGNERS_FILE

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    def file(self, kind: Literal["notebooks", "sql", "expectations"], name: str) -> Path:
        """A file of the workspace, else the shipped one of the same name."""
        own = self.root / kind / name
        return own if own.exists() else template(kind) / name

    # -- reconciliations -------------------------------------------------------------------------------

    def reconciliations(self) -> dict[str, Path]:
        """Name to spec file: the shipped ones, and the workspace's own, which win."""
        shipped = sorted((_PACKAGE / "systems").glob("*/*.yaml"))
        own = sorted((self.root / "reconciliations").glob("*.yaml"))
        return {path.stem: path for path in [*shipped, *own]}

    def spec_path(self, name: str) -> Path:
        known = self.reconciliations()
        if name not in known:
            hint = did_you_mean(name, known) or f"There are: {', '.join(known)}."
            raise NotFound(f'There is no reconciliation "{name}".', why=hint, todo="See `recon list`.")
        return known[name]

    def spec(self, name: str) -> Reconciliation:
        """The reconciliation of this name. Raises NotFound or SpecError."""
        path = self.spec_path(name)
        spec = spec_file.read(path, self.spec_path)
        if spec.name != path.stem:
            raise SpecError(
                f'{path}: the file holds "{spec.name}".', why="A spec's file is named like the spec.",
                todo=f"Rename it to {spec.name}.yaml.",
            )  # fmt: skip
        return spec

    def members(self, name: str) -> list[str]:
        """The reconciliations that a name stands for: those of a group in the order of their files, else the one itself.

        Raises NotFound where there is neither a group nor a reconciliation of this name.
        """
        if name in self.reconciliations():
            return [name]
        found = [known for known in self.reconciliations() if self.spec(known).group == name]
        if not found:
            self.spec_path(name)
        return found


LONGEST_NAME = 200  # characters; a name is shown beside what its person did


def reason(text: str, of: str) -> str:
    """Why somebody did something, if it can be kept and read.

    Args:
        text: what was given.
        of: what it is the reason of, such as "A rejection".

    Raises:
        UsageError: there is none, or it is no text.
    """
    if not text.strip():
        raise UsageError(
            f"{of} needs a reason.",
            why="Who reads it in a year must understand it.",
            todo="Give it with --reason TEXT.",
        )
    if not storable(text):
        raise UsageError(f"The reason {text!r} is no text.", why="It holds a NUL or half a character.")
    return text


# What shows nothing, and Python calls printable: two names that look the same would be two people's.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def person(name: str, todo: str = "Set RECON_USER to your name.") -> str:
    """The name of a person, if it is one that can be read. Raises UsageError."""
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME or _UNSEEN.search(name):
        raise UsageError(
            f"{name[:LONGEST_NAME]!r} is no name.",
            why=f"A name has letters that can be seen, and at most {LONGEST_NAME} of them.",
            todo=todo,
        )
    return name


def same_person(name: str, other: str) -> bool:
    """Whether two names are one person's: case, white space and ways to write a letter do not make two people of one.

    >>> same_person("Ann ", "ann"), same_person("ann", "anna")
    (True, False)
    """
    return folded(name) == folded(other)


def folded(name: str) -> str:
    """A name without what may differ between two spellings of one person's.

    >>> folded(" Ann  Lee")
    'annlee'
    """
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
