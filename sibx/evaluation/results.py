"""Tidy per-image results: one row per image, method and metric; everything else is a view of it."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sibx._checks import check_choice, require
from sibx.evaluation.agreement import correlate_metrics
from sibx.evaluation.alike import PARTLY, remarks
from sibx.evaluation.between import compare_methods
from sibx.evaluation.by_cell import ByCell, InTable, OnShelves, fit_together
from sibx.evaluation.classified import to_hits
from sibx.evaluation.classifier_rates import classifier_rates
from sibx.evaluation.columns import (
    CELL,
    CLASSIFIED,
    COLUMNS,
    CURVE_COLUMNS,
    CURVES_FILE,
    INFO_FILE,
    MAPS,
    ROWS_FILE,
    SCORED,
    TRAINED,
    join_tables,
    naming,
    read_blocks,
    read_info,
    to_csv,
    with_photos,
    without_gaps,
    write_info,
    write_table,
)
from sibx.evaluation.comparison import compare_over_seeds, compare_trainings
from sibx.evaluation.label_rates import NOTED
from sibx.evaluation.method_ranks import Ranking, rank_rows
from sibx.evaluation.notebook import to_html
from sibx.evaluation.shelf import Key, MixedTypesError, Shelf
from sibx.evaluation.strata import Sizes, add_sizes
from sibx.evaluation.summaries import class_means, summarize

Table = pd.DataFrame | Callable[[], OnShelves]
NAMING = ("image_id", "label", "seed")  # what a row cannot be without


@dataclass(frozen=True)
class Results:
    """Scores of an evaluation.

    Attributes:
        rows: one row per image, method and metric, with the columns of ``COLUMNS``; ``value`` is NaN where undefined;
            ``photo`` is the photograph that the image shows, which may have several rows, of several labels;
            ``area`` is the share of the pixels on the object. Of ``load`` and ``open`` it is made when it is first
            asked for, and needs about 100 bytes of memory per row; nothing else here needs it (see ``cells``).
        curves: one row per image, method and curve point, with the columns of ``CURVE_COLUMNS``; made like ``rows``.
        info: what made them: settings, versions, device, seconds.

    Raises:
        ValueError: rows without a column, or one without a label, a seed or the name of its image.
    """

    rows: pd.DataFrame
    curves: pd.DataFrame
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_columns(self.rows)
        vars(self)["rows"] = without_gaps(with_photos(self.rows))  # past the frozen dataclass
        vars(self)["curves"] = without_gaps(self.curves)

    def _repr_html_(self) -> str:
        """Return how many images there are and a table of the means, which notebooks show."""
        return to_html(self)

    @property
    def skipped(self) -> pd.DataFrame:
        """What was left out: a line for each with ``method``, ``metric`` ("" = all of them) and ``reason``."""
        columns = ["method", "metric", "reason"]
        lines = dict.fromkeys(tuple(line.get(name, "") for name in columns) for line in _noted(self.info, "skipped"))
        return pd.DataFrame(list(lines), columns=columns)

    @staticmethod
    def concat(parts: Iterable["Results"], info: Mapping[str, Any] | None = None) -> "Results":
        """Put several results into one; ``info`` replaces theirs, but for what ``rates`` needs of it.

        Those on disk (``load``, ``open``) stay there.
        """
        parts = list(parts)
        require(bool(parts), "parts", "hold at least one Results", parts)
        rows, curves = _join([part._rows() for part in parts]), _join([part._curves() for part in parts])
        lines = [line for part in parts for line in _noted(part.info, NOTED)]
        return _OnDisk(rows, curves, ({NOTED: lines} if lines else {}) | dict(info or {}))

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
        return summarize(self.cells(by), by)

    def cells(self, by: Sequence[str] = CELL, **values: object) -> Iterator[tuple[Key, pd.DataFrame]]:
        """Yield cell by cell what the columns ``by`` hold, and the rows that hold it.

        Of results on disk (``load``, ``open``) only one cell is in memory; it holds all rows that ``dataset``,
        ``split``, ``model``, ``training``, ``seed``, ``method`` and ``metric`` among ``by`` do not tell apart. The
        index of a cell is the place of its rows in ``rows``. Cells come in order of first appearance if ``by`` holds
        no other columns.

        Args:
            by: columns whose values together make a cell.
            values: what other columns have to hold: ``results.cells(training="sib")``.

        Raises:
            ValueError: a name that is not a column.

        Example:
            >>> from sibx import build_dataset, build_model, evaluate
            >>> from sibx.datasets import Part
            >>> data = Part(build_dataset("synthetic", split="test-id", image_size=32), range(2))
            >>> options = {"methods": ["sib", "saliency"], "metrics": ["foreground_focus"], "progress": False}
            >>> results = evaluate(build_model("tiny_cnn", 8), data, **options)
            >>> [(key, len(cell)) for key, cell in results.cells(["method"])]
            [(('sib',), 2), (('saliency',), 2)]
        """
        for name in by:
            check_choice("by", name, tuple(self.columns))
        for name in values:
            check_choice("values", name, tuple(self.columns))
        return self._rows().cells(by, {name: [value] for name, value in values.items()})

    def curve_cells(self, by: Sequence[str], **values: object) -> Iterator[tuple[Key, pd.DataFrame]]:
        """Yield cell by cell what columns of ``curves`` hold, and the points that hold it, as ``cells`` does.

        Args:
            by: columns of ``curves`` whose values together make a cell.
            values: what other columns have to hold.
        """
        return self._curves().cells(by, {name: [value] for name, value in values.items()})

    @property
    def columns(self) -> list[str]:
        """Names of the columns of ``rows``."""
        return self._rows().columns

    def distinct(self, *names: str) -> pd.DataFrame:
        """Return what columns of ``rows`` hold together, one line each, in order of first appearance.

        Args:
            names: columns of ``rows``.
        """
        return self._rows().distinct(names)

    def class_means(self, by: Sequence[str] = CELL) -> pd.DataFrame:
        """Return one line per cell: the mean over classes of their means, where a rare class counts like a common one.

        Of hits and of other scores of a classifier that is the balanced accuracy, of which a classifier that always
        says the same class has 1 / K. The columns are those of an Interval; otherwise as ``summary``.

        Args:
            by: columns whose values together make a cell.

        Raises:
            ValueError: a name that is not a column.
        """
        return class_means(self.cells(by), by)

    def hits(self) -> "Results":
        """Return whether the classifier is right, one row per image, model, training and seed.

        Method ``classifier``, metric ``accuracy``, ``value`` 1 if the label is predicted, else 0; an image with a NaN
        among its logits (its ``confidence`` is NaN) is wrong, and what has no class (``output="raw"``) is neither: its
        ``value`` is NaN. Every accuracy is a view of these rows: their means are
        ``accuracy()``, that of the worst group is ``worst_group(results.hits())``, and a gain of it is
        ``results.hits().difference("sib", "ce")``. Of several labels per image each that is there has a row, so that
        the metric is the ``recall``: a model that says yes to everything has 1.
        """
        return Results(to_hits(self._rows().firsts(CLASSIFIED)), pd.DataFrame(columns=list(CURVE_COLUMNS)), self.info)

    def accuracy(self, by: Sequence[str] = (*TRAINED, "metric")) -> pd.DataFrame:
        """Return one line per cell: share of the images in [0, 1] that are classified right, with its interval.

        The columns are those of ``summary``; an image counts once, however many methods, metrics and seeds it has. Of
        several labels per image it is the share of the labels there that are predicted, and ``metric`` says ``recall``;
        ``rates`` says what else there is.

        Args:
            by: columns whose values together make a cell.

        Raises:
            ValueError: a name that is not a column.
        """
        return self.hits().summary(by)

    def rates(self) -> pd.DataFrame:
        """Return what is beside the accuracy: balanced accuracy, the lowest recall, F1, AUROC, the majority rate.

        One line per trained model and rate with its interval, see ``classifier_rates``; of several labels per image
        mAP, F1, precision, recall and others, of all photographs. The recall of every class is
        ``hits().summary([*TRAINED, "label"])``.
        """
        return classifier_rates(self.hits().rows, list(_noted(self.info, NOTED)))

    def where(self, **values: object) -> "Results":
        """Return the rows and curves whose columns have these values: ``results.where(training="sib", size="small")``.

        Raises:
            ValueError: a name that is not a column, or a value that does not occur.
        """
        for name, value in values.items():
            check_choice("values", name, tuple(self.columns))
            known = self.distinct(name)[name].tolist()
            require(value in known, name, f"be one of {known}", value)
        only = {name: [value] for name, value in values.items()}
        rows = self._rows().table(only)
        curves = self._curves().table({name: only[name] for name in only if name in self._curves().columns})
        kept = curves["image_id"].isin(rows["image_id"].unique())
        return Results(rows, curves[kept].reset_index(drop=True), self.info)

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
        return compare_trainings(self._rows(), training, reference)

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
        return compare_over_seeds(self._rows(), training, reference)

    def between_methods(
        self, metric: str, reference: str | None = None, *, higher_is_better: bool | None = None
    ) -> pd.DataFrame:
        """Return the paired differences between methods by a metric, a line per pair, for every trained model apart.

        Methods are compared on the same images (and seeds); scores that differ in the rounding of float32 maps only are
        equal. Intervals and p values are those of ``difference``; intervals are of one pair each, only ``p_holm`` is
        corrected for the number of pairs.

        Args:
            metric: name of the metric.
            reference: the method that all others are compared with; ``best``: the one with the best mean on the images
                that all methods have a score of, which these scores choose, so that ``p_holm`` is corrected for all
                pairs; None = every pair.
            higher_is_better: direction of the metric, which ``best`` needs; None = the one that METRICS says.

        Returns:
            dataset, split, model, training, metric, method, reference; mean, low, high of the method's score minus the
            reference's; ``n`` photographs with a pair, their ``rows``, and how many rows are ``undefined``; ``seeds``
            with a pair; ``p_value``, two-sided; ``p_holm``, corrected by Holm over the pairs of a trained model.

        Raises:
            ValueError: a metric or a reference that is not in the results, fewer than two methods, or ``best`` of a
                metric without a direction.

        Example:
            >>> from sibx import build_dataset, build_model, evaluate
            >>> data = build_dataset("synthetic", split="test-id", image_size=32, size=4)
            >>> options = {"methods": ["sib", "saliency", "control_center"], "metrics": ["iou"], "progress": False}
            >>> results = evaluate(build_model("tiny_cnn", 8), data, **options)
            >>> table = results.between_methods("iou", "control_center")
            >>> table[["method", "reference", "n"]].values.tolist()
            [['sib', 'control_center', 4], ['saliency', 'control_center', 4]]
        """
        return compare_methods(self._rows(), metric, reference, higher_is_better)

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
        return rank_rows(self._rows(), metric, higher_is_better, level)

    def remarks(self) -> pd.DataFrame:
        """Return what has to be known to read a table of the methods, a line each.

        Two methods with the same scores on every image (up to the rounding of float32, by all metrics that they share,
        one of which has at least three different values) are one map on this network: DeepLIFT is Input x Gradient
        where its rules reach no activation, HiResCAM is Grad-CAM at a last layer that is averaged. A method that
        reaches a part of the model only, as Guided Backprop beside activations other than ReLU, has said so when it
        was evaluated.

        Returns:
            dataset, split, model, training ("" = any), method, ``same_as`` ("" = no other method), remark.
        """
        return remarks(self._rows(), _noted(self.info, PARTLY))

    def metric_correlation(self) -> pd.DataFrame:
        """Return Spearman's correlation of every pair of metrics over images, within every method.

        See ``correlate_metrics``.
        """
        return correlate_metrics(self._rows())

    def save(self, folder: str | Path) -> Path:
        """Write ``results.csv.gz``, ``curves.csv.gz`` and ``run.json``; each appears complete or not at all."""
        folder = Path(folder)
        for name, table in ((ROWS_FILE, self._rows()), (CURVES_FILE, self._curves())):
            write_table(folder / name, table.columns, map(to_csv, table.blocks()))
        write_info(folder, self.info)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Results":
        """Read what ``save`` wrote into a temporary file, of about 100 bytes per row; the folder may change after it.

        Texts are categories in its tables, a few bytes each (``astype(str)`` makes texts of them).

        Raises:
            ValueError: the folder does not hold the three files.
        """
        opened = cls.open(folder)
        opened._rows(), opened._curves()
        return opened

    @staticmethod
    def open(folder: str | Path) -> "Results":
        """Return what ``save`` wrote, read as by ``load``, but when it is first asked for.

        Raises:
            ValueError: the folder does not hold the three files.
        """
        folder = Path(folder)
        missing = [n for n in (ROWS_FILE, CURVES_FILE, INFO_FILE) if not (folder / n).is_file()]
        require(not missing, "folder", f"hold {', '.join(missing)}", str(folder))
        info = read_info(folder)
        rows, curves = partial(_shelve_rows, folder / ROWS_FILE), partial(_shelve_curves, folder / CURVES_FILE)
        return _OnDisk(rows, curves, info)

    def _rows(self) -> ByCell:
        """What the statistics are computed from."""
        return InTable(self.rows)

    def _curves(self) -> ByCell:
        return InTable(self.curves)


def _noted(info: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    """Yield the lines under a key in the notes of an evaluation, and in those of several that were put together."""
    for name, value in info.items():
        if name == key and isinstance(value, list):
            yield from (line for line in value if isinstance(line, Mapping))
        elif isinstance(value, Mapping):
            yield from _noted(value, key)


class _OnDisk(Results):
    """Results whose tables lie on disk until they are asked for; once one is there all is computed from it.

    Args:
        rows: the table, or what reads it.
        curves: likewise.
        info: what the rows depend on, see Results.
    """

    _read_rows: Callable[[], OnShelves]
    _read_curves: Callable[[], OnShelves]

    def __init__(self, rows: Table, curves: Table, info: dict[str, Any]):
        vars(self)["info"] = info  # past the frozen dataclass
        for name, table in (("rows", rows), ("curves", curves)):
            vars(self)[name if isinstance(table, pd.DataFrame) else f"_read_{name}"] = table

    def __reduce__(self) -> tuple[Any, ...]:
        return Results, (self.rows, self.curves, self.info)

    @cached_property
    def rows(self) -> pd.DataFrame:
        return self._shelved_rows.table({})

    @cached_property
    def curves(self) -> pd.DataFrame:
        return self._shelved_curves.table({})

    @cached_property
    def _shelved_rows(self) -> OnShelves:
        return self._read_rows()

    @cached_property
    def _shelved_curves(self) -> OnShelves:
        return self._read_curves()

    def _rows(self) -> ByCell:
        return InTable(self.rows) if "rows" in vars(self) else self._shelved_rows

    def _curves(self) -> ByCell:
        return InTable(self.curves) if "curves" in vars(self) else self._shelved_curves


def _join(tables: Sequence[ByCell]) -> Table:
    """Put tables below each other: on disk if all are there, else in memory."""
    shelves = [shelf for table in tables if isinstance(table, OnShelves) for shelf in table.shelves]
    if all(isinstance(table, OnShelves) for table in tables) and fit_together(shelves):
        return partial(OnShelves, shelves)
    return join_tables([table.table({}) for table in tables])


def _shelve_rows(path: Path) -> OnShelves:
    return _shelve(path, SCORED, _completed)


def _shelve_curves(path: Path) -> OnShelves:
    return _shelve(path, (*MAPS, "curve"), lambda points: points)


def _shelve(path: Path, keys: Sequence[str], complete: Callable[[pd.DataFrame], pd.DataFrame]) -> OnShelves:
    try:
        return OnShelves([Shelf(_blocks(path, complete), keys)])
    except MixedTypesError:  # their common type is known when all is read
        return OnShelves([Shelf(_blocks(path, complete, sys.maxsize), keys)])


def _blocks(
    path: Path, complete: Callable[[pd.DataFrame], pd.DataFrame], size: int | None = None
) -> Iterator[pd.DataFrame]:
    with naming(path):
        yield from map(complete, read_blocks(path, size))


def _completed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of files of before there were areas and photographs."""
    _check_columns(rows, {"area"})
    if "area" not in rows:
        rows.insert(COLUMNS.index("area"), "area", np.nan)
    return with_photos(rows)


def _check_columns(rows: pd.DataFrame, made: Set[str] = frozenset()) -> None:
    """Require the columns of rows, but for those that are made where they are missing, and their names."""
    missing = set(COLUMNS) - {"photo"} - made - set(rows.columns)
    require(not missing, "rows", f"have the columns {sorted(missing)}", list(rows.columns))
    # One without would belong to no group, and be left out wherever rows are grouped.
    for name in NAMING:
        require(bool(rows[name].notna().all()), "rows", f"have a {name} each, as whole lines have", "one without")
