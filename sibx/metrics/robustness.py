"""Harder images for a classifier: adversarial ones (FGSM, PGD) and common corruptions at five severities.

These are images for a classifier, not scores of an explanation; ``sibx.evaluation.evaluate_robustness`` runs a model on
them. Everything happens to pixels (B, 3, H, W) in [0, 1]; a model here takes pixels, so normalization belongs to it.
"""

from collections.abc import Callable, Sequence
from io import BytesIO

import cv2
import numpy as np
import numpy.typing as npt
import torch
from captum.robust import FGSM
from PIL import Image
from torch import Tensor

from sibx._checks import check_choice, check_images, check_labels, check_logits, check_range, require

Model = Callable[[Tensor], Tensor]
Array = npt.NDArray[np.float32]

STEPS, OVERSHOOT = 10, 2.5  # of PGD; its steps together are 2.5 times as long as epsilon (Madry 2018)

# Parameters of ImageNet-C for severities 1 to 5 at 224 px.
SIDE = 224
NOISE_DEVIATION = (0.08, 0.12, 0.18, 0.26, 0.38)
DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius of the disc and sigma of its edge, pixels
CONTRAST_FACTOR = (0.4, 0.3, 0.2, 0.1, 0.05)
JPEG_QUALITY = (25, 18, 15, 10, 7)
SEVERITIES = tuple(range(1, 6))


def fgsm(model: Model, pixels: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Move every value by epsilon to where the cross-entropy of the label grows: ``x + epsilon sign(dCE / dx)``.

    The result is clipped to [0, 1]. The sign is taken from ``m = logsumexp of the other logits - the label's logit``:
    CE = log(1 + exp(m)) grows with m, so the sign is the same, but m does not saturate where the model is certain. And
    captum's threshold of 1e-6, below which it takes a gradient for zero, is set to zero. Otherwise a model that is
    only more confident would look more robust.

    Args:
        model: pixels -> logits (B, K), K at least 2; runs in the mode it is in.
        pixels: x, (B, 3, H, W), floating point, in [0, 1].
        labels: (B,) class indices, the truth.
        epsilon: in [0, 1], in units of pixel values: 2 / 255 is two gray levels.

    Returns:
        (B, 3, H, W) in [0, 1], detached. A value on which m does not depend stays.

    Raises:
        ValueError: a wrong shape or dtype, values out of range, or an output that is not (B, K).

    Source: Goodfellow, Shlens, Szegedy, arXiv 1412.6572 (ICLR 2015), through captum.robust.FGSM.
    """
    _check(pixels)
    check_range("epsilon", epsilon, 0, 1)
    return _ascend(model, pixels, labels, epsilon)


def pgd(
    model: Model,
    pixels: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    seeds: Sequence[int],
    steps: int = STEPS,
    step_size: float | None = None,
) -> Tensor:
    """Repeat FGSM in short steps within epsilon of the image, from a random point: projected gradient ascent.

    ``x_(t+1) = clip(x_t + step_size sign(dCE / dx_t))``, clipped to [x - epsilon, x + epsilon] and to [0, 1]; x_0 is
    uniform there before the clip to [0, 1]. Steps are captum's FGSM; the start is ours, because captum's PGD draws it
    from torch's global generator, for the batch as a whole.

    Args:
        model: as for ``fgsm``.
        pixels: as for ``fgsm``.
        labels: as for ``fgsm``.
        epsilon: as for ``fgsm``.
        seeds: B numbers, of every image's start.
        steps: at least 1.
        step_size: at least 0; None = 2.5 epsilon / steps, which reaches the border from anywhere and can move along it.

    Returns:
        As ``fgsm``.

    Raises:
        ValueError: as ``fgsm``, or not one seed per image.

    Source: Madry et al., arXiv 1706.06083 (ICLR 2018).
    """
    _check(pixels, seeds)
    check_range("epsilon", epsilon, 0, 1)
    check_range("steps", steps, 1)
    size = OVERSHOOT * epsilon / steps if step_size is None else step_size
    check_range("step_size", size, 0)
    low, high = (pixels - epsilon).clamp(min=0), (pixels + epsilon).clamp(max=1)
    start = _draw(pixels, seeds, torch.rand) * 2 - 1
    adversarial = (pixels + epsilon * start).clamp(low, high)
    for _ in range(steps):
        adversarial = _ascend(model, adversarial, labels, size).clamp(low, high)
    return adversarial


def corrupt(pixels: Tensor, corruption: str, severity: int, seeds: Sequence[int]) -> Tensor:
    """Corrupt images as ImageNet-C does.

    ``gaussian_noise``: plus normal noise of standard deviation .08, .12, .18, .26, .38, clipped. ``defocus_blur``:
    convolved with a disc of radius 3, 4, 6, 8, 10 px, its edge softened, reflecting borders. ``contrast``: every
    channel's distance from its mean times .4, .3, .2, .1, .05. ``jpeg_compression``: written and read as JPEG of
    quality 25, 18, 15, 10, 7. At other sides than 224 px the disc is shrunk or grown in proportion, by area; nothing
    else changes.

    Args:
        pixels: (B, 3, H, W), floating point, in [0, 1].
        corruption: one of CORRUPTIONS.
        severity: 1 to 5.
        seeds: B numbers, of every image's noise.

    Returns:
        (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: a wrong shape or dtype, values out of range, or an unknown corruption.

    Source: Hendrycks & Dietterich, arXiv 1903.12261 (ICLR 2019): four of its fifteen corruptions, with the parameters
    of the authors' code. Departures: only JPEG rounds to 8 bits, and results are not stored as JPEG of quality 85.
    """
    _check(pixels, seeds)
    check_choice("corruption", corruption, CORRUPTIONS)
    check_range("severity", severity, SEVERITIES[0], SEVERITIES[-1])
    return _CORRUPT[corruption](pixels, severity - 1, seeds).clamp(0, 1)


def defocus_kernel(severity: int, side: int) -> Array:
    """Return ImageNet-C's disc (h, h), h odd, for images of this side.

    At 224 px the authors': the pixels within the radius, smoothed. At other sides every pixel of the kernel gets what
    lies in it of that disc, drawn at the other scale. Its sum is 1, but 1.011 at severity 5, where smoothing mirrors
    the disc at the border of the grid; so it is in the authors' images.
    """
    radius, edge = DEFOCUS[severity - 1]
    offsets = np.arange(-max(8, radius), max(8, radius) + 1)
    disc = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float32)
    window = (3, 3) if radius <= 8 else (5, 5)
    kernel = cv2.GaussianBlur(disc / disc.sum(), window, edge)
    shares = _overlaps(len(offsets), side / SIDE)
    return np.asarray(shares @ kernel @ shares.T, dtype=np.float32)


def _overlaps(count: int, scale: float) -> Array:
    """Shares of ``count`` centered pixels, drawn ``scale`` times as large, in pixels that cover them, (h, count)."""
    reach = int(np.ceil(count * scale / 2 - 0.5))
    new, old = np.arange(-reach, reach + 1)[:, None], (np.arange(count) - (count - 1) / 2) * scale
    inside = np.minimum(new + 0.5, old + scale / 2) - np.maximum(new - 0.5, old - scale / 2)
    return np.asarray(inside.clip(min=0) / scale, dtype=np.float32)


def _gaussian_noise(pixels: Tensor, level: int, seeds: Sequence[int]) -> Tensor:
    return pixels + NOISE_DEVIATION[level] * _draw(pixels, seeds, torch.randn)


def _defocus_blur(pixels: Tensor, level: int, _: Sequence[int]) -> Tensor:
    kernel = defocus_kernel(level + 1, max(pixels.shape[2:]))
    return _picture_by_picture(pixels, lambda picture: np.asarray(cv2.filter2D(picture, -1, kernel)))


def _contrast(pixels: Tensor, level: int, _: Sequence[int]) -> Tensor:
    mean = pixels.mean((2, 3), keepdim=True)
    return mean + CONTRAST_FACTOR[level] * (pixels - mean)


def _jpeg_compression(pixels: Tensor, level: int, _: Sequence[int]) -> Tensor:
    def compress(picture: Array) -> Array:
        file = BytesIO()
        Image.fromarray((picture * 255).round().astype(np.uint8)).save(file, "JPEG", quality=JPEG_QUALITY[level])
        return np.asarray(np.asarray(Image.open(file)) / 255, dtype=np.float32)

    return _picture_by_picture(pixels, compress)


_CORRUPT: dict[str, Callable[[Tensor, int, Sequence[int]], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "defocus_blur": _defocus_blur,
    "contrast": _contrast,
    "jpeg_compression": _jpeg_compression,
}
CORRUPTIONS = tuple(_CORRUPT)


def _ascend(model: Model, pixels: Tensor, labels: Tensor, size: float) -> Tensor:
    """One step of FGSM."""
    attack = FGSM(model, _margin, lower_bound=0.0, upper_bound=1.0)
    attack.zero_thresh = 0.0
    with torch.inference_mode(False), torch.enable_grad():
        return attack.perturb(pixels.detach().clone().requires_grad_(), size, labels).detach()


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    """How far the label's logit is below the soft maximum of the others, (B,)."""
    check_logits(logits, len(labels))
    check_labels(labels, logits)
    require(logits.shape[1] > 1, "model", "tell at least 2 classes apart", logits)
    own = labels.to(logits.device).unsqueeze(1)
    others = logits.double().scatter(1, own, -torch.inf).logsumexp(1)
    return others - logits.double().gather(1, own).squeeze(1)


def _draw(pixels: Tensor, seeds: Sequence[int], sample: Callable[..., Tensor]) -> Tensor:
    """Random numbers of the shape of pixels, every row from its own seed, the same on every device."""
    drawn = torch.empty(pixels.shape)
    for row, seed in zip(drawn, seeds, strict=True):
        row.copy_(sample(row.shape, generator=torch.Generator().manual_seed(seed)))
    return drawn.to(pixels)


def _picture_by_picture(pixels: Tensor, change: Callable[[Array], Array]) -> Tensor:
    """Apply a function of one picture (H, W, 3) float32."""
    changed = torch.empty(pixels.shape)
    for row, image in zip(changed, pixels.detach(), strict=True):
        picture = change(image.permute(1, 2, 0).float().contiguous().cpu().numpy())
        row.copy_(torch.from_numpy(picture).permute(2, 0, 1))
    return changed.to(pixels)


def _check(pixels: Tensor, seeds: Sequence[int] | None = None) -> None:
    check_images(pixels, "pixels")
    require(pixels.shape[1] == 3, "pixels", "have 3 channels", pixels)
    if pixels.numel():
        check_range("pixels", float(pixels.min()), 0, 1)
        check_range("pixels", float(pixels.max()), 0, 1)
    if seeds is not None:
        require(len(seeds) == len(pixels), "seeds", f"have {len(pixels)} entries, one per image", len(seeds))
