"""At which setting is a baseline at its best? The same number of tries for each, on validation data only.

Takes a study's file and trains every training of it that has settings to choose (TRIES), TRIED settings each, as the
study would: same data, model, recipe and, where the study has one, checkpoint. A setting is judged by the worst group's
accuracy on validation images, of equal ones by the mean over groups: the usual way, which needs groups in validation.
Half of the validation images are used to judge; the other half is the trainings' own validation data, to which ``dfr``
fits its last layer. All copies of an object are in one half. Controls have the settings of their training.

    python benchmarks/experiments/baseline_settings.py benchmarks/studies/baselines_embedded.yaml
    python benchmarks/experiments/baseline_settings.py benchmarks/studies/baselines_composite.yaml --root DATA \
        --weights FILE

Writes a CSV with one line per try, which is not repeated when it is there, and prints the best settings in the form in
which a study's file has them. Test images are not touched.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pandas as pd
import torch
import yaml
from jsonargparse import auto_cli
from torch import nn

from sibx.datasets import InMemoryDataset, build_dataset, spread
from sibx.models import scores_for
from sibx.studies import Study
from sibx.train import TRAININGS, TrainConfig, TrainingSpec, fine_tune, fine_tune_as, predict

TRIED = 4
UNBOUNDED = [{"weight": w} for w in (0.01, 0.1, 1.0, 10.0)]  # terms that grow with the network's scale
SIB = [{"balance.share": s} for s in (0.1, 0.2, 0.4, 0.8)]  # with Share the weight of a single term says nothing
SIB_FIXED = [{"background.weight": w} for w in (0.3, 1.0, 3.0, 10.0)]
BOUNDED = [{"weight": w} for w in (0.3, 1.0, 3.0, 10.0)]
TRIES: Mapping[str, list[dict[str, Any]]] = {
    "group-dro": [{"step_size": s, "adjustment": a} for s, a in ((0.01, 0.0), (0.1, 0.0), (1.0, 0.0), (0.1, 2.0))],
    "jtt": [{"epochs": e, "factor": f} for e, f in ((1, 5), (1, 20), (1, 50), (2, 20))],
    **dict.fromkeys(("rrr", "rrr-cam", "actdiff", "gradient-penalty"), UNBOUNDED),
    **dict.fromkeys(("energy", "energy-cam", "l1", "saliency-guided"), BOUNDED),
    **dict.fromkeys(("background-swap", "background-noise"), BOUNDED),
    **dict.fromkeys(("sib", "sib-self-cut"), SIB),
    **dict.fromkeys(("sib-fixed", "sib-self-fixed"), SIB_FIXED),
    "dfr": [{"draws": d} for d in (1, 3, 10, 20)],  # its strength it chooses itself
}
COLUMNS = ("dataset", "model", "seed", "training", "settings", "worst_group", "mean_of_groups", "accuracy", "seconds")


def main(
    study: Path,
    root: str | None = None,
    weights: str | None = None,
    seed: int = 0,
    trainings: list[str] = list(TRIES),  # noqa: B006 (read only)
    out: Path = Path("results/baseline_settings"),
) -> None:
    """Try the settings that are not tried yet, and print the best.

    Args:
        study: a study's file, with one data set and one model.
        root: folder of the data.
        weights: what the model starts with; default what the study's file says.
        seed: of weights and order.
        trainings: those of the study to try; default all that have settings to choose.
        out: folder for the CSV, ``<name of the study>.csv``, and the checkpoint.
    """
    torch.set_num_threads(1)
    settings = yaml.safe_load(study.read_text(encoding="utf-8"))
    planned = Study(**settings | ({"weights": weights} if weights else {}))
    planned.check()
    asked = [name for name in planned.trainings if name in TRIES and name in trainings]
    table = search(planned, root, seed, asked, out)
    print(table.to_string(index=False))
    print("\nsettings:")
    for name, best in best_settings(table).items():
        print(f"  {name}: {json.dumps(best)}")


def search(study: Study, root: str | None, seed: int, trainings: list[str], out: Path) -> pd.DataFrame:
    """Return all tries of these trainings, one line each; those in the CSV are not repeated."""
    file = out / f"{study.title}.csv"
    lines: list[dict[Any, Any]] = pd.read_csv(file).to_dict("records") if file.is_file() else []
    (dataset,), (model,) = study.datasets, study.models
    size, options = study.size_of(dataset), study.options.get(dataset, {})
    train, val = (InMemoryDataset.load(build_dataset(dataset, root, s, size, **options)) for s in ("train", "val"))
    train = InMemoryDataset.load(train, spread(len(train), study.train_images or len(train)))
    own, judged = halves(val)
    recipe = study.recipe_for(model)
    start = checkpoint(study, train, seed, out / f"{study.title}-seed-{seed}.pt")
    config = replace(recipe.tune if study.checkpoint else recipe.start, seed=seed)
    done = {(line["seed"], line["training"], line["settings"]) for line in lines}
    for name in trainings:
        spec = TRAININGS[name].at(recipe.layers or "auto")
        for values in TRIES[name]:
            if (seed, name, json.dumps(values)) in done:
                continue
            scores = attempt(spec.changed(values), start, train, own, judged, config)
            line: dict[str, Any] = {
                "dataset": dataset,
                "model": model,
                "seed": seed,
                "training": name,
                "settings": json.dumps(values),
            }
            lines.append(line | scores)
            file.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(lines, columns=list(COLUMNS)).to_csv(file, index=False, float_format="%.4f")
            print(lines[-1], flush=True)
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    return table[(table["seed"] == seed) & table["training"].isin(trainings)]


def halves(data: InMemoryDataset) -> tuple[InMemoryDataset, InMemoryDataset]:
    """Divide images at random but reproducibly, all copies of an object (``<object>@<kind>``) into one half."""
    second = [crc32(sample.id.partition("@")[0].encode()) % 2 == 1 for sample in data.samples]
    parts = [[i for i, is_second in enumerate(second) if is_second == wanted] for wanted in (False, True)]
    first, rest = (InMemoryDataset.load(data, part) for part in parts)
    return first, rest


def checkpoint(study: Study, train: InMemoryDataset, seed: int, file: Path) -> nn.Module:
    """Return what the trainings of a study start from."""
    torch.manual_seed(seed)
    network = study.build(study.models[0], scores_for(len(train.classes), study.output))
    if not study.checkpoint:
        return network
    if file.is_file():
        network.load_state_dict(torch.load(file, weights_only=True))
        return network
    config = replace(study.recipe_for(study.models[0]).start, seed=seed)
    trained = fine_tune(network, train, config=config, progress=False).model
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(trained.state_dict(), file)
    return trained


def attempt(
    spec: TrainingSpec,
    start: nn.Module,
    train: InMemoryDataset,
    own: InMemoryDataset,
    judged: InMemoryDataset,
    config: TrainConfig,
) -> dict[str, float]:
    """Train once; return the accuracies on the images to judge by, and the time of the training."""
    torch.manual_seed(config.seed)
    result = fine_tune_as(spec, start, train, config=config, val_data=own, progress=False)
    predicted, labels = predict(result.model, judged, output=config.output)
    right, groups = (predicted == labels).double(), judged.groups
    of_group = [float(right[groups == group].mean()) for group in groups.unique()]
    return {
        "worst_group": min(of_group),
        "mean_of_groups": sum(of_group) / len(of_group),
        "accuracy": float(right.mean()),
        "seconds": result.seconds,
    }


def best_settings(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return training -> the settings with the best worst group; of equal ones the best mean, then the first."""
    ordered = table.sort_values(["worst_group", "mean_of_groups"], ascending=False, kind="stable")
    best = ordered.drop_duplicates("training").set_index("training")["settings"]
    return {name: json.loads(best[name]) for name in dict.fromkeys(table["training"])}


if __name__ == "__main__":
    auto_cli(main)
