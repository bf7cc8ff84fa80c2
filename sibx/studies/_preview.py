"""What a study would do, before it does anything."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from sibx.report import to_markdown
from sibx.runs.place import named_device
from sibx.studies.estimate import Cost, count_images, estimate
from sibx.studies.job import PARTS, Job, left_of
from sibx.studies.study import Study
from sibx.studies.study_place import Place

NOTE = (
    "Jobs are trainings with their scores, the checkpoints that they start from, and the own masks of these, read in "
    f"{PARTS} parts. Time: of the passes, one process."
)


def preview(study: Study, place: Place) -> str:
    """Say what would run, in how many passes, and how long that takes, as Markdown; nothing is written."""
    study.check()
    folder = Path(place.out) / study.title
    costs = estimate(study, place, named_device(place.device))
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in costs:
        groups.setdefault((job.group.dataset, job.group.model), []).append(job)
    lines = {f"{dataset}, {model}": _line(jobs, costs, folder) for (dataset, model), jobs in groups.items()}
    lines["all"] = _line(list(costs), costs, folder)
    head = f"{study.title} would write to {folder}/; seeds {study.seeds}, trainings {', '.join(study.trainings)}."
    notes = [NOTE]
    absent = [dataset for dataset in study.datasets if count_images(study, place, dataset) is None]
    notes += [f"Not at hand, so counted by the study's `images`: {', '.join(absent)}."] if absent else []
    return "\n\n".join([head, to_markdown(pd.DataFrame(lines).T, "data set, model"), *notes])


def _line(jobs: Sequence[Job], costs: Mapping[Job, Cost], folder: Path) -> dict[str, str]:
    left = [costs[job] for job in left_of(jobs, folder)]
    forward, backward = (sum(getattr(c.passes, way) for c in left) for way in ("forward", "backward"))
    return {
        "jobs": str(len(jobs)),
        "done": str(len(jobs) - len(left)),
        "images forward": f"{forward:,.0f}",
        "images backward": f"{backward:,.0f}",
        "time": _duration(sum(c.seconds for c in left)),
    }


def _duration(seconds: float) -> str:
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= 100 * length / 60:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
