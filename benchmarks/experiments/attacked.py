r"""Why do attacks succeed more often after S-IB, and is it real? Every network of a study, taken apart.

Takes the folder of a finished study (``sibx study`` keeps every network) and measures, on its first explained test
split:

- accuracy on clean images, under FGSM and PGD, and on images that PGD made against the ``ce`` network of the same
  seed (``transfer``). Were gradients masked, attacks that look at the network's own gradients would be the weaker ones.
- of the images that are right: the margin m = (the label's logit) - (the largest other one), the L1 norm of its
  gradient over pixels, and their ratio m / |dm/dx|_1: the change of every pixel at which the linear network would be
  wrong, in gray levels. Both grow together when logits are only scaled; the ratio says how easy the network is to move.
- the share of images whose gradient is zero.

    python benchmarks/experiments/attacked.py --study results/study-robustness --out benchmarks/experiments/attacked.csv
    python benchmarks/experiments/attacked.py --study results/carries-over \
        --file benchmarks/studies/carries_over.yaml --root DATA

Prints means over seeds, and paired differences to ``ce`` with Student's 95 % interval over seeds; of several data sets
the mean over sets with its interval for other sets.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from jsonargparse import auto_cli
from torch import Tensor

from sibx.datasets import DATASETS, InMemoryDataset, build_dataset, collate, spread
from sibx.evaluation import mean_over_seeds, mean_over_sets
from sibx.images import fgsm, pgd
from sibx.models import hits, load_model, scores_for
from sibx.report import to_markdown
from sibx.studies import Study

EPSILON = 1 / 255
IMAGES, AT_ONCE = 96, 48
KEY = ["dataset", "seed", "training"]
REFERENCE = "ce"
Model = Callable[[Tensor], Tensor]  # pixels -> logits


def main(
    study: Path,
    file: Path | None = None,
    root: str | None = None,
    out: Path | None = None,
    epsilon: float = EPSILON,
) -> None:
    """Measure the networks that are there, and print the tables.

    Args:
        study: folder of the study.
        file: the study's file, which says in which folders below the root its data sets lie.
        root: folder of the data.
        out: file for one line per network; those that it has are not measured again.
        epsilon: largest change of a pixel, in units of pixel values.
    """
    torch.set_num_threads(1)
    folders = yaml.safe_load(file.read_text(encoding="utf-8")).get("folders", {}) if file else {}
    settings = json.loads((study / "study.json").read_text(encoding="utf-8"))
    # What the networks began with is not needed.
    table = measure_all(study, Study(**settings | {"weights": None, "folders": folders}), root, out, epsilon)
    quantities = [name for name in table.columns if name not in KEY]
    for dataset, part in table.groupby("dataset", sort=False, observed=True):
        levels = part.groupby("training", sort=False, observed=True)[quantities].mean().map("{:.3f}".format)
        print(f"{dataset}, mean over {part['seed'].nunique()} seeds\n\n{to_markdown(levels, 'training')}\n")
    print(to_markdown(differences(table, quantities), "claim"))


def measure_all(folder: Path, study: Study, root: str | None, out: Path | None, epsilon: float) -> pd.DataFrame:
    """Return one row per network."""
    lines: list[dict[Any, Any]] = pd.read_csv(out).to_dict("records") if out and out.is_file() else []
    done = {tuple(line[name] for name in KEY) for line in lines}
    for group in study.groups():
        cells = {t: folder / group.folder / t / "model.pt" for t in study.trainings}
        left = [t for t in cells if (group.dataset, group.seed, t) not in done and cells[t].is_file()]
        if not left or not cells[REFERENCE].is_file():
            continue
        data = images_of(study, group.dataset, root)
        networks = {t: load(study, group.model, data, cells[t]) for t in {*left, REFERENCE}}
        for training in left:
            scores = take_apart(networks[training], networks[REFERENCE], data, epsilon)
            lines.append({"dataset": group.dataset, "seed": group.seed, "training": training, **scores})
            print(lines[-1], flush=True)
            if out:
                pd.DataFrame(lines).to_csv(out, index=False, float_format="%.5f")
    return pd.DataFrame(lines)


def images_of(study: Study, dataset: str, root: str | None) -> InMemoryDataset:
    """Return IMAGES images of the first explained split, spread over it."""
    split = next(s for s in DATASETS[dataset].splits if s.startswith("test") and study.explains(s))
    place = None if root is None else str(Path(root, study.folders.get(dataset, "")))
    data = build_dataset(dataset, place, split, study.size_of(dataset), **study.options.get(dataset, {}))
    return InMemoryDataset.load(data, spread(len(data), IMAGES))


def load(study: Study, model: str, data: InMemoryDataset, file: Path) -> Model:
    """Return a trained network, from pixels to logits."""
    network = load_model(file, study.build(model, scores_for(len(data.classes), study.output)))
    return lambda pixels: network(data.normalization(pixels))


def take_apart(network: Model, reference: Model, data: InMemoryDataset, epsilon: float) -> dict[str, float]:
    """Return everything that is measured of one network, means over images."""
    parts: list[dict[str, Tensor]] = []
    for first in range(0, len(data), AT_ONCE):
        batch = collate(data.samples[first : first + AT_ONCE])
        pixels, seeds = data.normalization.inverse(batch.images).clamp(0, 1), range(first, first + len(batch.labels))
        changed = {
            "clean": pixels,
            "fgsm": fgsm(network, pixels, batch.labels, epsilon),
            "pgd": pgd(network, pixels, batch.labels, epsilon, seeds=seeds),
            "transfer": pgd(reference, pixels, batch.labels, epsilon, seeds=seeds),
        }
        right = {name: hits(network(x).detach(), batch.labels) for name, x in changed.items()}
        parts.append(right | geometry(network, pixels, batch.labels))
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    of_right = columns["clean"] == 1
    return {
        **{name: float(columns[name].mean()) for name in ("clean", "fgsm", "pgd", "transfer")},
        "zero gradients": float((columns["slope"] == 0).double().mean()),
        **{name: float(columns[name][of_right].median()) for name in ("margin", "slope")},
        "gray levels": float((255 * columns["margin"] / columns["slope"])[of_right].median()),
    }


def geometry(network: Model, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the margin of every image's label, and the L1 norm of its gradient over pixels."""
    leaf = pixels.clone().requires_grad_()
    logits = network(leaf)
    own = logits.gather(1, labels[:, None])[:, 0]
    margin = own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    (gradient,) = torch.autograd.grad(margin.sum(), leaf)
    return {"margin": margin.detach(), "slope": gradient.flatten(1).abs().sum(1)}


def differences(table: pd.DataFrame, quantities: list[str]) -> pd.DataFrame:
    """Return one row per training, its difference to ``ce``: over seeds, or over sets where there are several."""
    wide = table.set_index(KEY)[quantities]
    lines = {}
    for training in [t for t in dict.fromkeys(table["training"]) if t != REFERENCE]:
        gains = wide.xs(training, level="training").sub(wide.xs(REFERENCE, level="training")).dropna(how="all")
        of_sets = gains.groupby("dataset", observed=True)
        means, errors = of_sets.mean(), (of_sets.std() / of_sets.count() ** 0.5).fillna(0)
        several = len(means) > 1
        found = {
            q: mean_over_sets(means[q], errors[q]) if several else mean_over_seeds(np.asarray(gains[q]))
            for q in quantities
        }
        lines[f"{training} - {REFERENCE}"] = {q: f"{i:+.3f}{' *' if i.excludes_zero else ''}" for q, i in found.items()}
    return pd.DataFrame(lines).T


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
