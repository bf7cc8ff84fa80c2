"""Tidy per-image results: one row per image, method and metric; everything else is a view of it."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sibx._checks import check_choice, require
from sibx.evaluation.statistics import bootstrap_difference, bootstrap_mean

COLUMNS = (
    "dataset",
    "split",
    "image_id",
    "label",
    "predicted",
    "confidence",
    "group",
    "model",
    "training",
    "seed",
    "method",
    "target",
    "metric",
    "value",
)
CURVE_COLUMNS = ("dataset", "split", "image_id", "model", "training", "seed", "method", "curve", "x", "y")
ROWS_FILE, CURVES_FILE, INFO_FILE = "results.csv.gz", "curves.csv.gz", "run.json"
CELL = ("dataset", "split", "model", "training", "method", "metric")


@dataclass(frozen=True)
class Results:
    """Scores of an evaluation.

    Attributes:
        rows: one row per image, method and metric, with the columns of ``COLUMNS``; ``value`` is NaN where undefined.
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

        Args:
            by: columns that make a cell.

        ``class_mean`` is the mean over labels of their means (the pointing game's convention).

        Raises:
            ValueError: a name that is not a column.
        """
        for name in by:
            check_choice("by", name, COLUMNS)
        lines = []
        for key, cell in self.rows.groupby(list(by), sort=False):
            interval = bootstrap_mean(cell["value"].to_numpy())
            class_mean = float(cell.groupby("label")["value"].mean().mean())
            lines.append({**dict(zip(by, key, strict=True)), **interval._asdict(), "class_mean": class_mean})
        return pd.DataFrame(lines)

    def difference(self, training: str, reference: str) -> pd.DataFrame:
        """Return the paired difference between two trainings, image by image, one line per cell.

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
        lines = []
        for key, pairs in wide.groupby(level=cell, sort=False):
            interval = bootstrap_difference(pairs[training].to_numpy(), pairs[reference].to_numpy())
            lines.append({**dict(zip(cell, key, strict=True)), **interval._asdict()})
        return pd.DataFrame(lines)

    def save(self, folder: str | Path) -> Path:
        """Write ``results.csv.gz``, ``curves.csv.gz`` and ``run.json``; each appears complete or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in ((ROWS_FILE, self.rows), (CURVES_FILE, self.curves)):
            draft = folder / f"{name}.{os.getpid()}.tmp"
            frame.to_csv(draft, index=False, compression={"method": "gzip", "mtime": 1})
            draft.replace(folder / name)
        draft = folder / f"{INFO_FILE}.{os.getpid()}.tmp"
        draft.write_text(json.dumps(self.info, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")
        draft.replace(folder / INFO_FILE)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Results":
        """Read what ``save`` wrote.

        Raises:
            ValueError: the folder does not hold the three files.
        """
        folder = Path(folder)
        missing = [n for n in (ROWS_FILE, CURVES_FILE, INFO_FILE) if not (folder / n).is_file()]
        require(not missing, "folder", f"hold {', '.join(missing)}", str(folder))
        texts = dict.fromkeys(("dataset", "split", "image_id", "model", "training", "method", "metric", "curve"), str)
        frames = [
            pd.read_csv(folder / name, dtype=texts, keep_default_na=False, na_values={"value": [""], "y": [""]})
            for name in (ROWS_FILE, CURVES_FILE)
        ]
        return cls(frames[0], frames[1], json.loads((folder / INFO_FILE).read_text(encoding="utf-8")))
