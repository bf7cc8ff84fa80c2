"""Tidy per-image results: one row per image, method and metric; everything else is a view of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sibx._checks import check_choice, require
from sibx._files import write_atomically
from sibx.evaluation.agreement import correlate_metrics
from sibx.evaluation.columns import COLUMNS, CURVES_FILE, INFO_FILE, ROWS_FILE, read_table, to_csv, write_table
from sibx.evaluation.ranking import Ranking, rank_methods
from sibx.evaluation.significance import holm, wilcoxon_signed_rank
from sibx.evaluation.statistics import bootstrap_difference, bootstrap_mean
from sibx.evaluation.strata import Sizes, size_of
from sibx.metrics import METRICS

CELL = ("dataset", "split", "model", "training", "method", "metric")
IMAGE = ("dataset", "split", "image_id", "label")


@dataclass(frozen=True)
class Results:
    """Scores of an evaluation.

    Attributes:
        rows: one row per image, method and metric, with the columns of ``COLUMNS``; ``value`` is NaN where undefined;
            ``area`` is the share of the pixels on the object.
        curves: one row per image, method and curve point, with the columns of ``CURVE_COLUMNS``.
        info: what made them: settings, versions, device, seconds.
    """

    rows: pd.DataFrame
    curves: pd.DataFrame
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = set(COLUMNS) - set(self.rows.columns)
        require(not missing, "rows", f"have the columns {sorted(missing)}", list(self.rows.columns))

    @staticmethod
    def concat(parts: Iterable["Results"], info: Mapping[str, Any] | None = None) -> "Results":
        """Put several results into one; ``info`` replaces theirs."""
        parts = list(parts)
        require(bool(parts), "parts", "hold at least one Results", parts)
        return Results(
            pd.concat([p.rows for p in parts], ignore_index=True),
            pd.concat([p.curves for p in parts], ignore_index=True),
            dict(info or {}),
        )

    def summary(self, by: Sequence[str] = CELL) -> pd.DataFrame:
        """Return one line per cell: mean, 95 % bootstrap interval over images, class mean, n, undefined images.

        An image counts once: where a cell has several values of it (of several seeds, or of several methods because
        ``by`` does not tell them apart) their mean is its value, undefined ones left out.

        Args:
            by: columns that make a cell.

        ``class_mean`` is the mean over labels of their means (the pointing game's convention).

        Raises:
            ValueError: a name that is not a column.
        """
        for name in by:
            check_choice("by", name, tuple(self.rows.columns))
        lines = []
        for key, cell in self.rows.groupby(list(by), sort=False):
            values = per_image(cell)
            interval = bootstrap_mean(values.to_numpy())
            class_mean = float(values.groupby("label").mean().mean())
            lines.append({**dict(zip(by, key, strict=True)), **interval._asdict(), "class_mean": class_mean})
        return pd.DataFrame(lines)

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
        images = self.rows.drop_duplicates(["dataset", "split", "image_id"])
        named = [
            part[["dataset", "split", "image_id"]].assign(size=size_of(part["area"].to_numpy(), sizes))
            for _, part in images.groupby(["dataset", "split"], sort=False)
        ]
        rows = self.rows.drop(columns="size", errors="ignore").merge(pd.concat(named), how="left")
        return Results(rows, self.curves, self.info)

    def difference(self, training: str, reference: str) -> pd.DataFrame:
        """Return the paired difference between two trainings, image by image, one line per cell.

        Beside the mean difference with its 95 % bootstrap interval: ``p_value`` of Wilcoxon's signed-rank test, and
        ``p_holm``, the same corrected by Holm over all methods and metrics of a data set, split and model. With
        several seeds an image's values are their means over the seeds that have both; what new seeds would give is
        asked by ``mean_over_seeds``.

        Args:
            training: value of the ``training`` column whose gain is asked for.
            reference: the one it is compared with.

        Raises:
            ValueError: a training that is not in the results.
        """
        known = tuple(self.rows["training"].unique())
        check_choice("training", training, known)
        check_choice("reference", reference, known)
        cell = [c for c in CELL if c != "training"]
        keys = [*cell, "seed", "image_id"]
        wanted = self.rows[self.rows["training"].isin([training, reference])]
        wide = wanted.pivot(index=keys, columns="training", values="value")
        both = wide.notna().all(axis=1)
        wide = wide.where(both).groupby(level=[*cell, "image_id"], sort=False).mean()
        lines = []
        for key, pairs in wide.groupby(level=cell, sort=False):
            values, others = pairs[training].to_numpy(), pairs[reference].to_numpy()
            found = bootstrap_difference(values, others)._asdict()
            p_value = wilcoxon_signed_rank(values, others).p_value
            lines.append({**dict(zip(cell, key, strict=True)), **found, "p_value": p_value})
        table = pd.DataFrame(lines)
        family = [c for c in cell if c not in ("method", "metric")]
        return table.assign(p_holm=table.groupby(family)["p_value"].transform(lambda p: holm(p.to_numpy())))

    def ranking(self, metric: str, *, higher_is_better: bool | None = None, level: float = 0.05) -> Ranking:
        """Rank the methods by a metric over images, see ``rank_methods``.

        Args:
            metric: which one.
            higher_is_better: its direction; None = that of METRICS.
            level: of the critical difference.

        Raises:
            ValueError: a metric that is not in the results, one of your own without a direction, fewer than two
                methods, or results of several data sets, splits, models, trainings or seeds: pick one with ``where``.
        """
        check_choice("metric", metric, tuple(self.rows["metric"].unique()))
        for name in ("dataset", "split", "model", "training", "seed"):
            found = self.rows[name].unique().tolist()
            require(len(found) == 1, "rows", f"be of one {name} (pick it with where)", found)
        if higher_is_better is None:
            require(metric in METRICS, "higher_is_better", f"be given for {metric}, which is not in METRICS", None)
            higher_is_better = METRICS[metric].higher_is_better
        of_metric = self.rows[self.rows["metric"] == metric]
        wide = of_metric.pivot(index="image_id", columns="method", values="value")
        methods = [str(m) for m in of_metric["method"].unique()]
        return rank_methods(wide[methods].to_numpy(), methods, higher_is_better=higher_is_better, level=level)

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
        """Read what ``save`` wrote.

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


def per_image(rows: pd.DataFrame) -> pd.Series:
    """Return the mean of every image's defined values, in order of first appearance; NaN for one that has none."""
    return rows.groupby(list(IMAGE), sort=False)["value"].mean()


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
        return table

    @cached_property
    def curves(self) -> pd.DataFrame:
        return read_table(self.folder / CURVES_FILE)


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write ``run.json``."""
    text = json.dumps(info, indent=2, sort_keys=True, default=str) + "\n"
    write_atomically(folder / INFO_FILE, text.encode())
