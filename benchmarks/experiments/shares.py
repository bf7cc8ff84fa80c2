"""How hard may S-IB pull on data that nobody tuned it on? Every share of the cross-entropy's pull, on five real sets.

Takes the study ``carries_over.yaml`` and fine-tunes each starting network with its own masks at every share of 0
(cross-entropy alone) to .4, and with shuffled masks: the same data, model, recipe, start and seed for all. A training
is scored on validation images, where a share may be chosen, and on the test images that the study explains.
``shares_shown.py`` makes the tables and the figure of it.

    python benchmarks/experiments/shares.py --root DATA --weights FILE --seeds '[0, 1, 2]' --out results/shares

Every finished training is a line of ``shares.csv`` and not repeated.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from baseline_settings import checkpoint
from jsonargparse import auto_cli
from torch import nn

from sibx import evaluate, fine_tune
from sibx.datasets import DATASETS, InMemoryDataset, build_dataset, spread
from sibx.objectives import Given, Share, Shuffled, SIBConfig, self_masks
from sibx.studies import Study
from sibx.train import predict

STUDY = Path(__file__).parents[1] / "studies" / "carries_over.yaml"
METHODS = ("vjp", "gradcam", "saliency", "input_x_gradient")
FORMS = ((0.0, "own"), (0.4, "own"), (0.2, "own"), (0.1, "own"), (0.2, "shuffled"), (0.4, "shuffled"))
CLASSIFIED, EXPLAINED = 200, 30  # images of a split, spread over it
KEY = ["dataset", "seed", "masks", "share"]


def main(
    root: str,
    weights: str,
    seeds: list[int] = [0],  # noqa: B006 (read only)
    datasets: list[str] | None = None,
    out: Path = Path("results/shares"),
) -> None:
    """Do the trainings that are not in the CSV yet.

    Args:
        root: folder of the data sets.
        weights: what the model starts with.
        seeds: of weights and order.
        datasets: those of the study to do; default all.
        out: folder for ``shares.csv`` and the starting networks.
    """
    torch.set_num_threads(1)
    settings: dict[str, Any] = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    study = Study(**settings | {"weights": weights})
    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for dataset in datasets or study.datasets:
            run_set(study, dataset, root, seed, out)


def run_set(study: Study, dataset: str, root: str, seed: int, out: Path) -> None:
    """Do one set's trainings of one seed."""
    file, (model,) = out / "shares.csv", study.models
    lines: list[dict[Any, Any]] = pd.read_csv(file).to_dict("records") if file.is_file() else []
    done = {tuple(line[name] for name in KEY) for line in lines}
    left = [(share, masks) for share, masks in FORMS if (dataset, seed, masks, share) not in done]
    if not left:
        return
    splits = load(study, dataset, root)
    recipe, train = study.recipe_for(model), splits.pop("train")
    start = checkpoint(study, train, seed, out / f"{dataset}-seed-{seed}.pt").eval()
    base = SIBConfig.recommended("self", recipe.layers or "auto")
    own = train.with_masks(self_masks(start, train, config=base, progress=False))
    for share, masks in left:
        given = Given() if masks == "own" else Shuffled(Given())
        objective = replace(base, masks=given, balance=Share(share)) if share else None
        torch.manual_seed(seed)
        config = replace(recipe.tune, objective=objective, seed=seed)
        result = fine_tune(start, own, config=config, progress=False)
        for split, data in splits.items():
            scores = judge(result.model.eval(), data, explained=split == "val" or study.explains(split))
            line = {"dataset": dataset, "seed": seed, "masks": masks, "share": share, "split": split}
            lines.append(line | scores | {"seconds": result.seconds})
            print(lines[-1], flush=True)
        pd.DataFrame(lines).to_csv(file, index=False, float_format="%.4f")


def load(study: Study, dataset: str, root: str) -> dict[str, InMemoryDataset]:
    """Return split -> images: those to train on as in the study, and CLASSIFIED of every other one."""
    place, size = str(Path(root, study.folders.get(dataset, ""))), study.size_of(dataset)
    counts = dict.fromkeys(DATASETS[dataset].splits, CLASSIFIED) | {"train": study.train_images}
    found = {}
    for split, count in counts.items():
        data = build_dataset(dataset, place, split, size, **study.options.get(dataset, {}))
        found[split] = InMemoryDataset.load(data, spread(len(data), count or len(data)))
    return found


def judge(model: nn.Module, data: InMemoryDataset, *, explained: bool, most: int = EXPLAINED) -> dict[str, float]:
    """Return accuracies, the worst group's where there are groups, and the focus of maps of at most so many images."""
    predicted, labels = predict(model, data)
    right = pd.Series((predicted == labels).double())
    scores = {"accuracy": right.mean(), "balanced": right.groupby(labels.numpy(), observed=True).mean().mean()}
    groups = data.groups
    if (groups >= 0).all():
        scores["worst_group"] = right.groupby(groups.numpy(), observed=True).mean().min()
    if explained:
        few = InMemoryDataset.load(data, spread(len(data), most))
        rows = evaluate(model, few, methods=list(METHODS), metrics=["foreground_focus"], progress=False).rows
        rows = rows[rows["metric"] == "foreground_focus"]
        scores |= {str(name): value for name, value in rows.groupby("method", observed=True)["value"].mean().items()}
    return {name: float(value) for name, value in scores.items()}


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
