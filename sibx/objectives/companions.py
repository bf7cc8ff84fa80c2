"""Second versions of images for guidance losses: what a network should answer as it answers the image itself.

Every function returns one image per row, of the shape of ``images``, in normalized values. Masks are True where a pixel
stays as it is and is not lent: on the object, and where it is not known whether it is object. Random numbers come from
torch's generator.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sibx._checks import check_labels, check_logits
from sibx._outputs import Output, by_class
from sibx.attribution.cotangents import potential_of_checked
from sibx.models.layers import eval_mode

NOISE = 1.0  # standard deviation in normalized values: a quarter of the range of pixels under ImageNet's normalization
HIDDEN = 0.5  # share of the pixels that saliency-guided training hides; the authors' value for CIFAR-10 and birds


def swap_backgrounds(images: Tensor, masks: Tensor) -> Tensor:
    """Paste every image's object on the previous image's background: ``x M + (1 - M) b``; the first gets the last's.

    b is the previous image with its own object painted over in its mean background color, so that no second object
    remains. That choice is ours. An image without background lends zero, the data set's mean after normalization.

    Args:
        images: images x, (B, C, H, W).
        masks: masks M, (B, 1, H, W) bool.
    """
    inside = masks.to(images.dtype)
    outside = 1 - inside
    pixels = outside.sum((2, 3), keepdim=True).clamp(min=1)  # at least 1: without a background pixel the sum is 0, too
    color = (images * outside).sum((2, 3), keepdim=True) / pixels
    background = images * outside + color * inside
    return images * inside + outside * background.roll(1, 0)


def add_noise(images: Tensor, masks: Tensor) -> Tensor:
    """Add Gaussian noise of standard deviation NOISE to the background: ``x + (1 - M) NOISE z``.

    The noise with which Singla and Feizi 2022 (arXiv 2110.04301) measure what a network needs, in training, as Core
    Risk Minimization does (Singla et al. 2022, arXiv 2203.15566). Departures: object masks instead of the core features
    of a class, and beside the images as they are instead of in their place.

    Args:
        images: images x, (B, C, H, W).
        masks: masks M, (B, 1, H, W) bool.
    """
    return images + ~masks * (NOISE * torch.randn_like(images))


def shuffle_background(images: Tensor, masks: Tensor) -> Tensor:
    """Put the pixels outside the mask in random order, all channels of a pixel together.

    The masked image of ActDiff (Viviano et al. 2021, arXiv 1910.00199): colors stay, everything that they show is gone.

    Args:
        images: images, (B, C, H, W).
        masks: masks, (B, 1, H, W) bool.
    """
    inside = masks.flatten(1)  # (B, H W)
    place = torch.arange(inside.shape[1], device=images.device).expand(len(inside), -1)
    drawn = torch.rand(inside.shape, device=images.device)
    taken = torch.where(inside, 2.0 + place, drawn).argsort(1)  # background in random order, then the object in its own
    given = torch.where(inside, 1, 0).argsort(dim=1, stable=True)  # both in their own order
    channels = (len(images), images.shape[1], -1)
    pixels = images.flatten(2).gather(2, taken.unsqueeze(1).expand(channels))
    return torch.empty_like(pixels).scatter(2, given.unsqueeze(1).expand(channels), pixels).view_as(images)


def hide_least_salient(model: nn.Module, images: Tensor, labels: Tensor, output: Output = "auto") -> Tensor:
    """Replace the HIDDEN of the pixels with the lowest gradients by uniform noise in the range of the image's channel.

    Saliency-guided training (Ismail et al. 2021, arXiv 2111.14338): the gradient is that of the label's logit, in eval
    mode, with its sign, averaged over channels; no gradient flows through it.

    Args:
        model: the model, images -> logits (B, K).
        images: images, (B, C, H, W).
        labels: class indices (B,).
        output: what the logits are.
    """
    leaf = images.detach().requires_grad_()
    with eval_mode(model), _alone(model), torch.enable_grad():
        logits = model(leaf)
        check_logits(logits, len(images))
        check_labels(labels, by_class(logits, output))
        (gradient,) = torch.autograd.grad(potential_of_checked(logits, "logit", labels, output), leaf)
    slopes = gradient.mean(1).flatten(1)  # (B, H W)
    least = slopes.topk(int(HIDDEN * slopes.shape[1]), 1, largest=False).indices
    hidden = torch.zeros_like(slopes, dtype=torch.bool).scatter(1, least, True).view(len(images), 1, *images.shape[2:])
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(hidden, low + (high - low) * torch.rand_like(images), images)


@contextmanager
def _alone(model: nn.Module) -> Iterator[None]:
    """Within the block no other process is waited for: a gradient of images has no parameters to average."""
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        yield
