"""What makes self-supervised S-IB work? One factor at a time, over seeds, on three designs, on validation images.

Every arm fine-tunes the same cross-entropy checkpoint of a seed equally long; it differs from ``base`` in one thing.
``base``: the checkpoint's own class evidence at the last feature map, its top 20 %, frozen and detached, S-IB term and
background swap. An arm called ``...-shuffled`` gives every image the mask of another one in its batch and is the
control of the arm of that name: only what is gained against it comes from where the masks are.

Images to judge by are the validation split's, their backgrounds independent of the class (decorrelated) or never the
class's own (adversarial); test images are not touched. What is read off here decides ``SIBConfig.recommended``;
``benchmarks/studies/*.yaml`` then read the test images once.

Criterion for a factor, fixed before the runs: over seeds, paired, Student's 95 % interval of the difference to ``base``
(or to the arm's own control) without 0, in decorrelated accuracy and in foreground focus (mean of six methods). Added
after the runs: the worst group's accuracy is printed beside; it is that of the worst dozen images, and noisy.

    python benchmarks/experiments/factors.py --out results/factors
    python benchmarks/experiments/factors.py --network thin_convnext --arms '["ce", "base", "base-shuffled"]'

Every finished cell is a file and not repeated; several processes may share the work (``--seeds 0,2,4``).
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from arms import ARMS, Arm
from jsonargparse import auto_cli
from networks import NETWORKS, Family
from torch import Tensor, nn

from sibx import SIBLoss, evaluate, evaluate_reliance, fine_tune
from sibx.datasets import InMemoryDataset, SyntheticDataset, collate, spread
from sibx.evaluation import mean_over_seeds, worst_group
from sibx.objectives import LossTerms, evidence_masks, self_masks
from sibx.report import to_markdown
from sibx.studies import RECIPES

DESIGNS = ("centered", "faint", "ramp")
METHODS = ("sib", "vjp", "saliency", "input_x_gradient", "gradcam", "layercam")
START, TRAIN, JUDGED, EXPLAINED = 4000, 2000, 800, 48  # images: of the checkpoint, of the arms, judged, explained
AGREEMENT = 0.8  # of background and class, in training
RECIPE = RECIPES["from-scratch"]
AVERAGING = 0.99  # of the teacher, per step: about half a fine-tuning


def main(
    seeds: list[int] = [0, 1, 2, 3, 4],  # noqa: B006 (read only)
    designs: list[str] = list(DESIGNS),  # noqa: B006
    arms: list[str] = list(ARMS),  # noqa: B006
    network: str = "tiny_cnn",
    threads: int = 1,
    out: Path = Path("results/factors"),
) -> None:
    """Run the cells that are not there yet and print all that are.

    Args:
        seeds: of data, weights and order.
        designs: keys of the synthetic data set's designs.
        arms: keys of ARMS.
        network: key of NETWORKS; another one than TinyCNN makes a table of its own, ``<design> <network>``.
        threads: of torch.
        out: folder for the cells.
    """
    torch.set_num_threads(threads)
    for seed in seeds:
        for design in designs:
            table = design if network == "tiny_cnn" else f"{design} {network}"
            run_seed(design, seed, arms, NETWORKS[network], out / table / f"seed-{seed}")
    load_cells(out).to_csv(out / "cells.csv", index=False, float_format="%.4f")
    print(report(load_cells(out)))


def run_seed(design: str, seed: int, arms: Sequence[str], network: Family, folder: Path) -> None:
    """Run the missing arms of one seed and design."""
    missing = [name for name in arms if not (folder / f"{name}.json").is_file()]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "start": _load("train", START, design, seed),
        "train": _load("train", TRAIN, design, seed),  # the first of them
        "ID": _load("val", JUDGED, design, seed),
        "decorrelated": _load("val", JUDGED, design, seed, rho=1 / 8),
        "adversarial": _load("val", JUDGED, design, seed, rho=0.0),
    }
    torch.manual_seed(seed)
    start = network.build(len(data["train"].classes))
    if (folder / "start.pt").is_file():
        start.load_state_dict(torch.load(folder / "start.pt", weights_only=True))
    else:
        start = fine_tune(start, data["start"], config=replace(RECIPE.start, seed=seed), progress=False).model
        _save(start, folder / "start.pt")
    for name in missing:
        arm = ARMS[name].at(network.layers)
        masks = frozen_masks(arm, start, data["train"], folder)
        model = learn(start, data["train"], arm, masks, seed)
        _save(model, folder / f"{name}.pt")
        line = judge(model, data) | {"mask precision": _precision(masks, data["train"])}
        draft = folder / f"{name}.tmp"
        draft.write_text(json.dumps(line), encoding="utf-8")
        draft.replace(folder / f"{name}.json")
        print(design, seed, name, {k: round(v, 3) for k, v in line.items()}, flush=True)


def _load(split: str, size: int, design: str, seed: int, rho: float = AGREEMENT) -> InMemoryDataset:
    return InMemoryDataset.load(SyntheticDataset(split, 64, size=size, design=design, seed=seed, rho=rho))


def frozen_masks(arm: Arm, start: nn.Module, train: InMemoryDataset, folder: Path) -> Tensor | None:
    """The masks (N, 1, H, W) that do not change while the arm learns; None where they do."""
    if arm.loss is None or arm.masks in ("online", "teacher", "inside the loss"):
        return None
    if arm.masks == "truth":
        return collate(train.samples).masks
    teacher = copy.deepcopy(start)
    if arm.masks == "second round":
        teacher.load_state_dict(torch.load(folder / "base.pt", weights_only=True))
    return self_masks(teacher.eval(), train, config=arm.reading, progress=False)


def _precision(masks: Tensor | None, train: InMemoryDataset) -> float:
    """Share of the masks' pixels that lie on objects."""
    truth = collate(train.samples).masks
    return float("nan") if masks is None else float((masks & truth).sum() / masks.sum())


def learn(start: nn.Module, train: InMemoryDataset, arm: Arm, masks: Tensor | None, seed: int) -> nn.Module:
    """Fine-tune a copy of ``start``, with masks from wherever the arm has them."""
    moving = arm.masks in ("online", "teacher")
    config = replace(RECIPE.tune, objective=MasksNow(arm, start) if moving else arm.loss, seed=seed)
    data = train if masks is None else train.with_masks(masks)
    return fine_tune(start, data, config=config, progress=False).model


class MasksNow:
    """The loss of an arm, with the masks that the network makes at every step, or its moving average, the teacher."""

    def __init__(self, arm: Arm, start: nn.Module):
        assert arm.loss is not None
        self.loss, self.reading = SIBLoss(arm.loss), arm.reading
        self.teacher = copy.deepcopy(start).eval() if arm.masks == "teacher" else None

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, _: Tensor | None) -> LossTerms:
        """Return the terms of a batch; the teacher has followed all steps taken before."""
        if self.teacher is not None:
            _follow(self.teacher, model)
        masks = evidence_masks(model if self.teacher is None else self.teacher, images, self.reading)
        terms: LossTerms = self.loss(model, images, labels, masks)
        return terms


@torch.no_grad()
def _follow(teacher: nn.Module, model: nn.Module) -> None:
    for ours, theirs in zip(teacher.state_dict().values(), model.state_dict().values(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, 1 - AVERAGING)


def judge(model: nn.Module, data: dict[str, InMemoryDataset]) -> dict[str, float]:
    """Accuracies, and foreground focus of every method on decorrelated images."""
    splits = ("ID", "decorrelated", "adversarial")
    classified = {split: evaluate_reliance(model, data[split], backgrounds=(), progress=False) for split in splits}
    line = {split: float(results.accuracy()["mean"].item()) for split, results in classified.items()}
    line["worst group"] = float(worst_group(classified["decorrelated"].hits())["mean"].item())
    explained = InMemoryDataset.load(data["decorrelated"], spread(JUDGED, EXPLAINED))
    results = evaluate(model, explained, methods=METHODS, metrics=("foreground_focus",), progress=False)
    focus = results.rows.groupby("method", sort=False, observed=True)["value"].mean()
    return line | {"focus": float(focus.mean())} | {f"focus {k}": float(v) for k, v in focus.items()}


def _save(model: nn.Module, path: Path) -> None:
    """Write the weights; the file appears complete or not at all."""
    torch.save(model.state_dict(), path.with_suffix(".draft"))
    path.with_suffix(".draft").replace(path)


def load_cells(out: Path) -> pd.DataFrame:
    """All finished cells: design, seed, arm and the numbers of ``judge``."""
    files = sorted(out.glob("*/seed-*/*.json"))
    cells = [json.loads(f.read_text(encoding="utf-8")) for f in files]
    keys = [{"design": f.parts[-3], "seed": int(f.parent.name[5:]), "arm": f.stem} for f in files]
    return pd.DataFrame([key | cell for key, cell in zip(keys, cells, strict=True)])


def report(cells: pd.DataFrame) -> str:
    """Markdown: per design, levels of every arm and its paired differences to ce, base and its own control."""
    chunks = []
    for design, table in cells.groupby("design", observed=True):
        known = [a for a in ARMS if a in set(table["arm"])]
        lines = pd.DataFrame({name: _line(table, name) for name in known}).T
        chunks += [f"\n### {design}\n", to_markdown(lines, "arm")]
    return "\n".join(chunks).strip()


def _line(table: pd.DataFrame, arm: str) -> dict[str, str]:
    rows = table[table["arm"] == arm]
    precision = rows["mask precision"].mean()
    line = {
        "seeds": str(len(rows)),
        **{k: f"{rows[k].mean():.3f}" for k in ("ID", "decorrelated", "worst group", "focus")},
    }
    line["mask precision"] = "" if np.isnan(precision) else f"{precision:.2f}"
    for other, reference in (("ce", "ce"), ("base", "base"), ("control", f"{arm}-shuffled")):
        for column in ("decorrelated", "worst group", "focus"):
            line[f"{column} - {other}"] = _difference(table, arm, reference, column)
    return line


def _difference(table: pd.DataFrame, arm: str, reference: str, column: str) -> str:
    wide = table.pivot(index="seed", columns="arm", values=column)
    if arm == reference or not {arm, reference} <= set(wide.columns):
        return ""
    found = mean_over_seeds((wide[arm] - wide[reference]).to_numpy())
    return f"{found:+.3f}{' *' if found.excludes_zero else ''}"


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
