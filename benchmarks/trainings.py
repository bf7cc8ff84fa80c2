"""What the studies share: recipes, data, the trainings that are compared, and their accuracies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from sibx import SIBConfig, TrainConfig, build_dataset
from sibx.attribution import TopShare
from sibx.datasets import DATASETS, InMemoryDataset, MaskedDataset, spread
from sibx.objectives import Frozen, Given, GuidanceConfig, Online, Shuffled, self_masks
from sibx.train import predict


@dataclass(frozen=True)
class Recipe:
    """How one family of runs trains; the numbers come from validation data.

    Attributes:
        start: cross-entropy training of the starting checkpoint.
        tune: fine-tuning, the same for all trainings but for the objective.
        layers: where S-IB takes its VJPs.
        test_images: images per test split that are explained.
        perturbed_images: how many of those also get deletion and insertion.
    """

    start: TrainConfig
    tune: TrainConfig
    layers: Mapping[str, float] | None = None
    test_images: int = 64
    perturbed_images: int = 24


# With so few steps in an epoch the norms of gradients would take a tenth of the time.
_RENDERED = TrainConfig(batch_norm="train", log_gradient_norms=False)
FROM_SCRATCH = Recipe(
    start=replace(_RENDERED, epochs=12, learning_rate=5e-3),
    tune=replace(_RENDERED, epochs=3, learning_rate=1e-3),
)
_PHOTOS = TrainConfig(
    epochs=5,
    batch_size=16,
    learning_rate=3e-4,
    head_learning_rate=3e-3,
    augmentation="flip_crop",
    batch_norm="eval",
    log_gradient_norms=False,
)
# From ImageNet weights: the starting checkpoint only needs a head that works.
PRE_TRAINED = Recipe(start=replace(_PHOTOS, epochs=2), tune=_PHOTOS, test_images=40, perturbed_images=12)
MIDDLE_LAYERS = {"mobilenet_v2": {"features.13": 5.0, "features.18": 2.0}}  # for photographs, see train_sib.py


# Every gain that is asked for, and over what: cross-entropy, the same masks shuffled, or the plain augmentation.
CLAIMS = (
    ("sib", "ce"),
    ("sib", "sib-given-shuffled"),
    ("sib-background", "ce"),
    ("sib-background", "sib-background-shuffled"),
    ("sib-self", "ce"),
    ("sib-self", "sib-shuffled"),
    ("sib-self-cut", "ce"),
    ("sib-self-cut", "sib-self-cut-shuffled"),
    ("sib-self-background", "ce"),
    ("sib-self-background", "sib-self-background-shuffled"),
    ("energy-cam", "ce"),
    ("background-swap", "ce"),
    ("sib", "background-swap"),
    ("sib-published", "ce"),
    ("sib-online", "ce"),
    ("sib-online", "sib-online-shuffled"),
)


def load_splits(dataset: str, root: str | None, size: int, /, **options: Any) -> dict[str, InMemoryDataset]:
    """Decode every split of a data set once."""
    names = DATASETS[dataset].splits if dataset in DATASETS else ("train", "val", "test")
    built = {split: build_dataset(dataset, root, split, size, **options) for split in names}
    return {
        split: InMemoryDataset.load(data, tqdm(range(len(data)), desc=f"load {split}", leave=False))
        for split, data in built.items()
    }


def subset(data: MaskedDataset, count: int) -> InMemoryDataset:
    """At most so many images, spread over the set."""
    return InMemoryDataset.load(data, spread(len(data), count))


Plan = tuple[InMemoryDataset, SIBConfig | GuidanceConfig | None]  # images with the masks to use, and the objective
Plans = Mapping[str, Callable[[], Plan]]  # made when asked for: masks take time, and not every study has every training
TOP_FIFTH = TopShare(0.2)  # own masks as they were before GrabCut
BASELINES = {
    "energy-cam": GuidanceConfig("energy-cam", weight=1.0),
    "background-swap": GuidanceConfig("background-swap", weight=1.0),
}


def plan_trainings(start: nn.Module, train: InMemoryDataset, recipe: Recipe, seed: int) -> Plans:
    """Return what every training learns from: cross-entropy; S-IB with object masks, S-IB with the checkpoint's own.

    ``sib-background`` is the background term alone, with object masks: no foreground term, no swap.
    ``sib-self`` has the top 20 % of the last layer's evidence, ``sib-self-cut`` that of the first, cut along edges (as
    ``recommended("self")`` does); ``sib-self-background`` learns from these as ``sib-background`` does.
    All masks come shuffled over images as well, as the control of that training.
    Beside them: the published objective, and what a user would try first (BASELINES; weight 1, not tuned).
    """
    given = SIBConfig.recommended("given", layers=recipe.layers or "auto")
    background = replace(given, foreground=None, swap=0.0)
    cut = SIBConfig.recommended("self", layers=recipe.layers or "auto")
    own = replace(cut, masks=Frozen(TOP_FIFTH))
    order = shuffled_order(train.labels, seed)

    @cache
    def read(reading: Literal["own", "cut"]) -> torch.Tensor:
        return self_masks(start, train, config={"own": own, "cut": cut}[reading])

    def learn(objective: SIBConfig, masks: Callable[[], torch.Tensor], shuffled: bool = False) -> Callable[[], Plan]:
        # the self masks are at hand; do not compute them again
        objective = replace(objective, masks=Given())
        return lambda: (train.with_masks(masks()[order] if shuffled else masks()), objective)

    given_masks, own_masks, cut_masks = partial(masks_of, train), partial(read, "own"), partial(read, "cut")
    return {
        "ce": lambda: (train, None),
        "sib": lambda: (train, given),
        "sib-given-shuffled": learn(given, given_masks, shuffled=True),
        "sib-background": lambda: (train, background),
        "sib-background-shuffled": learn(background, given_masks, shuffled=True),
        "sib-self": learn(own, own_masks),
        "sib-shuffled": learn(own, own_masks, shuffled=True),
        "sib-self-cut": learn(own, cut_masks),
        "sib-self-cut-shuffled": learn(own, cut_masks, shuffled=True),
        "sib-self-background": learn(background, cut_masks),
        "sib-self-background-shuffled": learn(background, cut_masks, shuffled=True),
        "sib-published": lambda: (train, SIBConfig.published()),
        "energy-cam": lambda: (train, BASELINES["energy-cam"]),
        "background-swap": lambda: (train, BASELINES["background-swap"]),
    }


def plan_from_scratch(train: InMemoryDataset, seed: int) -> Plans:
    """Return what trainings without a checkpoint learn from: as the paper trains, and as we recommend.

    Self masks are those of the network as it learns (``sib-online``), since there is none to begin with.
    """
    given, published = SIBConfig.recommended("given"), SIBConfig.published()
    made_online = Online(TOP_FIFTH, "class-evidence", detach=True)
    online = replace(SIBConfig.recommended("self"), masks=made_online, swap=0.0)
    return {
        "ce": lambda: (train, None),
        "sib-published": lambda: (train, published),
        "sib": lambda: (train, given),
        "sib-given-shuffled": lambda: (train.with_masks(masks_of(train)[shuffled_order(train.labels, seed)]), given),
        "sib-online": lambda: (train, online),
        "sib-online-shuffled": lambda: (
            train,
            replace(online, masks=Shuffled(made_online)),
        ),
    }


def masks_of(data: InMemoryDataset) -> torch.Tensor:
    """All masks, (N, 1, H, W) bool, without a second copy of the images."""
    return torch.stack([sample.mask for sample in data.samples])


def precision(masked: InMemoryDataset, truth: InMemoryDataset) -> float:
    """Share of the masks' pixels that lie on objects."""
    masks, objects = masks_of(masked), masks_of(truth)
    return float((masks & objects).sum() / masks.sum())


def shuffled_order(labels: torch.Tensor, seed: int) -> torch.Tensor:
    """A permutation that gives every image the mask of another one, of another class wherever classes are balanced.

    Images are put in random order within their class and the masks move on by half of the data set.
    """
    noise = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed))
    order = (labels.double() + noise).argsort()
    permutation = torch.empty_like(order)
    permutation[order] = order.roll(len(order) // 2)
    return permutation


def hits_of(network: nn.Module, data: InMemoryDataset) -> np.ndarray:
    """1 for every image that is classified rightly, else 0, (N,)."""
    predicted, labels = predict(network, data)
    return (predicted == labels).double().numpy()


def worst_group(hits: np.ndarray, data: InMemoryDataset) -> np.ndarray:
    """The hits of the group (class and background) with the lowest accuracy."""
    groups = np.array([sample.group for sample in data.samples])
    worst = pd.Series(hits).groupby(groups).mean().idxmin()
    return hits[groups == worst]
