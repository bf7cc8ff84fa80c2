"""Tables of Results, in memory or on disk, read cell by cell: what every statistic is computed from."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sibx.evaluation.columns import BLOCK, CATEGORY
from sibx.evaluation.shelf import ROW, Key, Records, Shelf, Span

Lies = dict[int, list[Span]]  # number of a shelf -> where rows are on it
Only = Mapping[str, Collection[Any]]  # column -> values that it may have


class ByCell(Protocol):
    """A table that is read cell by cell."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""

    def blocks(self) -> Iterator[pd.DataFrame]:
        """Yield all rows in their order, in blocks of at most ``BLOCK``."""

    def cells(self, by: Sequence[str], only: Only) -> Iterator[tuple[Key, pd.DataFrame]]:
        """Yield what the columns ``by`` hold, and the rows that hold it; the index is their place in the table."""

    def table(self, only: Only) -> pd.DataFrame:
        """Return the rows, numbered from 0."""

    def distinct(self, names: Sequence[str]) -> pd.DataFrame:
        """Return the different lines of some columns, in order of first appearance."""

    def firsts(self, names: Sequence[str]) -> pd.DataFrame:
        """Return the first row of every different line of some columns, numbered from 0."""


class InTable:
    """A table in memory."""

    def __init__(self, rows: pd.DataFrame):
        self._rows = rows

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(map(str, self._rows))

    def blocks(self) -> Iterator[pd.DataFrame]:
        """Yield all rows."""
        for first in range(0, max(1, len(self._rows)), BLOCK):
            yield self._rows.iloc[first : first + BLOCK]

    def cells(self, by: Sequence[str], only: Only) -> Iterator[tuple[Key, pd.DataFrame]]:
        """Yield cells in order of first appearance."""
        rows = _kept(self._rows.set_axis(pd.RangeIndex(len(self._rows))), only)
        yield from rows.groupby(list(by), sort=False, observed=True)

    def table(self, only: Only) -> pd.DataFrame:
        """Return the rows, numbered from 0."""
        return _kept(self._rows, only).reset_index(drop=True)

    def distinct(self, names: Sequence[str]) -> pd.DataFrame:
        """Return different lines."""
        return self._rows[list(names)].drop_duplicates(ignore_index=True)

    def firsts(self, names: Sequence[str]) -> pd.DataFrame:
        """Return the first rows."""
        return self._rows.drop_duplicates(list(names), ignore_index=True)


class OnShelves:
    """Tables below each other, on disk: only one cell at a time is in memory.

    Texts are categories, every table's in alphabetical order, and then what the next ones have beside.

    Args:
        shelves: the tables, with the same columns of the same types.
    """

    def __init__(self, shelves: Sequence[Shelf]):
        self.shelves = [s for s in shelves if s.count] or list(shelves[:1])  # the types of an empty one say nothing
        self._keys, self._dtypes = self.shelves[0].keys, self.shelves[0].dtypes
        self._firsts = np.cumsum([0, *(shelf.count for shelf in self.shelves)]).tolist()
        self._looked_up: dict[Key, pd.DataFrame] = {}
        self._cells: dict[Key, Lies] = {}
        for place, shelf in enumerate(self.shelves):
            for key, spans in shelf.cells.items():
                self._cells.setdefault(key, {})[place] = spans
        texts: dict[str, dict[Any, int]] = {name: {} for name in self.shelves[0].texts}
        # For every shelf and column: the number here of every number there.
        self._numbers = [{n: _numbers(known, shelf.texts[n]) for n, known in texts.items()} for shelf in self.shelves]
        self._texts = {name: pd.Index(list(known)) for name, known in texts.items()}
        self._categories = {n: CATEGORY(self._texts[n]) for n in texts if isinstance(self._dtypes[n], CATEGORY)}

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._dtypes)

    def blocks(self) -> Iterator[pd.DataFrame]:
        """Yield all rows."""
        for place, shelf in enumerate(self.shelves):
            for span in shelf.blocks:
                yield self._frame({place: [span]})

    def cells(self, by: Sequence[str], only: Only) -> Iterator[tuple[Key, pd.DataFrame]]:
        """Yield cells; in order of first appearance if columns other than the keys do not tell them apart.

        All that the keys do not tell apart is in memory together.
        """
        together: dict[Key, Lies] = {}
        for key, spans in self._found(only):
            known = dict(zip(self._keys, key, strict=True))
            lies = together.setdefault(tuple(known[name] for name in by if name in known), {})
            for place, of_shelf in spans.items():
                lies.setdefault(place, []).extend(of_shelf)
        for lies in together.values():
            yield from _kept(self._frame(lies), only).groupby(list(by), sort=False, observed=True)

    def table(self, only: Only) -> pd.DataFrame:
        """Return the rows, numbered from 0."""
        parts = [_kept(self._frame(lies), only) for _, lies in self._found(only)] if only else self.blocks()
        return pd.concat([self._frame({0: []}), *parts]).sort_index().reset_index(drop=True)

    def distinct(self, names: Sequence[str]) -> pd.DataFrame:
        """Return different lines."""
        if set(names) <= set(self._keys):
            lines = pd.DataFrame(list(self._cells), columns=self._keys)[list(names)].drop_duplicates(ignore_index=True)
            return lines.astype({name: self._categories[name] for name in names if name in self._categories})
        return self.firsts(names)[list(names)]

    def firsts(self, names: Sequence[str]) -> pd.DataFrame:
        """Return the first rows; they are looked for once."""
        if tuple(names) not in self._looked_up:
            parts = [block.drop_duplicates(list(names)) for block in self.blocks()]
            self._looked_up[tuple(names)] = pd.concat(parts).drop_duplicates(list(names), ignore_index=True)
        return self._looked_up[tuple(names)]

    def _found(self, only: Only) -> Iterator[tuple[Key, Lies]]:
        """Where the cells lie that may hold what is asked for, in order of first appearance."""
        asked = [(i, only[name]) for i, name in enumerate(self._keys) if name in only]
        for key, lies in self._cells.items():
            if all(key[i] in values for i, values in asked):
                yield key, lies

    def _frame(self, lies: Lies) -> pd.DataFrame:
        """Rows in their order, with their places as index."""
        parts = []
        for place, spans in lies.items():
            records = self.shelves[place].read(spans)
            records = records[np.argsort(records[ROW], kind="stable")]
            columns = {name: self._column(name, records, place) for name in self._dtypes}
            parts.append(pd.DataFrame(columns, index=records[ROW] + self._firsts[place]))
        return parts[0] if len(parts) == 1 else pd.concat(parts)

    def _column(self, name: str, records: Records, place: int) -> Any:
        if name not in self._texts:
            return np.ascontiguousarray(records[name])
        codes = self._numbers[place][name][records[name]]
        if name in self._categories:
            return pd.Categorical.from_codes(codes, dtype=self._categories[name])
        return self._texts[name].take(codes).astype(self._dtypes[name]).array


def _numbers(known: dict[Any, int], texts: Mapping[Any, int]) -> np.ndarray:
    """Give the texts that are not known the next numbers; return those of all, at the place of their old number."""
    numbers = np.empty(len(texts), np.int32)
    for text in sorted(texts, key=str):
        numbers[texts[text]] = known.setdefault(text, len(known))
    return numbers


def fit_together(shelves: Sequence[Shelf]) -> bool:
    """Whether tables that are not empty have the same columns of the same types."""
    kinds = [[(name, str(t)) for name, t in shelf.dtypes.items()] for shelf in shelves if shelf.count]
    return all(kind == kinds[0] for kind in kinds)


def _kept(rows: pd.DataFrame, only: Only) -> pd.DataFrame:
    for name, values in only.items():
        rows = rows[rows[name].isin(list(values))]
    return rows
