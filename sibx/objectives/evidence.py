"""What a layer contributes to the classes."""

from functools import cache

import torch
from torch import Tensor

from sibx._checks import require
from sibx.models.layers import to_grid


def contribution(vjp_map: Tensor, activations: Tensor) -> Tensor:
    """Return ``c = sum_k R_k a_k`` (B, 1, h, w): the first-order contribution of every position, signed."""
    return (vjp_map * activations).sum(1, keepdim=True)


def class_evidence(
    logits: Tensor,
    activations: Tensor,
    image_size: tuple[int, int] | None = None,
    cotangents: int | None = None,
) -> Tensor:
    """Return the standard deviation over classes of every position's contribution, (B, 1, h, w), at least 0.

    ``std_k(sum_c dz_k/da_c a_c)``, the energy of all class VJPs; it needs no label. A position that speaks for all
    classes alike has none. For a network that ends in global average pooling and one linear layer this is
    ``std_k(w_k . a) / (h w)``; here it is computed for any tail, by one backward pass through it per cotangent.

    The squares of the contributions of K - 1 orthonormal cotangents v, each of sum 0, add up to K - 1 times the
    variance over classes. Fewer of them, drawn at random once for each K, give an unbiased estimate of the variance.

    Args:
        logits: (B, K), computed from the activations, K at least 2.
        activations: (B, C, h, w), or tokens (B, N, D), in the graph of the logits.
        image_size: (H, W) of the image, which tokens need to be laid out.
        cotangents: how many at most, at least 1; None = K - 1, exact.

    The result is detached.

    Raises:
        ValueError: logits of fewer than two classes.
    """
    require(logits.shape[1] >= 2, "logits", "have at least 2 classes, which the evidence sets apart", logits)
    features = activations.detach().to(logits.dtype)
    squares = []
    for cotangent in _contrasts(logits.shape[1])[:cotangents].to(logits):
        (gradient,) = torch.autograd.grad((logits @ cotangent).sum(), activations, retain_graph=True)
        product = gradient * features
        grid = to_grid(product, image_size) if image_size else product
        squares.append(grid.sum(1, keepdim=True).square())
    return torch.stack(squares).mean(0).sqrt()


@cache
def _contrasts(classes: int) -> Tensor:
    """K - 1 random orthonormal vectors (K - 1, K) of sum 0."""
    vectors = torch.randn(classes, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    vectors[:, 0] = 1
    return torch.linalg.qr(vectors).Q[:, 1:].T.contiguous()
