"""One line per cell: what ``Results.summary`` and ``Results.class_means`` say."""

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from sibx.evaluation.columns import in_order, per_image
from sibx.evaluation.photographs import photographs_of
from sibx.evaluation.shelf import Key
from sibx.evaluation.statistics import bootstrap_class_mean, bootstrap_mean


def summarize(cells: Iterable[tuple[Key, pd.DataFrame]], by: Sequence[str]) -> pd.DataFrame:
    """Return what ``Results.summary`` says of these cells.

    Args:
        cells: values of the columns that make a cell, and its rows (``Results.cells``).
        by: columns that make a cell.
    """

    def measure(values: pd.Series) -> dict[str, float]:
        interval = bootstrap_mean(values.to_numpy(), photos=photographs_of(values.index))
        more = {
            "class_mean": float(values.groupby("label", observed=True).mean().mean()),
            "rows": int(values.notna().sum()),
        }
        return {**interval._asdict(), **more}

    return _line_per_cell(cells, by, measure)


def class_means(cells: Iterable[tuple[Key, pd.DataFrame]], by: Sequence[str]) -> pd.DataFrame:
    """Return what ``Results.class_means`` says of these cells.

    Args:
        cells: values of the columns that make a cell, and its rows (``Results.cells``).
        by: columns that make a cell.
    """

    def measure(values: pd.Series) -> dict[str, float]:
        labels = values.index.get_level_values("label").to_numpy()
        return bootstrap_class_mean(values.to_numpy(), labels, photos=photographs_of(values.index))._asdict()

    return _line_per_cell(cells, by, measure)


def _line_per_cell(
    cells: Iterable[tuple[Key, pd.DataFrame]], by: Sequence[str], measure: Callable[[pd.Series], dict[str, float]]
) -> pd.DataFrame:
    """Return what is measured of every cell's values (one per image), in the order of their first rows."""
    lines = {cell.index[0]: {**dict(zip(by, key, strict=True)), **measure(per_image(cell))} for key, cell in cells}
    return in_order(lines)
