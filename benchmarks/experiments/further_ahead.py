"""How could own masks get further ahead of anybody's? Ideas beside the recommended form, on validation images.

Same data, recipe and share (.4) as in ``shares.py``. Cross-entropy alone and the recommended form are done again, from
the same starting networks: on another machine the same seed gives another network. In every form one thing differs:

- ``finer``: VJPs are taken at a third layer of a finer grid, too (``features.6``, stride 8), where it shows more whose
  mask it is.
- ``stages-3``, ``stages-2``: the same without names: the last map of each of the three or two coarsest grids
  (``find_cam_layers``), own masks read at the second. For MobileNetV2 these are the maps right before a grid is left,
  in the expansion of the next block.
- ``beyond-prior``: every cell of the background term counts by how often it is object in the batch. R in a corner that
  is background in every picture costs nothing, so that moving R to where objects usually are does not pay; what pays
  is to leave those cells of that place that are background in this picture.
- ``contrast``: the fraction of R in this picture's object less that in the masks of the batch on average. A cell that
  is object everywhere, or nowhere, counts nothing, so that anybody's mask has nothing to say in expectation; unlike
  ``beyond-prior`` it does not pay to move R where never is an object.
- ``half``: half the share, .2, which leaves more to the labels; ``whole``: a share of 1.
- ``invariant``, ``other-class``, ``conditional``: other terms, see ``further_terms.py``.

Criterion, fixed before the runs: own over shuffled masks at least twice the recommended form's gain of focus (mean of
VJP and Grad-CAM) on three of the five sets, and in the mean over sets no more than .01 of accuracy below cross-entropy.

With ``--epochs 15`` the trainings are three times as long. With ``--study benchmarks/studies/carries_over_longer.yaml``
they are, too, and heads are centered; ``--networks`` names the folder of that study, whose networks are then judged as
cross-entropy and as the recommended form, and whose starts are taken, instead of training them again.

    python benchmarks/experiments/further_ahead.py --root DATA --weights FILE --seeds '[0, 1, 2]' --out results/ahead

Every finished training has its lines in ``further_ahead.csv``, one per split, and is not repeated. Test images are
touched with ``--test`` alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from baseline_settings import checkpoint
from further_terms import TERMS, Bounded
from jsonargparse import auto_cli
from shares import STUDY, judge, load
from torch import Tensor, nn

from sibx import TrainConfig, fine_tune
from sibx.datasets import DATASETS, InMemoryDataset
from sibx.models import find_cam_layers, load_model
from sibx.objectives import Contrast, Fraction, Frozen, Given, Share, Shuffled, SIBConfig, self_masks
from sibx.studies import Study

MASKS: Mapping[str, Given | Shuffled] = {"own": Given(), "shuffled": Shuffled(Given())}
KEY = ["dataset", "seed", "epochs", "masks", "form", "split"]


@dataclass(frozen=True, slots=True)
class BeyondPrior(Fraction):
    """The fraction outside M, every cell weighed by its mean mask over the batch."""

    def __call__(self, vjp_map: Tensor, strength: Tensor, mask: Tensor, undefined: Tensor | float = 0.0) -> Tensor:
        """Return the term of every image, (B,)."""
        prior = mask.mean(0, keepdim=True)  # (1, 1, h, w): how often a cell is object
        return Fraction.__call__(self, vjp_map, strength * prior, mask, undefined)


def stages(base: SIBConfig, model: nn.Module, side: int, count: int) -> SIBConfig:
    """Take VJPs at the last map of each of the coarsest grids, and read masks at the second."""
    names = find_cam_layers(model, count, side)
    return replace(base, layers=dict.fromkeys(reversed(names), 1.0), masks=Frozen(layer=names[1]))


FORMS: Mapping[str, Callable[[SIBConfig, nn.Module, int], SIBConfig]] = {
    "recommended": lambda base, *_: base,
    "finer": lambda base, *_: replace(base, layers={"features.6": 1.0} | dict(base.weights)),
    "stages-3": partial(stages, count=3),
    "stages-2": partial(stages, count=2),
    "beyond-prior": lambda base, *_: replace(base, background=BeyondPrior(1.0)),
    "contrast": lambda base, *_: replace(base, background=Contrast(1.0)),
    "half": lambda base, *_: replace(base, balance=Share(0.2)),
    "whole": lambda base, *_: replace(base, balance=Share(1.0)),
    **dict.fromkeys(TERMS, lambda base, *_: base),
}
START = "start"  # what all trainings start from, as it is
PLAIN = "cross-entropy"  # alone, without masks
OF_STUDY = {
    (PLAIN, "none"): "ce",
    ("recommended", "own"): "sib-self-cut",
    ("recommended", "shuffled"): "sib-self-cut-shuffled",
}


def main(
    root: str,
    weights: str,
    seeds: list[int] = [0],  # noqa: B006 (read only)
    datasets: list[str] | None = None,
    tried: list[str] = [PLAIN, *FORMS],  # noqa: B006 (read only)
    epochs: int | None = None,
    test: bool = False,
    study: Path = STUDY,
    networks: Path | None = None,
    tune: dict[str, Any] = {},  # noqa: B006 (read only)
    out: Path = Path("results/ahead"),
) -> None:
    """Do the trainings that are not in the CSV yet.

    Args:
        root: folder of the data sets.
        weights: what the model starts with.
        seeds: of weights and order.
        datasets: those of the study to do; default all.
        tried: keys of FORMS, PLAIN or START.
        epochs: of fine-tuning; default the recipe's.
        test: whether test images are classified and explained, too.
        study: whose data, layers and recipe are taken.
        networks: folder of that study where it has run.
        tune: fields of TrainConfig that differ from the study's; they are not in the CSV, so take a folder for each.
        out: folder for ``further_ahead.csv`` and the starting networks.
    """
    torch.set_num_threads(1)
    plan = Study(**yaml.safe_load(study.read_text(encoding="utf-8")) | {"weights": weights})
    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for dataset in datasets or plan.datasets:
            config = replace(plan.recipe_for(plan.models[0]).tune, **tune, seed=seed)
            cells = networks and networks / "cells" / f"{dataset}-{plan.models[0]}" / f"seed-{seed}"
            bench = Bench(plan, dataset, root, replace(config, epochs=epochs or config.epochs), out, cells)
            run_set(bench, tried, test)


@dataclass(frozen=True, slots=True)
class Bench:
    """One set's trainings of one seed.

    Attributes:
        study: whose data, layers and recipe are taken.
        dataset: key of DATASETS.
        root: folder of the data sets.
        tune: how it is trained.
        out: folder for ``further_ahead.csv`` and the starting networks.
        cells: folder of the study's own networks of this set and seed; None = there are none.
    """

    study: Study
    dataset: str
    root: str
    tune: TrainConfig
    out: Path
    cells: Path | None

    def start(self, train: InMemoryDataset) -> nn.Module:
        """Return the network that all trainings start from."""
        file = self.cells / "start.pt" if self.cells else self.out / f"{self.dataset}-seed-{self.tune.seed}.pt"
        return checkpoint(self.study, train, self.tune.seed, file).eval()

    def trained(self, form: str, masks: str, start: nn.Module, train: InMemoryDataset) -> nn.Module:
        """Return what a form trains with the masks of these or of other images, or what the study has trained."""
        if form == START:
            return start
        planned = replace(self.study.recipe_for(self.study.models[0]).tune, seed=self.tune.seed)
        if self.cells and self.tune == planned and (form, masks) in OF_STUDY:
            return load_model(self.cells / OF_STUDY[form, masks] / "model.pt", self.study.models[0])
        objective: Bounded | SIBConfig | None = None
        if form in FORMS:
            layers = self.study.recipe_for(self.study.models[0]).layers
            base = SIBConfig.recommended("self", layers or "auto")
            form_of = FORMS[form](base, start, self.study.size_of(self.dataset))
            train = train.with_masks(self_masks(start, train, config=form_of, progress=False))
            of_masks = replace(form_of, masks=MASKS[masks])
            objective = Bounded(TERMS[form], of_masks) if form in TERMS else of_masks
        torch.manual_seed(self.tune.seed)
        return fine_tune(start, train, config=replace(self.tune, objective=objective), progress=False).model


def run_set(bench: Bench, tried: list[str], test: bool) -> None:
    """Do one set's trainings of one seed."""
    file, study, known = bench.out / "further_ahead.csv", bench.study, (bench.dataset, bench.tune.seed)
    lines: list[dict[Any, Any]] = pd.read_csv(file).to_dict("records") if file.is_file() else []
    done = {tuple(line[name] for name in KEY) for line in lines}
    splits = DATASETS[bench.dataset].splits
    wanted = [split for split in splits if split == "val" or (test and split.startswith("test"))]
    pairs = [(form, masks) for form in tried for masks in (MASKS if form in FORMS else ["none"])]
    left = {(f, m): [s for s in wanted if (*known, bench.tune.epochs, m, f, s) not in done] for f, m in pairs}
    if not any(left.values()):
        return
    data = load(study, bench.dataset, bench.root)
    start = bench.start(data["train"])
    for (form, masks), of_form in left.items():
        if not of_form:
            continue
        model = bench.trained(form, masks, start, data["train"]).eval()
        for split in of_form:
            scores = judge(model, data[split], explained=split == "val" or study.explains(split))
            key = (*known, bench.tune.epochs, masks, form, split)
            lines.append(dict(zip(KEY, key, strict=True)) | scores)
            print(lines[-1], flush=True)
        pd.DataFrame(lines).to_csv(file, index=False, float_format="%.4f")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
