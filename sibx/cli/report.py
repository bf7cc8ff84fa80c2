"""``sibx report``: the results in one or several folders as a page, as Markdown and as LaTeX tables."""

import csv
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from sibx._checks import require
from sibx.evaluation import Results
from sibx.report import load_gallery, merge_galleries, write_report
from sibx.report.claims import Comparison
from sibx.report.content import Histories
from sibx.report.gallery import GALLERY_FILE


def run(args: Namespace) -> int:
    """Write the report, and print where it is."""
    names = [str(folder) for folder in args.runs]
    require(len(set(names)) == len(names), "runs", "name no folder twice", names)
    parts = [Results.open(folder) for folder in names]
    several = {folder: part.info for folder, part in zip(names, parts, strict=True)}
    page = write_report(
        Results.concat(parts, several if len(parts) > 1 else parts[0].info),
        args.out,
        gallery=merge_galleries(load_gallery(f) for f in names if (Path(f) / GALLERY_FILE).is_file()),
        histories=_read_logs(args.logs) if args.logs else None,
        comparisons=[_pair(text) for text in args.compare] if args.compare else None,
        margin=args.margin,
        title=args.title,
    )
    print(page)
    return 0


def _pair(text: str) -> Comparison:
    training, colon, reference = text.partition(":")
    require(bool(training and colon and reference), "compare", "be pairs TRAINING:REFERENCE", text)
    return training, reference


def _read_logs(words: Sequence[str]) -> Histories:
    """Read the epochs of trainings, each given as NAME=FILE."""
    return {name: _read_log(path) for name, path in map(_named, words)}


def _named(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    require(bool(path), "logs", "be given as TRAINING=FILE", text)
    return name, path


def _read_log(path: str) -> list[dict[str, float]]:
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            lines = [{name: float(value) for name, value in line.items() if value} for line in csv.DictReader(file)]
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"`logs` must be files log.csv of sibx finetune, but got {path!r}: {error}") from error
    require(all("epoch" in line for line in lines), "logs", "be files log.csv of sibx finetune", path)
    return lines
