"""Does S-IB fine-tuning improve explanations, and against which controls?

Trains a classifier with cross-entropy, fine-tunes copies of it with cross-entropy alone (``ce``, the control) and with
S-IB (``sib``: object masks from the data; ``sib-self-cut``: its own masks; ``sib-self-cut-shuffled``: those masks
permuted over the images, a control), explains the test images with every method, and scores the explanations and the
classifier. Nothing is chosen on test data. Without arguments: the embedded synthetic benchmark, no download.

    python benchmarks/run_all.py
    python benchmarks/run_all.py --config configs/pets_mobilenet.yaml --root DATA --weights FILE
    python benchmarks/run_all.py --config configs/full_gpu.yaml --root DATA --dry-run
    torchrun --nproc-per-node 8 benchmarks/run_all.py --config configs/full_gpu.yaml --root DATA

Settings are those of the configuration (default ``configs/default.yaml``) with those of the command line over them. An
interrupted run goes on with ``--resume``, on a CPU to the same bytes. A training that fails is recorded, the others go
on, and the exit code is 1.
"""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from cells import sweep
from driver import Ranks, failure, run_jobs
from estimate import Cost, count_images, estimate
from jobs import Workbench, is_done
from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]  # exported, but not by name
from pictures import draw_gallery
from study import START, Job, Place, Study, differences
from summary import summarize

from sibx import Results
from sibx.report import save_gallery, to_markdown, write_report

HERE = Path(__file__).parent
DEFAULT = "configs/default.yaml"
SWITCHES = ("--resume", "--dry_run")


def main(words: list[str]) -> int:
    """Run the study that the words ask for; return the exit code."""
    study, place = read(words)
    study.check()
    if place.threads is not None:
        torch.set_num_threads(place.threads)
    folder = place.out / study.title
    if place.dry_run:
        print(preview(study, place, folder))
        return 0
    ranks = Ranks()
    device = pick_device(place.device, ranks.number)
    left = [job for job in study.jobs() if not is_done(job, folder)]  # the same on all ranks: none has begun
    if ranks.number == 0:
        open_folder(study, folder, place.resume)
    ranks.wait("the folder")
    start = time.perf_counter()
    seconds = time_jobs(study, place, device) if left and ranks.number == 0 else {}
    stages = {
        "checkpoints": [j for j in left if j.training == START],
        "trainings": [j for j in left if j.training != START],
    }
    workbench = Workbench(study, place, folder, device)
    run_jobs(stages, workbench.do, folder, ranks, seconds)
    return finish(study, place, folder, time.perf_counter() - start) if ranks.number == 0 else 0


def read(words: list[str]) -> tuple[Study, Place]:
    """Read the command line and the configuration it names."""
    parser = ArgumentParser(prog="run_all.py", description=__doc__)
    parser.add_argument("--config", action=ActionConfigFile, help=f"YAML with any of these settings; default {DEFAULT}")
    parser.add_class_arguments(Study)
    parser.add_class_arguments(Place)
    given = parser.parse_args(_arguments(words))
    own = {name: set(kind.__dataclass_fields__) for name, kind in (("study", Study), ("place", Place))}
    settings = vars(given)
    study, place = ({k: v for k, v in settings.items() if k in names} for names in own.values())
    return Study(**study), Place(**place)


def _arguments(words: list[str]) -> list[str]:
    """Dashes in options are underscores, switches need no value, configurations beside this file are found."""
    words = [re.sub(r"(?<=\w)-(?=[\w-]*(=|$))", "_", w) if w.startswith("--") else w for w in words]
    words = [f"{w}=true" if w in SWITCHES else w for w in words]
    named = [i for i, w in enumerate(words) if w == "--config" or w.startswith("--config=")]
    if not named:
        return ["--config", str(HERE / DEFAULT), *words]
    for i in named:
        place, prefix = (i + 1, "") if words[i] == "--config" else (i, "--config=")
        path = words[place].removeprefix(prefix) if place < len(words) else ""
        if path and not Path(path).is_file() and (HERE / path).is_file():
            words[place] = f"{prefix}{HERE / path}"
    return words


def pick_device(name: str | None, number: int) -> torch.device:
    """Return the device asked for; default this rank's GPU, the CPU where there is none."""
    if name is not None:
        return torch.device(name)
    gpus = torch.cuda.device_count()
    return torch.device("cuda", number % gpus) if gpus else torch.device("cpu")


def open_folder(study: Study, folder: Path, resume: bool) -> None:
    """Note whose folder it is.

    Raises:
        ValueError: there are results of an earlier run without ``resume``, or those of another study with it.
    """
    path, ours = folder / "study.json", study.identify()
    if path.is_file():
        if not resume:
            raise ValueError(f"`out` must hold no earlier run (--resume continues it), but got {str(folder)!r}.")
        changed = list(differences(ours, json.loads(path.read_text(encoding="utf-8"))))
        if changed:
            raise ValueError(f"`out` must hold a run of the same study, but got {str(folder)!r} with {changed}.")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(ours, indent=2) + "\n", encoding="utf-8")


def time_jobs(study: Study, place: Place, device: torch.device) -> dict[Job, float]:
    """Return what every job takes, roughly; nothing if that cannot be found out, which stops no job."""
    try:
        return {job: cost.seconds for job, cost in estimate(study, place, device).items()}
    except Exception as error:
        print(f"The time that is left is counted in jobs: {type(error).__name__}: {error}", file=sys.stderr)
        return {}


def preview(study: Study, place: Place, folder: Path) -> str:
    """Say what would run, in how many passes, and how long that takes."""
    costs = estimate(study, place, pick_device(place.device, 0))
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in costs:
        groups.setdefault((job.dataset, job.model), []).append(job)
    lines = {f"{dataset}, {model}": _line(jobs, costs, folder) for (dataset, model), jobs in groups.items()}
    lines["all"] = _line(list(costs), costs, folder)
    head = f"{study.title} would write to {folder}/; seeds {study.seeds}, trainings {', '.join(study.trainings)}."
    notes = [
        "Jobs are trainings with their scores, and the checkpoints they start from. Time: of the passes, one process."
    ]
    absent = [dataset for dataset in study.datasets if count_images(study, place, dataset) is None]
    notes += [f"Not at hand, so counted by the configuration's `images`: {', '.join(absent)}."] if absent else []
    return "\n\n".join([head, to_markdown(pd.DataFrame(lines).T, "data set, model"), *notes])


def _line(jobs: list[Job], costs: dict[Job, Cost], folder: Path) -> dict[str, str]:
    left = [costs[job] for job in jobs if not is_done(job, folder)]
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


def finish(study: Study, place: Place, folder: Path, seconds: float) -> int:
    """Put all that was done together, say what failed, and return the exit code."""
    jobs = study.jobs()
    done = [job for job in jobs if is_done(job, folder)]
    failed = {str(job): failure(job, folder) for job in jobs if job not in done}
    cells = {job: Results.load(folder / job.folder / job.training) for job in done if job.training != START}
    if cells:
        sweep(folder / job.folder / job.training for job in cells)
        info = describe(study, cells, folder, failed) | {"seconds": round(seconds, 1)}
        results = Results.concat(cells.values(), info)
        results.save(folder)
        text = summarize(results, study)
        (folder / "summary.md").write_text(text + "\n", encoding="utf-8")
        print(text)
        gallery = list(draw_gallery(study, place, folder, list(cells)))
        save_gallery(gallery, folder)
        one_group = len({job.group for job in cells}) == 1
        page = write_report(results, folder, gallery=gallery, histories=None if one_group else {})
        print(f"\nWritten to {folder}/ after {seconds:.0f} s; open {page}")
    if failed:
        print(f"\nFAILED, {len(failed)} of {len(jobs)} (--resume tries again):", file=sys.stderr)
        for name, error in failed.items():
            print(f"- {name}: {(error or 'not done').strip().splitlines()[-1]}", file=sys.stderr)
    return 1 if failed else 0


def describe(study: Study, cells: dict[Job, Results], folder: Path, failed: dict[str, str | None]) -> dict[str, Any]:
    """Return what run.json says."""
    several = len({job.group for job in cells}) > 1
    log: dict[str, Any] = {}
    for job, results in cells.items():
        entry = {k: v for k, v in results.info.items() if k != "evaluation"}
        log[str(job) if several else job.training] = entry
    for group in {job.group: None for job in cells}:
        start = json.loads((folder / group.folder / "start.json").read_text(encoding="utf-8"))
        log[str(group) if several else START] = start
    evaluation = next(iter(cells.values())).info["evaluation"]
    return {"study": study.identify(), "training_log": log, "evaluation": evaluation, "failed": failed}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
