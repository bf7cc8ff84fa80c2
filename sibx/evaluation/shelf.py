"""A table on disk that is read cell by cell."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from tempfile import SpooledTemporaryFile
from threading import Lock
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

Key = tuple[Any, ...]
Records = npt.NDArray[np.void]
ROW = "row number"  # in the table
MEMORY = 2**22  # bytes of a table that stay in memory: a small one opens no file


class MixedTypesError(ValueError):
    """Blocks of a table of which a column has several types, such as whole numbers and then an empty one."""


class Span(NamedTuple):
    """Records that lie together: the first, and how many."""

    first: int
    size: int


class Shelf:
    """The rows of a table in a temporary file, those of a cell together within every block of the table.

    A row is a record of numbers, about 100 bytes; texts are their numbers in ``texts``. In memory are only the
    different texts, and where every cell lies.

    Args:
        blocks: the table, in blocks of rows with the same columns.
        keys: columns whose values together make a cell.

    Raises:
        MixedTypesError: a column of a block has another type than before.

    Attributes:
        dtypes: column -> its type in the table.
        texts: column that is not of numbers -> its different values -> their numbers, in order of appearance.
        cells: values of ``keys``, in order of first appearance -> where their rows are.
        blocks: where the rows of every block are.
        count: number of rows.
    """

    def __init__(self, blocks: Iterable[pd.DataFrame], keys: Sequence[str]):
        self.keys = list(keys)
        self.dtypes: dict[str, Any] = {}
        self.texts: dict[str, dict[Any, int]] = {}
        self.cells: dict[Key, list[Span]] = {}
        self.blocks: list[Span] = []
        self.count = 0
        self._record = np.dtype([])
        self._file, self._lock = SpooledTemporaryFile(MEMORY), Lock()  # noqa: SIM115
        finalize(self, self._file.close)  # it lives as long as this does
        for block in blocks:
            self._put(block)

    def read(self, spans: Iterable[Span]) -> Records:
        """Return these records."""
        width, parts = self._record.itemsize, []
        with self._lock:
            for first, size in spans:
                self._file.seek(first * width)
                parts.append(self._file.read(size * width))
        return np.frombuffer(b"".join(parts), self._record)

    def _put(self, block: pd.DataFrame) -> None:
        records = self._to_records(block)
        cells = block.groupby(self.keys, sort=False, observed=True).ngroup().to_numpy()
        order = np.argsort(cells, kind="stable")
        firsts = np.flatnonzero(np.diff(cells[order], prepend=-2))
        found = block[self.keys].iloc[order[firsts]].itertuples(index=False, name=None)
        for key, (first, end) in zip(found, pairwise([*firsts.tolist(), len(block)]), strict=True):
            self.cells.setdefault(key, []).append(Span(self.count + first, end - first))
        self._file.write(records[order].tobytes())
        self.blocks.append(Span(self.count, len(block)))
        self.count += len(block)

    def _to_records(self, block: pd.DataFrame) -> Records:
        if not self.dtypes:
            self.dtypes = {str(name): dtype for name, dtype in block.dtypes.items()}
            self._record = np.dtype([(ROW, np.int64), *((name, _stored(t)) for name, t in self.dtypes.items())])
            self.texts = {name: {} for name, dtype in self.dtypes.items() if not _is_number(dtype)}
        types = [(str(name), str(dtype)) for name, dtype in block.dtypes.items()]
        if types != [(name, str(dtype)) for name, dtype in self.dtypes.items()]:
            raise MixedTypesError(f"blocks must have the types {self.dtypes}, but got {types}")
        records = np.empty(len(block), self._record)
        records[ROW] = np.arange(self.count, self.count + len(block))
        for name in self.dtypes:
            records[name] = self._numbers(name, block[name]) if name in self.texts else block[name].to_numpy()
        return records

    def _numbers(self, name: str, column: pd.Series) -> npt.NDArray[np.int32]:
        codes, found = pd.factorize(column, use_na_sentinel=False)
        known = self.texts[name]
        return np.array([known.setdefault(text, len(known)) for text in found], np.int32)[codes]


def _stored(dtype: Any) -> np.dtype[Any]:
    return np.dtype(dtype) if _is_number(dtype) else np.dtype(np.int32)


def _is_number(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and (is_numeric_dtype(dtype) or is_bool_dtype(dtype))
