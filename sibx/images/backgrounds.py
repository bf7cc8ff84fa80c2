"""Images that show how much a classifier relies on backgrounds: objects and backgrounds apart, or recombined.

These are images for a classifier, not scores of an explanation; ``sibx.evaluation.evaluate_reliance`` runs a model on
them. Pixels are (B, C, H, W) in [0, 1], masks (B, 1, H, W) bool.

The object that is pasted consists of the pixels of its mask. What is taken out of an image, the **hole**, is larger:
the mask and the undefined pixels (trimap boundary, void), which may show the object, grown by 2 px at a side of 224 px,
in proportion otherwise, because resizing mixes object and background at the edge. So undefined pixels are never shown,
neither as object nor as background. An image takes part if it has an object and the hole (for ``only_bg_b`` and
``only_bg_t``: the hole's bounding box) leaves at least a tenth of the image; the authors leave out the images whose box
leaves less.

Source: Xiao, Engstrom, Ilyas, Madry, arXiv 2006.09994 (ICLR 2021); the conditions have the names of that paper.
Departures: exact masks instead of GrabCut's. ``mixed_*`` fill the other image's hole by inpainting instead of tiling: a
box that reaches all four sides (as in a quarter of Oxford's pets) leaves nothing to tile with, and the hole has to be
grown. ``mixed_rand`` never takes the object's own class (the authors draw from all K classes, so that theirs is
``mixed_same`` once in K times and their BG-gap, in expectation, (K - 1) / K times this one).
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_choice, check_images, check_integer, check_masks, check_same_batch, require
from sibx._precise import precise
from sibx.images.pixels import by_bands

Donor = Literal["same", "other", "next"]
GROWTH, INPAINT_RADIUS, SIDE = 2.0, 3.0, 224  # pixels at an image side of 224, in proportion otherwise
LARGEST_HOLE = 0.9  # largest share of the image that a hole may cover; the authors' limit for the bounding box


class Scenes(NamedTuple):
    """Images taken apart: pixels (B, C, H, W) in [0, 1], object pixels and holes (B, 1, H, W) bool."""

    pixels: Tensor
    objects: Tensor
    holes: Tensor


@dataclass(frozen=True, slots=True)
class BackgroundSpec:
    """One line of the BACKGROUNDS table.

    Attributes:
        name: key in the table.
        title: what the image shows, for tables and figures.
        compose: function ``(scenes, backgrounds) -> pixels`` (B, C, H, W), with the donors' filled backgrounds
            (B, C, H, W), or without a donor the scenes' own pixels.
        donor: where the background comes from: another image of the ``same`` class, of an ``other`` class (all equally
            likely), or of the ``next`` class (after the last class the first); None = the image itself.
        boxed: whether the hole's bounding box is taken out instead of the hole.
    """

    name: str
    title: str
    compose: Callable[[Scenes, Tensor], Tensor]
    donor: Donor | None = None
    boxed: bool = False


def take_apart(pixels: Tensor, masks: Tensor, undefined: Tensor | None = None) -> Scenes:
    """Find the object pixels and the hole of every image.

    The hole is the mask and the undefined pixels, grown by 2 px at a side of 224 px, in proportion otherwise.

    Args:
        pixels: images (B, C, H, W), floating point, in [0, 1].
        masks: masks (B, 1, H, W) bool, True on the object.
        undefined: (B, 1, H, W) bool, True where it is not known whether a pixel is object; None = nowhere.

    Raises:
        ValueError: a wrong shape or dtype.
    """
    check_images(pixels, "pixels")
    check_masks(masks, pixels)
    if undefined is None:
        undefined = torch.zeros_like(masks)
    check_masks(undefined, pixels, "undefined")
    reach = round(GROWTH * max(pixels.shape[2:]) / SIDE)
    grown = F.max_pool2d((masks | undefined).float(), 2 * reach + 1, stride=1, padding=reach)
    return Scenes(pixels, masks & ~undefined, grown > 0)


def takes_part(scenes: Scenes, *, boxed: bool = False) -> Tensor:
    """Return which images have an object and a hole (or its bounding box) that leaves a tenth of them; (B,) bool."""
    gone = bounding_boxes(scenes.holes) if boxed else scenes.holes
    share = precise(gone.flatten(1)).mean(1)
    return scenes.objects.flatten(1).any(1) & (share <= LARGEST_HOLE)


def bounding_boxes(masks: Tensor) -> Tensor:
    """Return the smallest upright rectangle around every mask (B, 1, H, W), as masks; an empty mask stays empty."""

    def span(hit: Tensor) -> Tensor:
        return (hit.cumsum(-1) > 0) & (hit.flip(-1).cumsum(-1).flip(-1) > 0)

    return span(masks.any(3)).unsqueeze(3) & span(masks.any(2)).unsqueeze(2)


def tile(pixels: Tensor, boxes: Tensor) -> Tensor:
    """Cover every box by copies of the largest strip of the image beside it, starting in the upper left corner.

    The strips are the parts below, above, right and left of the box, over the whole width or height; of equally large
    strips the first is taken. An image whose box reaches all four sides has no strip and becomes NaN. Source: the
    condition Only-BG-T of Xiao et al., arXiv 2006.09994.

    Args:
        pixels: images (B, C, H, W), floating point.
        boxes: boxes as masks (B, 1, H, W) bool, for example from ``bounding_boxes``.
    """
    check_images(pixels, "pixels")
    check_masks(boxes, pixels, "boxes")
    tiled = torch.empty_like(pixels)
    for row, (image, box) in enumerate(zip(pixels, boxes[:, 0], strict=True)):
        tiled[row] = _repeat_largest_strip(image, box)
    return torch.where(boxes, tiled, pixels)


def inpaint(pixels: Tensor, holes: Tensor) -> Tensor:
    """Fill every hole from its surroundings by OpenCV's fast marching, at 8 bits; other pixels stay as they are.

    Three channels are filled together, of other numbers every channel by itself.


    A hole that covers the whole image becomes NaN. The radius is 3 px at a side of 224 px, in proportion otherwise.

    Args:
        pixels: images (B, C, H, W), floating point, in [0, 1].
        holes: holes as masks (B, 1, H, W) bool.

    Source: Telea, An Image Inpainting Technique Based on the Fast Marching Method, 2004.
    """
    check_images(pixels, "pixels")
    check_masks(holes, pixels, "holes")
    radius = INPAINT_RADIUS * max(pixels.shape[2:]) / SIDE
    filled = torch.empty_like(pixels)
    for row, (image, hole) in enumerate(zip(pixels, holes, strict=True)):
        picture = (image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().cpu().numpy()
        gap = hole[0].byte().cpu().numpy()
        paint = partial(cv2.inpaint, inpaintMask=gap, inpaintRadius=radius, flags=cv2.INPAINT_TELEA)
        filled[row] = torch.from_numpy(by_bands(picture, paint)).permute(2, 0, 1).to(pixels) / 255
    everything = holes.flatten(1).all(1).view(-1, 1, 1, 1)
    return torch.where(holes, filled, pixels).masked_fill(everything, torch.nan)


def choose_donors(labels: Tensor, usable: Tensor, donor: Donor, seeds: Sequence[int], classes: int) -> Tensor:
    """Choose for every image of a data set the image whose background it gets.

    Args:
        labels: class indices (N,).
        usable: which images can lend a background, (N,) bool; any image can get one.
        donor: which class lends the background: the ``same``, any ``other`` (all equally likely), or the ``next``
            (after the last class the first).
        seeds: seeds of the random choices, one per image; a choice depends on the image's own seed and on the usable
            images, not on the other seeds.
        classes: number of classes K.

    Returns:
        Indices (N,) int64, never the image's own; -1 where no image fits.

    Raises:
        ValueError: an unknown donor, or arguments of different length.
    """
    check_choice("donor", donor, get_args(Donor))
    check_same_batch(labels, usable=usable)
    require(len(seeds) == len(labels), "seeds", f"have {len(labels)} entries, one per image", len(seeds))
    check_integer("classes", classes, 1)
    pools: dict[int, list[int]] = {}
    for index in usable.nonzero()[:, 0].tolist():
        pools.setdefault(int(labels[index]), []).append(index)
    known = sorted(pools)
    chosen = []
    for index, (label, seed) in enumerate(zip(labels.tolist(), seeds, strict=True)):
        rng = np.random.default_rng(seed)
        own = {"same": label, "next": (label + 1) % classes}
        source = own[donor] if donor in own else _draw_other(known, label, rng)
        chosen.append(_draw_other(pools.get(source, []), index, rng))
    return torch.tensor(chosen, dtype=torch.int64)


def _draw_other(items: Sequence[int], excluded: int, rng: np.random.Generator) -> int:
    """Return one of the sorted items except the excluded one, all equally likely; -1 if there is no item."""
    place = bisect_left(items, excluded)
    there = place < len(items) and items[place] == excluded
    count = len(items) - there
    if count == 0:
        return -1
    draw = int(rng.integers(count))
    return items[draw + (there and draw >= place)]


def _repeat_largest_strip(image: Tensor, box: Tensor) -> Tensor:
    """Return (C, H, W) tiled with the largest strip beside the box (H, W)."""
    height, width = box.shape
    rows, columns = box.any(1).nonzero()[:, 0], box.any(0).nonzero()[:, 0]
    if not len(rows):
        return image
    strips = [image[:, rows[-1] + 1 :], image[:, : rows[0]], image[:, :, columns[-1] + 1 :], image[:, :, : columns[0]]]
    strip = max(strips, key=Tensor.numel)
    if not strip.numel():
        return torch.full_like(image, torch.nan)
    copies = (-(-height // strip.shape[1]), -(-width // strip.shape[2]))
    return strip.repeat(1, *copies)[:, :height, :width]


def _mix(scenes: Scenes, backgrounds: Tensor) -> Tensor:
    return torch.where(scenes.objects, scenes.pixels, backgrounds)


BACKGROUNDS: dict[str, BackgroundSpec] = {
    spec.name: spec
    for spec in (
        BackgroundSpec("only_fg", "the object on black", lambda s, _: s.pixels * s.objects),
        BackgroundSpec("no_fg", "a black hole for the object", lambda s, _: s.pixels * ~s.holes),
        BackgroundSpec(
            "only_bg_b", "a black box for the object", lambda s, _: s.pixels * ~bounding_boxes(s.holes), boxed=True
        ),
        BackgroundSpec(
            "only_bg_t",
            "background tiles for the object",
            lambda s, _: tile(s.pixels, bounding_boxes(s.holes)),
            boxed=True,
        ),
        BackgroundSpec("only_bg_i", "the object inpainted", lambda s, _: inpaint(s.pixels, s.holes)),
        BackgroundSpec("mixed_same", "on a background of the same class", _mix, "same"),
        BackgroundSpec("mixed_rand", "on a background of another class", _mix, "other"),
        BackgroundSpec("mixed_next", "on a background of the next class", _mix, "next"),
    )
}
