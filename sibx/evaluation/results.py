"""Tidy per-image results: one row per image, method and metric; everything else is a view of it."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sibx._checks import check_choice, require
from sibx.evaluation.agreement import correlate_metrics
from sibx.evaluation.classified import to_hits
from sibx.evaluation.classifier_rates import classifier_rates
from sibx.evaluation.columns import (
    CELL,
    COLUMNS,
    CURVE_COLUMNS,
    CURVES_FILE,
    INFO_FILE,
    ROWS_FILE,
    TRAINED,
    join_tables,
    per_image,
    read_table,
    to_csv,
    with_photos,
    write_info,
    write_table,
)
from sibx.evaluation.comparison import compare_over_seeds, compare_trainings
from sibx.evaluation.method_ranks import Ranking, rank_rows
from sibx.evaluation.photographs import photographs_of
from sibx.evaluation.statistics import bootstrap_mean
from sibx.evaluation.strata import Sizes, add_sizes


@dataclass(frozen=True)
class Results:
    """Scores of an evaluation.

    Attributes:
        rows: one row per image, method and metric, with the columns of ``COLUMNS``; ``value`` is NaN where undefined;
            ``photo`` is the photograph that the image shows, which may have several rows, of several labels;
            ``area`` is the share of the pixels on the object.
        curves: one row per image, method and curve point, with the columns of ``CURVE_COLUMNS``.
        info: what made them: settings, versions, device, seconds.
    """

    rows: pd.DataFrame
    curves: pd.DataFrame
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = set(COLUMNS) - {"photo"} - set(self.rows.columns)
        require(not missing, "rows", f"have the columns {sorted(missing)}", list(self.rows.columns))
        vars(self)["rows"] = with_photos(self.rows)  # past the frozen dataclass

    @property
    def skipped(self) -> pd.DataFrame:
        """What was left out: a line for each with ``method``, ``metric`` ("" = all of them) and ``reason``."""
        return pd.DataFrame(list(dict.fromkeys(_skipped(self.info))), columns=["method", "metric", "reason"])

    @staticmethod
    def concat(parts: Iterable["Results"], info: Mapping[str, Any] | None = None) -> "Results":
        """Put several results into one; ``info`` replaces theirs."""
        parts = list(parts)
        require(bool(parts), "parts", "hold at least one Results", parts)
        return Results(
            join_tables([p.rows for p in parts]),
            join_tables([p.curves for p in parts]),
            dict(info or {}),
        )

    def summary(self, by: Sequence[str] = CELL) -> pd.DataFrame:
        """Return one line per cell: mean, 95 % bootstrap interval over images, class mean, n, undefined images.

        An image counts once: where a cell has several values of it (of several seeds, or of several methods because
        ``by`` does not tell them apart) their mean is its value, undefined ones left out. Where a photograph has
        several rows, of several labels, intervals resample photographs: ``n`` counts them, ``rows`` what they have and
        ``undefined`` the rows without a value. Intervals speak for these
        trainings and other images; the spread between trainings is in ``difference``.

        Args:
            by: columns whose values together make a cell.

        ``class_mean`` is the mean over labels of their means (the pointing game's convention).

        Raises:
            ValueError: a name that is not a column.
        """
        for name in by:
            check_choice("by", name, tuple(self.rows.columns))
        lines = []
        for key, cell in self.rows.groupby(list(by), sort=False):
            values = per_image(cell)
            interval = bootstrap_mean(values.to_numpy(), photos=photographs_of(values.index))
            more = {"class_mean": float(values.groupby("label").mean().mean()), "rows": int(values.notna().sum())}
            lines.append({**dict(zip(by, key, strict=True)), **interval._asdict(), **more})
        return pd.DataFrame(lines)

    def hits(self) -> "Results":
        """Return whether the classifier is right, one row per image, model, training and seed.

        Method ``classifier``, metric ``accuracy``, ``value`` 1 if the label is predicted, else 0; an image with a NaN
        among its logits (its ``confidence`` is NaN) is wrong, and what has no class (``output="raw"``) is neither: its
        ``value`` is NaN. Every accuracy is a view of these rows: their means are
        ``accuracy()``, that of the worst group is ``worst_group(results.hits())``, and a gain of it is
        ``results.hits().difference("sib", "ce")``.
        """
        return Results(to_hits(self.rows), pd.DataFrame(columns=list(CURVE_COLUMNS)), self.info)

    def accuracy(self, by: Sequence[str] = TRAINED) -> pd.DataFrame:
        """Return one line per cell: share of the images in [0, 1] that are classified right, with its interval.

        The columns are those of ``summary``; an image counts once, however many methods, metrics and seeds it has.

        Args:
            by: columns whose values together make a cell.

        Raises:
            ValueError: a name that is not a column.
        """
        return self.hits().summary(by)

    def rates(self) -> pd.DataFrame:
        """Return what is beside the accuracy: balanced accuracy, the lowest recall, F1, AUROC, the majority rate.

        One line per trained model and rate with its interval, see ``classifier_rates``. The recall of every class is
        ``hits().summary([*TRAINED, "label"])``.
        """
        return classifier_rates(self.hits().rows)

    def where(self, **values: object) -> "Results":
        """Return the rows and curves whose columns have these values: ``results.where(training="sib", size="small")``.

        Raises:
            ValueError: a name that is not a column, or a value that does not occur.
        """
        rows, curves = self.rows, self.curves
        for name, value in values.items():
            check_choice("values", name, tuple(self.rows.columns))
            known = self.rows[name].unique().tolist()
            require(value in known, name, f"be one of {known}", value)
            rows = rows[rows[name] == value]
            curves = curves[curves[name] == value] if name in curves else curves
        kept = curves["image_id"].isin(rows["image_id"].unique())
        return Results(rows.reset_index(drop=True), curves[kept].reset_index(drop=True), self.info)

    def with_size(self, sizes: Sizes | tuple[float, float] = "tertiles") -> "Results":
        """Return the results with one more column, ``size``: that of the image's object, see ``size_of``.

        Tertiles are those of the images of one data set and split. Use it as
        ``results.with_size().summary([*CELL, "size"])``.

        Raises:
            ValueError: an unknown name, or limits that are not two increasing numbers.
        """
        return Results(add_sizes(self.rows, sizes), self.curves, self.info)

    def difference(self, training: str, reference: str) -> pd.DataFrame:
        """Return the paired difference between two trainings, one line per cell, with what may be claimed of it.

        With one seed the 95 % interval is the bootstrap over images, the p value that of Wilcoxon's signed-rank test:
        they speak for this training and other images. From two seeds on they speak for other trainings and other
        images, see ``mean_over_seeds_and_images``.

        Args:
            training: value of the ``training`` column whose gain is asked for.
            reference: the one it is compared with.

        Returns:
            dataset, split, model, method, metric; mean, low, high; ``n`` photographs with a pair in any seed, how many
            ``rows`` they have, and how many rows are ``undefined``; ``seeds`` with a pair; ``p_value``, two-sided;
            ``p_holm``, the same corrected by Holm over all methods and metrics of a data set, split and model.

        Raises:
            ValueError: a training that is not in the results.
        """
        return compare_trainings(self.rows, training, reference)

    def over_seeds(self, training: str, reference: str) -> pd.DataFrame:
        """Return the paired difference between two trainings over seeds, one line per cell.

        What other trainings would give on these images (``difference`` asks for other images too): Student's 95 %
        interval over the seeds' means over images, infinitely wide for a single seed.

        Args:
            training: value of the ``training`` column whose gain is asked for.
            reference: the one it is compared with.

        Returns:
            dataset, split, model, method, metric; mean, low, high; ``n`` seeds, and how many are ``undefined``, because
            no image has a value of both trainings there.

        Raises:
            ValueError: a training that is not in the results.
        """
        return compare_over_seeds(self.rows, training, reference)

    def ranking(self, metric: str, *, higher_is_better: bool | None = None, level: float = 0.05) -> Ranking:
        """Rank the methods by a metric over images, see ``rank_methods``.

        Args:
            metric: name of the metric.
            higher_is_better: direction of the metric; None = the one that METRICS says.
            level: chance of any false difference that the critical difference allows, in (0, 1).

        Raises:
            ValueError: a metric that is not in the results, one of your own without a direction, fewer than two
                methods, or results of several data sets, splits, models, trainings or seeds: pick one with ``where``.
        """
        return rank_rows(self.rows, metric, higher_is_better, level)

    def metric_correlation(self) -> pd.DataFrame:
        """Return Spearman's correlation of every pair of metrics over images, within every method.

        See ``correlate_metrics``.
        """
        return correlate_metrics(self.rows)

    def save(self, folder: str | Path) -> Path:
        """Write ``results.csv.gz``, ``curves.csv.gz`` and ``run.json``; each appears complete or not at all."""
        folder = Path(folder)
        write_table(folder / ROWS_FILE, self.rows.columns, [to_csv(self.rows)])
        write_table(folder / CURVES_FILE, self.curves.columns, [to_csv(self.curves)])
        write_info(folder, self.info)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Results":
        """Read what ``save`` wrote; texts are categories there, a few bytes each (``astype(str)`` makes texts of them).

        Raises:
            ValueError: the folder does not hold the three files.
        """
        opened = cls.open(folder)
        return Results(opened.rows, opened.curves, opened.info)

    @staticmethod
    def open(folder: str | Path) -> "Results":
        """Return what ``save`` wrote, with tables that are read when they are first asked for.

        Raises:
            ValueError: the folder does not hold the three files.
        """
        return _OnDisk(Path(folder))


def _skipped(info: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Read it in the notes of an evaluation, and in those of several that were put together."""
    for name, value in info.items():
        if name == "skipped":
            yield from ((line["method"], line["metric"], line["reason"]) for line in value)
        elif isinstance(value, Mapping):
            yield from _skipped(value)


class _OnDisk(Results):
    """Results in a folder."""

    folder: Path

    def __init__(self, folder: Path):
        missing = [n for n in (ROWS_FILE, CURVES_FILE, INFO_FILE) if not (folder / n).is_file()]
        require(not missing, "folder", f"hold {', '.join(missing)}", str(folder))
        info = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
        vars(self).update(folder=folder, info=info)  # past the frozen dataclass

    @cached_property
    def rows(self) -> pd.DataFrame:
        table = read_table(self.folder / ROWS_FILE)
        if "area" not in table:  # files of before there was one
            table.insert(COLUMNS.index("area"), "area", np.nan)
        return with_photos(table)

    @cached_property
    def curves(self) -> pd.DataFrame:
        return read_table(self.folder / CURVES_FILE)
