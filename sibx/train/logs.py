"""What a training run logs: means of the terms, a table on disk, TensorBoard."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sibx._files import write_atomically


class Meter:
    """Means of named values; its whole state is ``sums`` and ``count``."""

    def __init__(self, sums: dict[str, float] | None = None, count: int = 0):
        self.sums = sums or {}
        self.count = count

    def add(self, terms: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        """Add the terms of a step's micro-batches; return the values of the last micro-batch."""
        values: dict[str, float] = {}
        for batch in terms:
            values = {k: float(v) for k, v in batch.items()}
            self.sums = {k: self.sums.get(k, 0.0) + v for k, v in values.items()}
            self.count += 1
        return values

    def means(self) -> dict[str, float]:
        """Return the mean of every value since the start."""
        return {k: v / self.count for k, v in self.sums.items()}


def write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write one line per row under a header; the file appears complete or not at all."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    write_atomically(path, text.getvalue().encode())


class Board:
    """Writes scalars for TensorBoard into a folder; what a killed run wrote after ``first_epoch`` is replaced.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, first_epoch: int):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("tensorboard=True needs TensorBoard: pip install tensorboard") from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=first_epoch + 1)

    def add(self, row: Mapping[str, float]) -> None:
        """Write one epoch's values."""
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))
        self._writer.flush()
