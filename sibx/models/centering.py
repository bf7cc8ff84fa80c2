"""Scores without what all classes share."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sibx._checks import check_logits, require
from sibx.models.differentiable import uncompiled
from sibx.models.finding import image_for
from sibx.models.heads import head_module
from sibx.models.layers import eval_mode
from sibx.models.scored import unwrap

TOLERANCE = 1e-3  # of the largest score, and at least some roundings of it
RULE = "have the outputs of its last linear layer as its scores"


def center_head(model: nn.Module, images: Tensor | None = None) -> nn.Module:
    """Return a copy of a classifier whose scores sum to 0 for every image: ``z_k - mean(z)``.

    The head's weights and biases lose their mean over classes, so that all scores of an image move by one number. The
    probabilities of a softmax, predictions and the cross-entropy stay as they are. What changes are the maps of methods
    that explain the score itself, such as Grad-CAM: what a place gives to all classes alike says nothing of the class,
    but counts in its score. Cross-entropy and the recommended S-IB loss do not see this part either, so that Adam moves
    it freely, until weight decay has taken it out; after fine-tuning it can turn Grad-CAM around
    (docs/experiments/centered.md). ``TrainConfig(center_head=True)`` keeps it out from the first step on. For
    independent labels (sigmoid) the scores mean something by themselves: leave them.

    Args:
        model: the model, images -> scores (B, K), the outputs of one linear layer.
        images: images (B, C, H, W), of which the first is used; None = noise of the model's own size.

    Returns:
        The copy, in the mode of the model, on its device.

    Raises:
        ValueError: no linear layer at the end, a single score, outputs that are not (B, K), or that are not this
            layer's (probabilities, say, or with a factor or a norm per class behind it), or weights that another layer
            reads, too.

    Example:
        >>> model, images = build_model("tiny_cnn", num_classes=5).eval(), torch.rand(2, 3, 32, 32)
        >>> scores = center_head(model)(images)
        >>> torch.allclose(scores.softmax(1), model(images).softmax(1), atol=1e-6)
        True
        >>> bool((scores.sum(1).abs() < 1e-5).all())
        True
    """
    image = image_for(unwrap(model), None) if images is None else images[:1]
    centered = copy.deepcopy(model)
    center(scoring_head(centered, image))
    return centered


def scoring_head(model: nn.Module, image: Tensor) -> nn.Linear:
    """Return the linear layer whose outputs are the scores: what its weights give to all classes, all scores gain.

    Args:
        model: the model, images -> scores (B, K); it runs, and is as before.
        image: an image (1, C, H, W).

    Raises:
        ValueError: there is no such layer, another one reads its weights, too, or a single score.
    """
    head = head_module(model, image)
    own = dict(head.named_parameters())
    require(own.keys() <= {"weight", "bias"}, "model", "have a head of a weight and a bias", sorted(own))
    readers = [name for name, m in model.named_modules() if any(p is head.weight for p in m.parameters(recurse=False))]
    require(len(readers) == 1, "model", "have a head whose weights no other layer reads", readers)
    with torch.no_grad(), eval_mode(model), uncompiled(), _stirred(model, head):
        scores, read = _run(model, image, head)
        check_logits(scores, len(image))
        require(scores.shape[1] > 1, "model", "have scores of several classes", scores.shape)
        require(bool(read), "model", RULE, type(unwrap(model)).__name__)
        features = torch.cat([x.flatten(0, -2) for x in read]).mean(0)  # (D,)
        before, size = [parameter.clone() for parameter in own.values()], 1 + scores.abs().max()
        tiny = torch.finfo(features.dtype).tiny
        try:
            head.weight.add_(size * features / (features.square().sum() + tiny))  # all outputs move by about that
            if head.bias is not None:
                head.bias.add_(size)  # also where all features are 0
            moved = model(image) - scores
        finally:
            for parameter, value in zip(own.values(), before, strict=True):
                parameter.copy_(value)
    share = max(TOLERANCE, 4 * torch.finfo(scores.dtype).eps)
    alike = (moved - moved.mean(1, keepdim=True)).abs().max() <= share * size
    require(bool(alike and moved.abs().max() > share * size), "model", RULE, type(unwrap(model)).__name__)
    return head


@contextmanager
def _stirred(model: nn.Module, head: nn.Linear) -> Iterator[None]:
    """Within the block every vector of a number per class is another one, but for the head's bias.

    A factor per class, or a norm, may stand behind the head and be 1 for every class until it is trained.
    """
    held = [v for v in (*model.parameters(), *model.buffers()) if v.dim() == 1 and len(v) == head.out_features]
    vectors = [v for v in held if v.is_floating_point() and v is not head.bias]
    before = [vector.clone() for vector in vectors]
    try:
        for vector in vectors:
            vector += torch.linspace(0.1, 0.9, len(vector)).to(vector)  # a variance stays above 0
        yield
    finally:
        for vector, value in zip(vectors, before, strict=True):
            vector.copy_(value)


def _run(model: nn.Module, image: Tensor, head: nn.Linear) -> tuple[Tensor, list[Tensor]]:
    """Return the scores of an image, and what the head reads on the way."""
    read: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    try:
        return model(image), read
    finally:
        handle.remove()


@torch.no_grad()
def center(head: nn.Linear) -> None:
    """Take the mean over classes out of a head's weights and biases, in place."""
    for parameter in (head.weight, head.bias):
        if parameter is not None:
            parameter -= parameter.mean(0)
