"""What the S-IB loss is made of, before anything is weighted."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sibx.models._receptive_field import ReceptiveField
from sibx.models.layers import record, to_grid
from sibx.objectives.alignment import pool
from sibx.runs.ranks import gather_rows, previous_rows

EPSILON = 1e-12  # keeps a fraction finite where R is exactly zero; such an image then contributes zero


class LossTerms(NamedTuple):
    """The loss and what it is made of; terms are unweighted sums over layers (times the layer's own weight).

    Scalars are of the global batch; logits, mask and map are of this rank's images.

    Attributes:
        total: the scalar to minimize.
        cross_entropy: of the clean images.
        foreground: HSIC or CKA of R M and x M; larger is better.
        background: variance or fraction of R outside M; smaller is better.
        background_swap: cross-entropy with swapped backgrounds, 0 when switched off.
        logits: (B, K), detached.
        soft_mask: M at the last layer named, (B, 1, h, w), detached.
        vjp: R at the last layer named, (B, C, h, w), detached.
        saturated: number of images whose R is exactly zero at the last layer named: the cotangent has vanished there
            (v = p of a saturated softmax), and a small background says nothing.
        positive_share: ``sum(c+) / sum(|c|)`` of the contributions at the last feature layer named, in [0, 1]; NaN
            when only ``"input"`` is named or all c are zero. Below 1/2 the class is argued for by what is absent: a
            shift-sensitive cotangent (``logit``) lowers ``sum(|c|)`` by turning signs around.
    """

    total: Tensor
    cross_entropy: Tensor
    foreground: Tensor
    background: Tensor
    background_swap: Tensor
    logits: Tensor
    soft_mask: Tensor
    vjp: Tensor
    saturated: Tensor
    positive_share: Tensor


class Point(NamedTuple):
    """Where a VJP is taken: the image or a layer's output, in the graph, with its weight and where its units look."""

    tensor: Tensor
    weight: float
    field: ReceptiveField | None


class LayerTerms(NamedTuple):
    """The S-IB terms of one layer, and the layer's weight."""

    weight: float
    foreground: Tensor
    background: Tensor


class Parts(NamedTuple):
    """What one pass of the model gives, in the graph; fields as in LossTerms.

    Attributes:
        layers: name -> terms; none when too few images have an object.
        background_swap: None when switched off, or when no image has an object.
    """

    cross_entropy: Tensor
    layers: dict[str, LayerTerms]
    background_swap: Tensor | None
    logits: Tensor
    soft_mask: Tensor
    vjp: Tensor
    positive_share: Tensor


def full_precision(tensor: Tensor) -> Tensor:
    """Return a half-precision tensor in float32, any other as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def no_autocast(like: Tensor) -> torch.autocast:
    """Within the block nothing is cast down, on the device of a tensor."""
    return torch.autocast(like.device.type, enabled=False)


class Batch(NamedTuple):
    """Images (B, C, H, W), labels (B,) and, where there are any, masks (B, 1, H, W) bool."""

    images: Tensor
    labels: Tensor
    masks: Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.images.shape[2], self.images.shape[3]

    def recordable(self) -> "Batch":
        """Return the batch with copies of tensors made in inference mode, which autograd does not accept."""
        images, labels = (t.clone() if t.is_inference() else t for t in (self.images, self.labels))
        masks = self.masks.clone() if self.masks is not None and self.masks.is_inference() else self.masks
        return Batch(images, labels, masks)


@contextmanager
def gradients_on() -> Iterator[None]:
    """Within the block gradients are recorded, whatever mode the caller is in: R itself is one."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def background_of_images(kind: str, vjp_map: Tensor, strength: Tensor, mask: Tensor) -> Tensor:
    """Return the background term of every image, (B,).

    ``variance``: of R (1 - M) over channels and positions; ``fraction``: ``sum(s (1 - M)) / sum(s)``, in [0, 1].

    Args:
        kind: ``variance`` or ``fraction``.
        vjp_map: R, (B, C, h, w).
        strength: s, at least 0, (B, C or 1, h, w).
        mask: M, (B, 1, h, w).
    """
    if kind == "variance":
        return (vjp_map * (1 - mask)).flatten(1).var(1)
    outside, everywhere = (s.flatten(1).sum(1) for s in (strength * (1 - mask), strength))
    return outside / everywhere.clamp(min=EPSILON)


def share_of_positive(contributions: Tensor) -> Tensor:
    """Return the share of the summed strength (B, 1, h, w) of the global batch that is positive."""
    sums = torch.stack([contributions.clamp(min=0).flatten(1).sum(1), contributions.abs().flatten(1).sum(1)], 1)
    positive, everything = gather_rows(sums).sum(0)
    return positive / everything


class BackgroundSwap:
    """Lets the model's tail see every image twice: as it is, and with another image's background features.

    At the last layer named the second version is ``a M + (1 - M) mean_background(a of the previous image)``, of the
    global batch's images that have an object and a background. Of feature maps it is stacked under ``a``, so that one
    forward pass gives both logits. Tokens usually have a residual path past the layer, where nothing is stacked: they
    take a second pass. Only patches are mixed; the tokens in front of them stay the image's own.
    """

    def __init__(self, masks: Tensor | None, modules: Mapping[str, nn.Module], field: ReceptiveField | None):
        assert masks is not None
        self.masks, self.field = masks, field
        self.layer = dict([list(modules.items())[-1]])
        self.rewrites: dict[str, Callable[[Tensor], Tensor]] = dict.fromkeys(self.layer, self._rewrite)
        self._tokens: Tensor | None = None

    def second_pass(self, model: nn.Module, images: Tensor, logits: Tensor) -> Tensor:
        """Return the logits (2B, K) of both versions, given what the first pass returned."""
        if self._tokens is None:
            return logits
        rewrites: dict[str, Callable[[Tensor], Tensor]] = dict.fromkeys(self.layer, self._swapped_tokens)
        with record(model, self.layer, rewrites, tokens=True):
            return torch.cat([logits, model(images)])

    def _rewrite(self, activations: Tensor) -> Tensor:
        with no_autocast(activations):
            mixed = self._mix(to_grid(full_precision(activations), (self.masks.shape[2], self.masks.shape[3])))
            mixed = mixed.to(activations.dtype)
            if activations.ndim == 4:
                return torch.cat([activations, mixed])
            patches = mixed.flatten(2).transpose(1, 2)
            self._tokens = torch.cat([activations[:, : -patches.shape[1]], patches], 1)
            return activations.clone()

    def _swapped_tokens(self, _: Tensor) -> Tensor:
        assert self._tokens is not None
        return self._tokens

    def _mix(self, grid: Tensor) -> Tensor:
        mask = pool(self.masks.to(grid.dtype), (grid.shape[2], grid.shape[3]), self.field)
        outside = 1 - mask
        room = outside.sum((2, 3), keepdim=True)
        background = (grid * outside).sum((2, 3), keepdim=True) / room.clamp(min=EPSILON)
        # Where no object is known all is outside, and the object with it; where there is no outside there is no mean.
        lends = self.masks.flatten(1).any(1) & (room.flatten() > 0)
        return grid * mask + outside * previous_rows(background, among=lends)
