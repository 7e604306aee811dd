"""Results as tables: what a notebook shows, and what pandas goes on with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def table(found: Mapping[str, object] | Iterable[object], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Results as a pandas DataFrame: a row for each, in their order.

    Args:
        found: mappings, or what has a method `as_dict` (findings, plans, …), or dataclasses; counts such as a run's
            `outcomes` become a table of two columns.
        columns: which columns, in this order; None: those of all rows.

    >>> table({"linked": 125, "matched": 10}).to_dict("records")
    [{'name': 'linked', 'count': 125}, {'name': 'matched', 'count': 10}]
    >>> table([{"pass": "by_code", "partner": 2**53 + 1}, {"pass": "by_name", "partner": None}])
          pass           partner
    0  by_code  9007199254740993
    1  by_name              <NA>
    """
    if isinstance(found, Mapping):
        columns = columns or ["name", "count"]
        return frame(columns, [*found.items()])
    rows = [_row(item) for item in found]
    names = columns or list(dict.fromkeys(name for row in rows for name in row))
    return frame(names, [[row.get(name) for name in names] for row in rows])


def frame(columns: Sequence[str], rows: Sequence[Iterable[Any]]) -> pd.DataFrame:
    """Rows as a DataFrame; a whole number stays one beside a missing value, where pandas would make a float of it.

    Args:
        columns: the headings; one may stand twice.
        rows: values in their order.
    """
    import pandas as pd

    made = pd.DataFrame(rows, columns=list(columns), dtype=object)
    for place in range(len(columns)):
        made.isetitem(place, _typed(made.iloc[:, place]))
    return made


def _typed(values: pd.Series) -> pd.Series:
    import pandas as pd

    if pd.api.types.infer_dtype(values, skipna=True) == "integer" and values.hasnans:
        try:
            return values.astype("Int64")  # a key of 64 bits does not fit into a float
        except (OverflowError, TypeError):
            return values
    return values.infer_objects()


def _row(item: Any) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return dict(item)
    if hasattr(item, "as_dict"):
        return item.as_dict()
    if is_dataclass(item) and not isinstance(item, type):
        return asdict(item)
    raise TypeError(f"A row is a mapping or a dataclass, not {type(item).__name__}.")
