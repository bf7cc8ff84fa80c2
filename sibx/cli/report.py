"""``sibx report``: the results in one or several folders as a page, as Markdown and as LaTeX tables."""

import csv
from argparse import Namespace
from collections.abc import Collection, Sequence
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
    trainings = {name for part in parts for name in part.distinct("training")["training"]}
    page = write_report(
        Results.concat(parts, several if len(parts) > 1 else parts[0].info),
        args.out,
        gallery=merge_galleries(load_gallery(f) for f in names if (Path(f) / GALLERY_FILE).is_file()),
        histories=_read_logs(args.logs) if args.logs else None,
        comparisons=[_pair(text, trainings) for text in args.compare] if args.compare else None,
        margin=args.margin,
        title=args.title,
    )
    print(page)
    return 0


def _pair(text: str, trainings: Collection[str]) -> Comparison:
    """Read TRAINING:REFERENCE; names of trainings may hold a : themselves."""
    cuts = [(text[:place], text[place + 1 :]) for place, sign in enumerate(text) if sign == ":"]
    require(bool(cuts) and all(cuts[0]), "compare", "be pairs TRAINING:REFERENCE", text)
    return next((cut for cut in cuts if {*cut} <= set(trainings)), cuts[0])


def _read_logs(words: Sequence[str]) -> Histories:
    """Read the epochs of trainings, each given as NAME=FILE."""
    return {name: _read_log(path) for name, path in map(_named, words)}


def _named(text: str) -> tuple[str, str]:
    """Read NAME=FILE; either may hold a =, so the file is the longest one that is there."""
    cuts = [(text[:place], text[place + 1 :]) for place, sign in enumerate(text) if sign == "="]
    require(bool(cuts and cuts[0][1]), "logs", "be given as TRAINING=FILE", text)
    return next((cut for cut in cuts if Path(cut[1]).is_file()), cuts[0])


def _read_log(path: str) -> list[dict[str, float]]:
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            lines = [{name: float(value) for name, value in line.items() if value} for line in csv.DictReader(file)]
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"`logs` must be files log.csv of sibx finetune, but got {path!r}: {error}") from error
    require(all("epoch" in line for line in lines), "logs", "be files log.csv of sibx finetune", path)
    return lines
