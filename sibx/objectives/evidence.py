"""What the positions of a layer contribute to the classes."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import require
from sibx._outputs import Output, kind_of
from sibx.attribution.cotangents import differentiate
from sibx.models.layout import to_grid


def contribution(vjp_map: Tensor, activations: Tensor) -> Tensor:
    """Return ``c = sum_k R_k a_k`` (B, 1, h, w): the first-order contribution of every position, signed.

    Args:
        vjp_map: VJP map R, (B, C, h, w).
        activations: activations a of the layer, (B, C, h, w).
    """
    return (vjp_map * activations).sum(1, keepdim=True)


def class_evidence(
    logits: Tensor,
    activations: Tensor,
    image_size: tuple[int, int] | None = None,
    cotangents: int | None = None,
    output: Output = "auto",
    labels: Tensor | None = None,
) -> Tensor:
    """Return the standard deviation over classes of every position's contribution, (B, 1, h, w), at least 0.

    This is ``std_k(sum_c dz_k/da_c a_c)``, the energy of all class VJPs; it needs no label. It is 0 at a position that
    speaks for all classes equally. For a network that ends in global average pooling and one linear layer it is
    ``std_k(w_k . a) / (h w)``; here it is computed for any part of a model behind a layer, by one backward pass through
    that part per cotangent.

    The squares of the contributions of K - 1 orthonormal cotangents v, each of sum 0, add up to K - 1 times the
    variance over classes. Fewer of them, drawn at random once for each K, give an unbiased estimate of the variance.
    A single logit z has two classes, whose logits are -z and z. Each of K independent labels is such a pair, and the
    variance is the mean over labels; that of one label alone is the square of its own contribution, times two.

    Args:
        logits: logits (B, K), computed from the activations.
        activations: activations (B, C, h, w), or tokens (B, N, D), in the graph of the logits.
        image_size: (H, W) of the image, needed to lay out tokens as a grid.
        cotangents: largest number of cotangents, at least 1; None = K - 1 (K for independent labels), which is exact.
        output: what the logits are, see ``sibx.models.Output``.
        labels: one of several independent labels for every row, (B,) int64, whose evidence alone is read; it costs one
            backward pass. None = all classes.

    The result is detached.

    Raises:
        ValueError: an unknown word for ``output``, ``softmax`` of a single logit, or ``labels`` of classes that exclude
            each other, where evidence for one is evidence against the others.
    """
    kind = kind_of(logits, output)
    scores = kind.class_scores(logits)
    require(labels is None or not kind.exclusive, "labels", "be None for classes that exclude each other", labels)
    if labels is not None:
        directions = F.one_hot(labels, scores.shape[1]).unsqueeze(0) * 2**0.5  # (1, B, K): another one for every row
    else:
        directions = _contrasts(scores.shape[1]) if kind.exclusive else _pairs(scores.shape[1])
    features = activations.detach().to(logits.dtype)
    squares = []
    for cotangent in directions[:cotangents].to(logits):
        (gradient,) = differentiate((scores * cotangent).sum(), [activations], retain_graph=True)
        product = gradient * features
        grid = to_grid(product, image_size) if image_size else product
        squares.append(grid.sum(1, keepdim=True).square())
    return torch.stack(squares).mean(0).sqrt()


@cache
def _contrasts(classes: int) -> Tensor:
    """Return K - 1 random orthonormal vectors (K - 1, K), each of sum 0."""
    vectors = torch.randn(classes, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    vectors[:, 0] = 1
    return torch.linalg.qr(vectors).Q[:, 1:].T.contiguous()


@cache
def _pairs(labels: int) -> Tensor:
    """Return K random orthogonal vectors (K, K); the variance of a pair (-c, c) is 2 c^2."""
    vectors = torch.randn(labels, labels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(vectors).Q.T.contiguous() * 2**0.5
