"""Arguments of a wrong type: told by their name, before anything is done with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from datetime import date
from functools import wraps
from numbers import Integral, Real
from os import PathLike
from types import FunctionType
from typing import Any, TypeVar

from recon.errors import UsageError
from recon.spec import Reconciliation

Kind = TypeVar("Kind", bound=type)
Of = TypeVar("Of", bound=Callable[..., Any])


def _list(value: object) -> bool:
    """Whether it is a list, or the like. A text is one of its letters, which nobody means."""
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


def _texts(value: Any) -> bool:
    return _list(value) and all(isinstance(item, str) for item in value)


def _is(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)


# What stands between the bars of an annotation: how it is said, and what fits.
TYPES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "None": ("None", lambda value: value is None),
    "str": ("a text", _is(str)),
    "Path": ("a path", _is(PathLike)),
    "int": ("a whole number", _is(Integral)),
    "float": ("a number", _is(Real)),
    "bool": ("True or False", _is(bool)),
    "date": ("a datetime.date", _is(date)),
    "Spec": ("the name of a reconciliation or a spec", _is(str, Reconciliation)),
    "Mode": ("a text", _is(str)),
    "Kind": ("a text", _is(str)),
    "Sequence[str]": ("a list of texts", _texts),
    "Sequence[object]": ("a list", _list),
    "Mapping[str, Any]": ("a dictionary", _is(Mapping)),
}
ANYTHING = ("object", "Any", "Callable[[str, Any], None]")  # parts of annotations by which nothing is judged


def looked_at(function: Of) -> Of:
    """The same function, which raises UsageError where an argument is of a wrong type."""
    signature = inspect.signature(function)
    asked = {name: str(part.annotation).split(" | ") for name, part in signature.parameters.items() if name != "self"}
    judged = {name: parts for name, parts in asked.items() if all(part in TYPES for part in parts)}
    several = {name for name, part in signature.parameters.items() if part.kind is part.VAR_POSITIONAL}
    refuse = _refuse

    def first(*args: Any, **fields: Any) -> Any:
        try:
            given = signature.bind(*args, **fields).arguments
        except TypeError:  # too many or too few: Python itself says it best
            return function(*args, **fields)
        for name, parts in judged.items():
            if name in given:
                for value in given[name] if name in several else (given[name],):
                    refuse(name, value, parts)
        return function(*args, **fields)

    # Of the function's own module, as doctest wants it of what it takes examples from.
    own = FunctionType(first.__code__, function.__globals__, function.__name__, None, first.__closure__)
    return wraps(function)(own)  # pyright: ignore[reportReturnType]


def all_looked_at(kind: Kind) -> Kind:
    """The class, with every public method of its own as `looked_at` has it."""
    for name, method in [*vars(kind).items()]:
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(kind, name, looked_at(method))
    return kind


def _refuse(name: str, value: object, parts: list[str]) -> None:
    if any(TYPES[part][1](value) for part in parts):
        return
    words = " or ".join(dict.fromkeys(TYPES[part][0] for part in parts))
    if parts == ["bool"]:
        raise UsageError(f"{name} is neither True nor False.", todo=f"Write {name}=True, or leave it out.")
    raise UsageError(
        f"{name} is of the type {type(value).__name__}.", why=f"It takes {words}.", todo=f"Give {words} for {name}."
    )
