"""Group DRO, to compare with: the loss of the worst group, for data that says which group an image belongs to.

Source: Sagawa, Koh, Hashimoto and Liang, Distributionally Robust Neural Networks for Group Shifts, ICLR 2020, arXiv
1911.08731, algorithm 1, with its generalization adjustment. Of a batch the algorithm sees several groups at once: each
group moves by its own mean loss, and a group without an image in the batch does not move. ``fine_tune`` draws every
group equally often, as the paper does; the paper's strong weight decay is a setting of the training.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sibx._checks import check_images, check_logits, check_range, check_same_batch, require
from sibx._for_notebooks import html_of_terms
from sibx._outputs import Criterion, Output, check_output, check_truth, usual_criterion
from sibx.models.failures import say_why
from sibx.objectives.precision import full_precision
from sibx.runs.ranks import gather_rows


@dataclass(frozen=True, slots=True)
class GroupDROConfig:
    """How fast the weights of groups move, and how much more is asked of small groups.

    Attributes:
        step_size: step size eta of the weights, at least 0; 0 leaves all groups with one weight.
        adjustment: C, at least 0, of ``C / sqrt(n_g)``, which is added to the loss of a group of n_g images where its
            weight moves.

    Raises:
        ValueError: a field outside its range.

    Example:
        >>> GroupDROConfig(adjustment=1.0).step_size
        0.01
    """

    step_size: float = 0.01
    adjustment: float = 0.0

    def __post_init__(self) -> None:
        check_range("step_size", self.step_size, 0)
        check_range("adjustment", self.adjustment, 0)


class GroupDROTerms(NamedTuple):
    """The loss and what it is made of.

    Attributes:
        total: the scalar to minimize.
        cross_entropy: mean cross-entropy of the batch, or what took its place, detached.
        largest_weight: weight of the group that counts most, detached.
        logits: logits (B, K), detached.
    """

    total: Tensor
    cross_entropy: Tensor
    largest_weight: Tensor
    logits: Tensor

    def _repr_html_(self) -> str:
        """Return a table of the terms, which notebooks show."""
        return html_of_terms(self._asdict())


class GroupDROLoss(nn.Module):
    """``sum_g q_g L_g``, L_g the mean cross-entropy of group g, after ``q_g <- q_g exp(eta (L_g + C / sqrt(n_g)))``.

    The weights q start equal, sum to 1, move at every call in train mode (with every micro-batch), and are part of the
    state. Under DistributedDataParallel all processes have the weights and the gradient of the global batch.

    Args:
        config: settings of the loss.
        counts: number of training images n_g of every group, (G,) integers; a group without an image has no weight.
        output: what the logits are: ``softmax``, ``sigmoid`` or ``raw``; ``auto`` = ``sigmoid`` for a single logit,
            else ``softmax``.
        criterion: function ``(logits, labels) -> scalar`` that takes the place of the mean cross-entropy, of every
            group by itself; None = the cross-entropy, or for ``sigmoid`` the binary one.

    Raises:
        ValueError: counts that are not (G,) integers, no image at all, an unknown output, or ``raw`` without a
            criterion.

    Example:
        >>> loss = GroupDROLoss(GroupDROConfig(step_size=1.0), torch.tensor([90, 10]))
        >>> model, images = torch.nn.Flatten(), torch.tensor([3.0, 0.0, 3.0, 0.0]).view(2, 2, 1, 1)
        >>> loss(model, images, labels=torch.tensor([0, 1]), groups=torch.tensor([0, 1])).largest_weight
        tensor(0.9526)
    """

    weights: Tensor
    counts: Tensor
    margins: Tensor

    def __init__(
        self,
        config: GroupDROConfig,
        counts: Tensor,
        *,
        output: Output = "auto",
        criterion: Criterion | None = None,
    ):
        super().__init__()
        check_output(output)
        good = counts.ndim == 1 and not counts.is_floating_point() and bool((counts > 0).any())
        require(good, "counts", "be an integer tensor of shape (G,), the number of images of every group", counts)
        self.config, self.output, self.criterion = config, output, criterion or usual_criterion(output)
        there = (counts > 0).float()
        self.register_buffer("weights", there / there.sum())
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("margins", config.adjustment / counts.clamp(min=1).sqrt(), persistent=False)

    def forward(self, model: nn.Module, images: Tensor, labels: Tensor, groups: Tensor) -> GroupDROTerms:
        """Compute the loss of one batch, and move the weights.

        Args:
            model: the model, images -> logits (B, K).
            images: images (B, C, H, W), floating point.
            labels: class indices (B,), 0 and 1 for a single logit; or for several labels (B, K) in {0, 1, NaN}.
            groups: group indices (B,), of groups that ``counts`` has images of.

        Raises:
            ValueError: a wrong shape or dtype, labels outside the model's classes, groups outside those of ``counts``,
                or a model whose output is not (B, K).
        """
        check_images(images)
        require(len(images) > 0, "images", "have at least 1 row", images)
        check_same_batch(images, labels=labels, groups=groups)
        self._check_groups(groups)
        with say_why(model, images):
            logits = model(images)
        check_logits(logits, len(images))
        check_truth(labels, logits, self.output)
        everyone, truth, groups = (gather_rows(t) for t in (full_precision(logits), labels, groups))
        seen = groups.unique()
        losses = torch.stack([self.criterion(everyone[groups == g], truth[groups == g]) for g in seen.tolist()])
        if self.training and torch.is_grad_enabled():
            self._move(losses.detach(), seen)
        total = (self.weights[seen] * losses).sum()  # indexing copies: weights may move before the backward pass
        mean = self.criterion(everyone.detach(), truth)
        return GroupDROTerms(total, mean, self.weights.max(), logits.detach())

    def _move(self, losses: Tensor, seen: Tensor) -> None:
        gains = self.config.step_size * (losses + self.margins[seen])
        # The formula, without overflow.
        self.weights.copy_(self.weights.log().index_add(0, seen, gains.to(self.weights.dtype)).softmax(0))

    def _check_groups(self, groups: Tensor) -> None:
        low, high = torch.stack(groups.aminmax()).tolist()
        known = low >= 0 and high < len(self.counts) and bool((self.counts[groups] > 0).all())
        rule = f"be groups in 0..{len(self.counts) - 1} that `counts` has images of"
        require(known, "groups", rule, groups.unique().tolist())
