"""The eraser: pixels under strokes are replaced, and the networks are asked again."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from sibx._checks import look_up, require
from sibx._outputs import probabilities
from sibx.app._opinions import Opinion
from sibx.images.baselines import BLUR_SIDE, BLUR_SIGMA, blur

MOST_POINTS = 100_000  # of all strokes of a picture
INPAINT_RADIUS = 3  # pixels that OpenCV looks at around the hole
SOFTENED = 4  # times the blur of the baseline: an object is to be unrecognizable


@dataclass(frozen=True, slots=True)
class Stroke:
    """A stroke of a round brush: its diameter and the points (x, y) it goes through, in shares of the picture's width.

    Shares, so that a stroke means the same at every size the picture is shown or seen at. ``of`` is the number of the
    picture that was seen, which may be another one by now.
    """

    size: float
    points: tuple[tuple[float, float], ...]
    of: int


def read_strokes(text: str) -> list[Stroke]:
    """Read strokes as the page sends them, JSON: [{"size": 0.1, "points": [[x, y], ...], "of": 3}, ...].

    Raises:
        ValueError: anything else, or more than MOST_POINTS points.
    """
    try:
        plain = json.loads(text or "[]")
        strokes = [
            Stroke(float(s["size"]), tuple((float(x), float(y)) for x, y in s["points"]), int(s["of"])) for s in plain
        ]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"`strokes` must be a list of sizes and points, but got {text[:80]!r}: {error}") from error
    numbers = [v for s in strokes for v in (s.size, *(c for point in s.points for c in point))]
    require(len(numbers) <= 2 * MOST_POINTS, "strokes", f"have at most {MOST_POINTS:,} points", len(numbers) // 2)
    require(all(s.points for s in strokes), "strokes", "have a point each", text[:80])
    require(bool(np.all(np.abs(numbers) <= 10)), "strokes", "be given in shares of the picture's width", text[:80])
    return strokes


def draw_strokes(strokes: list[Stroke], height: int, width: int) -> np.ndarray:
    """Return where strokes lie on a picture, (H, W) bool: at least one pixel wide."""
    mask, shift = np.zeros((height, width), np.uint8), 4  # coordinates in sixteenths of a pixel
    for stroke in strokes:
        thick = max(1, round(stroke.size * width))
        points = np.round((np.array(stroke.points).reshape(-1, 2) * width - 0.5) * 2**shift).astype(np.int32)
        cv2.polylines(mask, [points.reshape(-1, 1, 2)], False, 1, thick, cv2.LINE_8, shift)
        for x, y in points[[0, -1]]:  # round ends; a click is a dot
            cv2.circle(mask, (int(x), int(y)), thick * 2 ** (shift - 1), 1, -1, cv2.LINE_8, shift)
    return mask.astype(bool)


def _mean(pixels: Tensor, _: np.ndarray, mean: Tensor) -> Tensor:
    return mean.view(-1, 1, 1).expand_as(pixels)


def _blur(pixels: Tensor, _: np.ndarray, __: Tensor) -> Tensor:
    return blur(pixels[None], SOFTENED * BLUR_SIGMA * max(pixels.shape[1:]) / BLUR_SIDE)[0]


def _inpaint(pixels: Tensor, hole: np.ndarray, _: Tensor) -> Tensor:
    """Fill the hole from its border inwards, every channel by itself."""
    channels = (pixels.clamp(0, 1) * 255).round().byte().numpy()
    filled = [cv2.inpaint(c, hole.astype(np.uint8), INPAINT_RADIUS, cv2.INPAINT_TELEA) for c in channels]
    return torch.from_numpy(np.stack(filled)).float() / 255


Fill = Callable[[Tensor, np.ndarray, Tensor], Tensor]
FILLS: dict[str, Fill] = {"mean": _mean, "blur": _blur, "inpaint": _inpaint}  # (C, h, w), hole (h, w), mean (C,)


def erase(opinion: Opinion, strokes: list[Stroke], fill: str) -> tuple[Tensor, Tensor]:
    """Replace the pixels under strokes as the network sees them, and ask it again.

    Args:
        opinion: what it said about the whole picture.
        strokes: strokes on the picture.
        fill: key of FILLS: ``mean``: the mean color of the network's images; ``blur``: the blurred picture;
            ``inpaint``: what lies around.

    Returns:
        The changed part of the picture (C, h, w) in [0, 1] at the size that the network sees, and the probability of
        every class (K,).

    Raises:
        ValueError: another way to fill.
    """
    replace = look_up("fill", fill, FILLS)
    seen, eye = opinion.look.seen, opinion.network.eye
    top, left, height, width = seen.box
    pixels = seen.pixels.clone()
    part = pixels[:, top : top + height, left : left + width]
    hole = draw_strokes(strokes, height, width)
    mean = torch.tensor(eye.normalization.mean) if eye.normalization.mean else part.mean((1, 2))
    part[:, torch.from_numpy(hole)] = replace(part, hole, mean)[:, torch.from_numpy(hole)]
    with opinion.network.lock, torch.no_grad():
        logits = eye.model(eye.normalization(pixels[None].to(eye.device)))
    return part, probabilities(logits, eye.output)[0].cpu()
