"""Deep feature reweighting, to compare with: the last layer fitted anew, on validation data with balanced groups.

Source: Kirichenko, Izmailov and Wilson, Last Layer Re-Training is Sufficient for Robustness to Spurious Correlations,
ICLR 2023, arXiv 2204.02937 (their DFR on validation data). As there, features are standardized, an L1-regularized
logistic regression is fitted to random subsets with as many images of every group, its strength C is the one with the
best worst group on half of the data, and the coefficients of several subsets are averaged. Departures: softmax over all
classes instead of two, by ``sibx.train.logistic``; the bias is not penalized; features are standardized by the
validation data instead of the training data; the halves are drawn within every group, so that none misses a group.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sibx._checks import check_integer, require
from sibx._precise import precise
from sibx.datasets.base import MaskedDataset
from sibx.datasets.batches import load_batches
from sibx.models.heads import head_module
from sibx.models.layers import eval_mode
from sibx.train.labels import groups_of, labels_of
from sibx.train.logistic import Line, l1_logistic

BATCH_SIZE = 64  # images per pass when features are read


@dataclass(frozen=True, slots=True)
class RefitHead:
    """Fits the last linear layer of a trained model anew.

    Attributes:
        strengths: values of C to choose from: the penalty is ``sum |W| / (C n)`` beside the mean cross-entropy of n
            images.
        draws: number of balanced subsets whose coefficients are averaged, at least 1.
        seed: seed of the random halves and subsets.

    Raises:
        ValueError: no strength, one that is not positive, or no draw.
    """

    strengths: tuple[float, ...] = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
    draws: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        positive = len(self.strengths) > 0 and min(self.strengths) > 0
        require(positive, "strengths", "hold at least one number, all positive", self.strengths)
        check_integer("draws", self.draws, 1)

    def __call__(self, model: nn.Module, data: MaskedDataset) -> nn.Module:
        """Return a copy of the model with another last layer.

        Args:
            model: the trained model, with a linear layer at its end.
            data: images with groups that the model was not trained on; at least two of every group.

        Raises:
            ValueError: a model whose head is not one linear layer on features (B, D), or data that lacks groups, two
                images of a group, or a class.
        """
        refitted = copy.deepcopy(model)
        head = head_module(refitted, data[0].image.unsqueeze(0).to(next(refitted.parameters()).device))
        groups, labels = groups_of(data, "val_data"), labels_of(data)
        fewest = int(groups.bincount()[groups.unique()].min())
        require(fewest > 1, "val_data", "hold at least two images of every group that it has", fewest)
        known = sorted(set(labels.tolist())) == list(range(head.out_features))
        rule = f"hold an image of each of the model's {head.out_features} classes"
        require(known, "val_data", rule, sorted(set(labels.tolist())))
        line = self.fit(read_features(refitted, head, data), labels, groups, head.out_features)
        with torch.no_grad():
            head.weight.copy_(line.weight)
            if head.bias is None:
                head.bias = nn.Parameter(line.bias.to(head.weight))
            head.bias.copy_(line.bias)
        return refitted

    def fit(self, features: Tensor, labels: Tensor, groups: Tensor, classes: int) -> Line:
        """Return the averaged classifier of features as they are.

        Args:
            features: features (N, D).
            labels: class indices (N,).
            groups: group indices (N,), at least two images of every group.
            classes: number of classes K.
        """
        mean, deviation = features.mean(0), features.std(0, correction=0)
        deviation = torch.where(deviation > 0, deviation, 1)  # a constant feature stays 0
        scaled = (features - mean) / deviation
        generator = torch.Generator().manual_seed(self.seed)
        strength = self._choose(scaled, labels, groups, classes, generator)
        subsets = (_balanced(groups, generator) for _ in range(self.draws))
        lines = [_fit_on(rows, scaled, labels, classes, strength) for rows in subsets]
        weight = torch.stack([line.weight for line in lines]).mean(0) / deviation
        return Line(weight, torch.stack([line.bias for line in lines]).mean(0) - weight @ mean)

    def _choose(
        self, features: Tensor, labels: Tensor, groups: Tensor, classes: int, generator: torch.Generator
    ) -> float:
        """Return the C with the best worst group on half of the images, of equal ones the first."""
        fitted = torch.zeros(len(groups), dtype=torch.bool)
        for rows in _members(groups):
            fitted[rows[torch.randperm(len(rows), generator=generator)[: len(rows) // 2]]] = True
        (half,) = fitted.nonzero(as_tuple=True)
        rows = half[_balanced(groups[half], generator)]
        worst = []
        for strength in self.strengths:
            line = _fit_on(rows, features, labels, classes, strength)
            right = (features @ line.weight.T + line.bias).argmax(1) == labels
            worst.append(min(float(precise(right[held & ~fitted]).mean()) for held in _marks(groups)))
        return self.strengths[worst.index(max(worst))]


def read_features(model: nn.Module, head: nn.Module, data: MaskedDataset) -> Tensor:
    """Return what a model's head gets of every image, (N, D) float64, on the CPU.

    Raises:
        ValueError: the head gets something else than one row per image.
    """
    found: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].detach().cpu().double()))
    device = next(model.parameters()).device
    try:
        with eval_mode(model), torch.inference_mode():
            for batch in load_batches(data, BATCH_SIZE):
                model(batch.images.to(device))
    finally:
        handle.remove()
    rows = all(part.ndim == 2 for part in found) and sum(map(len, found)) == len(data)
    require(rows, "model", "give its last linear layer features (B, D)", [tuple(part.shape) for part in found[:1]])
    return torch.cat(found)


def _marks(groups: Tensor) -> Iterator[Tensor]:
    yield from (groups == group for group in groups.unique())


def _members(groups: Tensor) -> list[Tensor]:
    return [mark.nonzero()[:, 0] for mark in _marks(groups)]


def _balanced(groups: Tensor, generator: torch.Generator) -> Tensor:
    """Return the indices of a random subset with as many images of every group: as many as the smallest has."""
    members = _members(groups)
    count = min(map(len, members))
    return torch.cat([rows[torch.randperm(len(rows), generator=generator)[:count]] for rows in members])


def _fit_on(rows: Tensor, features: Tensor, labels: Tensor, classes: int, strength: float) -> Line:
    return l1_logistic(features[rows], labels[rows], classes, 1 / (strength * len(rows)))
