"""How few corrected pictures matter? S-IB with object masks on a share of the training images only.

Of the training images (in a random order, so that a larger share holds all of a smaller one) 0, 5, 10, 25, 50 or 100 %
have the object's mask, as if somebody had drawn it. The rest either has no mask, and takes part in the cross-entropy
alone, or the starting network's own. The control gives every mask to another image of its kind: drawn masks move among
the images that have one, own masks among theirs, so that as many images take part. No mask at all is cross-entropy.
All trainings of a seed start from one network and are equally long.

    python benchmarks/experiments/few_masks.py benchmarks/studies/baselines_embedded.yaml --out results/few-masks
    python benchmarks/experiments/few_masks.py benchmarks/studies/pets_few_masks.yaml --root DATA --weights FILE

Every finished training is a line of ``few_masks.csv`` and not repeated; ``few_masks_shown.py`` makes the table and the
figure of it. Test images are judged, once: nothing is chosen here.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from baseline_settings import checkpoint
from jsonargparse import auto_cli
from shares import judge, load
from torch import Tensor

from sibx import fine_tune
from sibx.datasets import MaskedDataset, collate
from sibx.objectives import Given, Share, SIBConfig, self_masks
from sibx.studies import Study

SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
# Rest and masks of a training, and the share of images with a drawn mask; all of a share before the next one.
FORMS = [
    (share, rest, masks)
    for share in SHARES
    for rest in ("none", "own")
    for masks in ("true", "shuffled")
    if not (share == 0 and rest == "none" and masks == "shuffled")  # cross-entropy has no masks to shuffle
    and not (share == 1 and rest == "own")  # there is no rest
]
PULL = 0.4  # of all terms, as a share of the cross-entropy's: that of SIBConfig.recommended()
KEY = ["dataset", "seed", "drawn", "rest", "masks"]


def main(
    study: Path,
    root: str = "",
    weights: str | None = None,
    seeds: list[int] = [0, 1, 2],  # noqa: B006 (read only)
    out: Path = Path("results/few-masks"),
) -> None:
    """Do the trainings that are not in the CSV yet.

    Args:
        study: a study's file: its data sets, its model, its recipe and its checkpoint are used.
        root: folder of the data sets.
        weights: what the model starts with; default what the study's file says.
        seeds: of weights, order, and of which images have a mask.
        out: folder for ``few_masks.csv`` and the starting networks.
    """
    torch.set_num_threads(1)
    settings: dict[str, Any] = yaml.safe_load(study.read_text(encoding="utf-8"))
    planned = Study(**settings | ({"weights": weights} if weights else {}))
    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for dataset in planned.datasets:
            run_set(planned, dataset, root, seed, out)


def run_set(study: Study, dataset: str, root: str, seed: int, out: Path) -> None:
    """Do one set's trainings of one seed."""
    file, (model,) = out / "few_masks.csv", study.models
    lines: list[dict[Any, Any]] = pd.read_csv(file).to_dict("records") if file.is_file() else []
    done = {tuple(line[name] for name in KEY) for line in lines}
    left = [(s, rest, masks) for s, rest, masks in FORMS if (dataset, seed, s, rest, masks) not in done]
    if not left:
        return
    splits = load(study, dataset, root)
    recipe, train = study.recipe_for(model), splits.pop("train")
    start = checkpoint(study, train, seed, out / f"{dataset}-seed-{seed}.pt").eval()
    base = replace(SIBConfig.recommended("self", recipe.layers or "auto"), balance=Share(PULL))
    own = self_masks(start, train, config=base, progress=False)
    for share, rest, masks in left:
        has = drawn(len(train), share, seed)
        given = masks_of(train, own if rest == "own" else torch.zeros_like(own), has, shuffled=masks == "shuffled")
        objective = replace(base, masks=Given()) if given.any() else None
        torch.manual_seed(seed)
        config = replace(recipe.tune, objective=objective, seed=seed)
        result = fine_tune(start, train.with_masks(given), config=config, progress=False)
        for split in (s for s in splits if s != "val"):
            scores = judge(result.model.eval(), splits[split], explained=study.explains(split))
            line = {"dataset": dataset, "seed": seed, "drawn": share, "rest": rest, "masks": masks, "split": split}
            lines.append(line | scores | {"images": int(has.sum()), "seconds": result.seconds})
            print(lines[-1], flush=True)
        pd.DataFrame(lines).to_csv(file, index=False, float_format="%.4f")


def drawn(count: int, share: float, seed: int) -> Tensor:
    """Say of every image (N,) whether it has a drawn mask; at least one has, unless the share is 0."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    has = torch.zeros(count, dtype=torch.bool)
    has[order[: max(1, round(share * count)) if share else 0]] = True
    return has


def masks_of(train: MaskedDataset, rest: Tensor, has: Tensor, *, shuffled: bool) -> Tensor:
    """Return the masks (N, 1, H, W): the objects' where ``has`` says so, and elsewhere those of ``rest``."""
    masks = rest.clone()
    masks[has] = collate([train[i] for i in has.nonzero().flatten().tolist()]).masks if has.any() else masks[has]
    if shuffled:
        for kind in (has, ~has):  # every image gets the mask of the one before it of its kind
            masks[kind] = masks[kind].roll(1, 0)
    return masks


if __name__ == "__main__":
    auto_cli(main)
