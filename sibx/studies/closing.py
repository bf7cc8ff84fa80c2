"""The end of a study: what was done, put together in one folder."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sibx._files import write_atomically
from sibx.evaluation import Results
from sibx.report import load_gallery, merge_galleries, save_gallery, write_report
from sibx.report.gallery import GALLERY_FILE
from sibx.studies.findings import comparisons, summarize
from sibx.studies.glance import scores_of_labels
from sibx.studies.job import START, Job, left_of
from sibx.studies.study import Study
from sibx.studies.study_bench import sweep


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a study came to.

    Attributes:
        folder: folder of the study, with ``results.csv.gz``, ``summary.md`` and the rest.
        page: the report; None if no training was finished.
        summary: accuracies and gains, as Markdown.
        failed: job -> the traceback of its error.
        waiting: jobs that were not tried, because one that they need has failed.
        jobs: number of all jobs.
        seconds: wall time of this run.
    """

    folder: Path
    page: Path | None
    summary: str
    failed: Mapping[str, str]
    waiting: Sequence[str]
    jobs: int
    seconds: float


def put_together(study: Study, folder: Path, jobs: Sequence[Job], begun: float) -> Outcome:
    """Write the scores of all trainings that are done into one table, with a summary and a report.

    Args:
        study: what was asked for.
        folder: folder of the study.
        jobs: all of them.
        begun: when this run began, by ``time.perf_counter``.
    """
    left = left_of(jobs, folder)
    failures = {str(job): job.failure(folder) for job in left}
    failed = {name: text for name, text in failures.items() if text is not None}
    cells = {job: Results.load(folder / job.folder) for job in jobs if job.kind == "training" and job not in left}
    page, summary = None, ""
    if cells:
        sweep(jobs, folder)
        info = describe(study, cells, folder, failed) | {"seconds": round(time.perf_counter() - begun, 1)}
        results = Results.concat(cells.values(), info)
        results.save(folder)
        summary = summarize(results, study, scores_of_labels(cells))
        write_atomically(folder / "summary.md", f"{summary}\n".encode())
        page = _report(study, results, folder, list(cells))
    return Outcome(
        folder=folder,
        page=page,
        summary=summary,
        failed=failed,
        waiting=[name for name in failures if name not in failed],
        jobs=len(jobs),
        seconds=time.perf_counter() - begun,
    )


def describe(study: Study, cells: Mapping[Job, Results], folder: Path, failed: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``run.json`` says."""
    groups = list(dict.fromkeys(job.group for job in cells))
    log: dict[str, Any] = {}
    for job, results in cells.items():
        entry = {k: v for k, v in results.info.items() if k != "evaluation"}
        log[job.name if len(groups) == 1 else str(job)] = entry
    for group in groups if study.checkpoint else ():
        start = json.loads((folder / group.folder / f"{START}.json").read_text(encoding="utf-8"))
        log[START if len(groups) == 1 else str(group)] = start
    evaluation = next(iter(cells.values())).info["evaluation"]
    return {"study": study.identify(), "training_log": log, "evaluation": evaluation, "failed": dict(failed)}


def _report(study: Study, results: Results, folder: Path, jobs: Sequence[Job]) -> Path:
    drawn = [job.folder for job in jobs if (folder / job.folder / GALLERY_FILE).is_file()]
    gallery = merge_galleries(load_gallery(folder / path) for path in drawn)
    save_gallery(gallery, folder)
    pairs = comparisons(study, list(dict.fromkeys(job.name for job in jobs)))
    one_group = len({job.group for job in jobs}) == 1
    return write_report(results, folder, gallery=gallery, histories=None if one_group else {}, comparisons=pairs)
