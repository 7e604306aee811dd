"""Specs as YAML 1.2 files: errors name file, line, field, what is wrong and the nearest right name."""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from recon.errors import SpecError, did_you_mean
from recon.spec import Reconciliation

MAX_SPEC_BYTES = 1_000_000  # a spec is a page or two; more is a wrong file
MAX_SPEC_VALUES = 20_000  # values once aliases are followed: a few lines of aliases can stand for billions

# Fields that `like` replaces as a whole: a side is one thing, and half of another one makes no sense.
_REPLACED_WHOLE = frozenset({"target", "source", "passes", "show", "interpret", "valid", "follow_ups"})


def read(path: Path, find: Callable[[str], Path]) -> Reconciliation:
    """Read one spec file.

    Args:
        path: the YAML file.
        find: gives the file of another reconciliation by name, for `like`.

    Raises:
        SpecError: with file, line and field.
    """
    text = text_of(path)
    if (alone := _alone(text, path)) is not None:
        return alone
    document, lines = _document(text, path)
    return _validated(_with_like(document, path, find, [str(document.get("name"))]), path, lines)


@lru_cache(maxsize=128)
def _alone(text: str, path: Path) -> Reconciliation | None:
    """A spec that takes nothing of another one, kept, for a run asks for it many times; None: it is like another one."""
    document, lines = _document(text, path)
    return None if "like" in document else _validated(document, path, lines)


def _validated(document: dict[str, Any], path: Path, lines: CommentedMap) -> Reconciliation:
    try:
        return Reconciliation.model_validate(document)
    except ValidationError as error:
        raise explained(error, path, lines, Reconciliation, "See `recon schema` for every field.") from error


def changed(spec: Reconciliation, path: Path, fields: Mapping[str, Any]) -> Reconciliation:
    """A spec with some fields as given; its file stays as it is.

    Args:
        spec: as it was read.
        path: its file, named in the error.
        fields: fields of a spec, as YAML has them.

    Raises:
        SpecError: a field cannot be so.
    """
    document = spec.model_dump(by_alias=True, exclude_unset=True)
    return _validated({**document, **fields}, path, CommentedMap())


def _document(text: str, path: Path) -> tuple[dict[str, Any], CommentedMap]:
    loaded = parse(text, path)
    if not isinstance(loaded, CommentedMap):
        raise SpecError(f"{path}, line 1: a spec is a mapping of fields.", todo="Start with `name:`.")
    return typing.cast(dict[str, Any], plain(loaded, path)), loaded


def text_of(path: Path) -> str:
    """The text of a YAML file that a person wrote. Raises SpecError."""
    try:
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise SpecError(f"{path.name} is too large for a spec.", why=f"It is over {MAX_SPEC_BYTES:,} bytes.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"Cannot read {path}.", why=f"{error.strerror}.", todo="Check the path.") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 text.", todo="Save it as UTF-8.") from error


def parse(text: str, path: Path) -> Any:
    """YAML 1.2 with its lines; `path` is named in the error. Raises SpecError."""
    try:
        return YAML(typ="rt").load(StringIO(text))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(
            f"{path}, line {line}: this is not YAML.", why=f"{error.problem or error.context}.".capitalize()
        ) from error
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        raise SpecError(f"{path}: this is not YAML.", why=str(error).splitlines()[0]) from error


def plain(loaded: Any, path: Path) -> Any:
    """What was parsed as plain dicts, lists and values. Raises SpecError."""
    try:
        return _plain(loaded, itertools.count(1))
    except (_NoSpec, RecursionError) as error:
        why = str(error) if isinstance(error, _NoSpec) else "Its values are nested too deep, or an alias holds itself."
        raise SpecError(f"{path} cannot be a spec.", why=why, todo="Write its values out, without aliases.") from error


class _NoSpec(Exception):
    """A document that no spec looks like."""


def _plain(value: Any, count: Iterator[int]) -> Any:
    """Plain dicts and lists; YAML keeps `on` and `no` as the text they are. `count` counts the values made."""
    if next(count) > MAX_SPEC_VALUES:
        raise _NoSpec(f"It holds more than {MAX_SPEC_VALUES:,} values once its aliases are followed.")
    if isinstance(value, Mapping):
        if any(isinstance(key, tuple | Mapping) for key in value):
            raise _NoSpec("A list or mapping stands where the name of a field belongs.")
        return {str(key): _plain(item, count) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, count) for item in value]
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return int(value)
    return str(value) if isinstance(value, str) else value


def _with_like(document: dict[str, Any], path: Path, find: Callable[[str], Path], seen: list[str]) -> dict[str, Any]:
    other = document.get("like")
    if not isinstance(other, str):
        return document
    if other in seen:
        raise SpecError(f"{path}: `like` goes round in a circle.", why=" → ".join([*seen, other]) + ".")
    base_path = find(other)
    base, _ = _document(text_of(base_path), base_path)
    base = _with_like(base, base_path, find, [*seen, other])
    # Who tries a variant does not ask for it each time the group is run: two plans would write the same records.
    base = {name: value for name, value in base.items() if name != "group"}
    return _merge(base, document, top=True)


def _merge(base: dict[str, Any], over: dict[str, Any], *, top: bool = False) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        whole = top and name in _REPLACED_WHOLE
        if not whole and isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merge(merged[name], typing.cast(dict[str, Any], value))
        else:
            merged[name] = value
    return merged


# -- errors with lines -----------------------------------------------------------------------------------


def explained(error: ValidationError, path: Path, lines: Any, model: type[BaseModel], todo: str) -> SpecError:
    """The first problems of a validation as one error, each with its line and field.

    Args:
        error: what pydantic says.
        path: the file.
        lines: what was parsed from it.
        model: what the file describes, or each item of its list.
        todo: where to read on.
    """
    every = error.errors()
    # A value that may be written in several ways is tried in all of them; only the one that was meant tells something.
    details = [detail for detail in every if not (detail["type"] in _OTHER_FORM and _tagged(detail))] or every
    shown = details[:3]
    said: list[str] = []
    for detail in shown:
        line, field = _place(lines, detail["loc"])
        said.append(f"{path}, line {line}: {field}: {_problem(detail, model)}")
    rest = f" (and {len(details) - len(shown)} more)" if len(details) > len(shown) else ""
    return SpecError("\n".join(said) + rest, todo=todo)


_OTHER_FORM = frozenset(
    """
    list_type string_type dict_type model_type model_attributes_type decimal_type decimal_parsing
    """.split()
)


def _tagged(detail: ErrorDetails) -> bool:
    """Whether a problem is about one of several forms: the form stands in its place beside the fields."""
    return any(isinstance(part, str) and ("[" in part or part in ("str", "decimal")) for part in detail["loc"])


def _problem(detail: ErrorDetails, model: type[BaseModel]) -> str:
    location = [part for part in detail["loc"] if isinstance(part, str)]
    kind = detail["type"]
    if kind == "extra_forbidden":
        hint = did_you_mean(location[-1], _known_fields(model, location[:-1]))
        return f"there is no field {location[-1]!r} here. {hint}".strip()
    if kind == "missing":
        return "this field is missing."
    if kind == "string_pattern_mismatch":
        return (
            f"{detail['input']!r} is not a name: lower-case letters, digits and _, starting with a letter, at most 48."
        )
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "literal_error":
        hint = did_you_mean(
            str(detail["input"]),
            str(detail.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", "),
        )
        message = f"{detail['input']!r} is not one of {detail.get('ctx', {}).get('expected')}. {hint}".strip()
    return message[:1].upper() + message[1:] + ("" if message.endswith((".", "?")) else ".")


def _place(lines: Any, location: tuple[int | str, ...]) -> tuple[int, str]:
    """Line (from 1) and dotted field of an error's location; union tags that are not in the file are skipped."""
    node: Any = lines
    line, field = 1, ""
    for part in location:
        if isinstance(node, CommentedMap) and part in node:
            line = node.lc.key(part)[0] + 1
            field = f"{field}.{part}" if field else str(part)
            node = node[part]
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line = node.lc.item(part)[0] + 1
            field = f"{field}[{part + 1}]"
            node = node[part]
        elif isinstance(node, CommentedMap) and part == location[-1] and "[" not in str(part):
            field = f"{field}.{part}" if field else str(part)
    return line, field or "the spec"


def _known_fields(whole: type[BaseModel], location: list[str]) -> set[str]:
    """The fields of the part of a spec at `location`."""
    model: type[BaseModel] | None = whole
    for part in location:
        if model is None or part not in model.model_fields:
            continue
        found = list(_models(model.model_fields[part].annotation))
        model = found[0] if found else None
    return set(model.model_fields) if model else set()


def _models(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, BaseModel)
    ):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)
