"""Do maps gain when a head is centered? Every network of a study, as it is and with what all classes share taken out.

Takes the folder of a study (``sibx study`` keeps every network; one that goes on gives what is done) and explains
images of its test splits with each network and with ``sibx.models.center_head`` of it: focus of five methods, and of
Grad-CAM insertion less deletion, which knows no masks. The probabilities are the same. ``centered_shown.py`` makes the
tables.

    python benchmarks/experiments/centered.py --study results/carries-over-longer --root DATA \
        --file benchmarks/studies/carries_over_longer.yaml --out benchmarks/experiments/centered.csv

Every network has its lines in the CSV, one per head, and is not measured again.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from jsonargparse import auto_cli
from torch import nn

from sibx import evaluate
from sibx.datasets import DATASETS, InMemoryDataset, Renormalized, build_dataset, spread
from sibx.evaluation import CLASSIFIER, Results
from sibx.models import about, center_head, load_model
from sibx.studies import Study

METHODS = ("gradcam", "layercam", "vjp", "saliency", "input_x_gradient")
EXPLAINED, PERTURBED = 60, 12  # images of a split, spread over it
KEY = ["dataset", "model", "seed", "training"]


def main(study: Path, file: Path, root: str | None, out: Path) -> None:
    """Measure the networks that are there and not in the CSV yet.

    Args:
        study: folder of the study.
        file: the study's file, which says in which folders below the root its data sets lie.
        root: folder of the data; None for images that need none.
        out: file for one line per network and head.
    """
    torch.set_num_threads(1)
    words = {"weights": None, "folders": yaml.safe_load(file.read_text(encoding="utf-8")).get("folders", {})}
    asked = Study(**json.loads((study / "study.json").read_text(encoding="utf-8")) | words)
    lines: list[dict[Any, Any]] = pd.read_csv(out).to_dict("records") if out.is_file() else []
    done = {tuple(line[name] for name in KEY) for line in lines}
    for group in asked.groups():
        finished = [t for t in asked.trainings if (study / group.folder / t / "run.json").is_file()]
        left = [t for t in finished if (group.dataset, group.model, group.seed, t) not in done]
        if not left:
            continue
        data = images_of(asked, group.dataset, root)
        for training in left:
            key = dict(zip(KEY, (group.dataset, group.model, group.seed, training), strict=True))
            network = load_model(study / group.folder / training / "model.pt", group.model)
            for head, model in (("as is", network), ("centered", center_head(network))):
                lines.append(key | {"head": head} | judge(model, data))
                print(lines[-1], flush=True)
            pd.DataFrame(lines).to_csv(out, index=False, float_format="%.4f")


def images_of(study: Study, dataset: str, root: str | None) -> InMemoryDataset:
    """Return EXPLAINED images of the test split that the study explains, spread over it."""
    (split,) = (s for s in DATASETS[dataset].splits if s.startswith("test") and study.explains(s))
    place = None if root is None else str(Path(root, study.folders.get(dataset, "")))
    data = build_dataset(dataset, place, split, study.size_of(dataset), **study.options.get(dataset, {}))
    return InMemoryDataset.load(data, spread(len(data), EXPLAINED))


def judge(model: nn.Module, data: InMemoryDataset) -> dict[str, float]:
    """Return the focus of every method, and insertion less deletion of Grad-CAM: means over images."""
    trained_on = about(model).normalization
    images = Renormalized(data, trained_on) if trained_on else data
    few = InMemoryDataset.load(images, spread(len(data), PERTURBED))
    focus = means(evaluate(model, images, methods=list(METHODS), metrics=["foreground_focus"], progress=False))
    curves = means(evaluate(model, few, methods=["gradcam"], metrics=["deletion", "insertion"], progress=False))
    gained = curves["gradcam", "insertion"] - curves["gradcam", "deletion"]
    return {name: float(focus[name, "foreground_focus"]) for name in METHODS} | {"gradcam_perturbed": float(gained)}


def means(results: Results) -> pd.Series:
    """Return the mean over images of every method and metric."""
    maps = results.rows[results.rows["method"] != CLASSIFIER]
    return maps.groupby(["method", "metric"], observed=True)["value"].mean()


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
