"""What a training run says while it runs: means of the terms, a table on disk, TensorBoard."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sibx._files import write_atomically


class Meter:
    """Means of named values; ``sums`` and ``count`` are all of its state."""

    def __init__(self, sums: dict[str, float] | None = None, count: int = 0):
        self.sums = sums or {}
        self.count = count

    def add(self, terms: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        """Add a step's micro-batches; return the last one's values."""
        values: dict[str, float] = {}
        for batch in terms:
            values = {k: float(v) for k, v in batch.items()}
            self.sums = {k: self.sums.get(k, 0.0) + v for k, v in values.items()}
            self.count += 1
        return values

    def means(self) -> dict[str, float]:
        """Return every value's mean since the start."""
        return {k: v / self.count for k, v in self.sums.items()}


def write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write one line per row under a header; the file appears complete or not at all."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    write_atomically(path, text.getvalue().encode())


class Board:
    """Scalars for TensorBoard in a folder; a first epoch above 0 replaces what a killed run wrote after it.

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
