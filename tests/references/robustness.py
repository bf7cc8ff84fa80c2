"""FGSM (arXiv 1412.6572), PGD (arXiv 1706.06083) and corruptions (arXiv 1903.12261) from their papers, slowly."""

from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image


def gradient(model, image, label):
    """d CE / dx of one image (3, H, W)."""
    leaf = image.clone().requires_grad_()
    loss = F.cross_entropy(model(leaf[None]), torch.tensor([label]))
    return torch.autograd.grad(loss, leaf)[0].numpy()


def fgsm(model, image, label, epsilon):
    slope = gradient(model, image, label)
    out = image.numpy().copy()
    for p in np.ndindex(out.shape):
        out[p] = min(1, max(0, out[p] + epsilon * np.sign(slope[p])))
    return torch.from_numpy(out)


def pgd(model, image, label, epsilon, start, steps, size):
    """From image + epsilon * start, start in [-1, 1]."""
    center = image.numpy()
    point = np.clip(center + epsilon * start.numpy(), 0, 1)
    for _ in range(steps):
        slope = gradient(model, torch.from_numpy(point), label)
        for p in np.ndindex(point.shape):
            moved = point[p] + size * np.sign(slope[p])
            point[p] = min(1, max(0, min(center[p] + epsilon, max(center[p] - epsilon, moved))))
    return torch.from_numpy(point)


def disc(radius, sigma):
    """A disc on a grid, every pixel the average of its neighbors under a normal density; mirrored at the border."""
    reach = max(8, radius)
    side = 2 * reach + 1
    flat = np.zeros((side, side))
    for y, x in np.ndindex(flat.shape):
        flat[y, x] = (y - reach) ** 2 + (x - reach) ** 2 <= radius**2
    flat /= flat.sum()
    half = 1 if radius <= 8 else 2
    padded = np.pad(flat, half, mode="reflect")
    weights = np.array([np.exp(-(d**2) / (2 * sigma**2)) for d in range(-half, half + 1)])
    weights /= weights.sum()
    out = np.zeros_like(flat)
    for y, x in np.ndindex(flat.shape):
        for v, u in np.ndindex(2 * half + 1, 2 * half + 1):
            out[y, x] += weights[v] * weights[u] * padded[y + v, x + u]
    return out


def rescaled(kernel, scale, fine=64):
    """Every pixel cut into fine x fine grains, which lie where the other scale puts them."""
    half = len(kernel) // 2
    reach = int(np.ceil(len(kernel) * scale / 2 - 0.5))
    grains = (np.arange(fine) + 0.5) / fine - 0.5
    out = np.zeros((2 * reach + 1, 2 * reach + 1))
    for y, x in np.ndindex(kernel.shape):
        rows, columns = (np.rint((p - half + grains) * scale).astype(int) + reach for p in (y, x))
        np.add.at(out, np.ix_(rows, columns), kernel[y, x] / fine**2)
    return out


def convolved_at(image, kernel, y, x):
    """The value of (H, W) convolved with a symmetric kernel, borders mirrored without repeating the edge."""
    half = len(kernel) // 2
    padded = np.pad(image, half, mode="reflect")
    return sum(kernel[v, u] * padded[y + v, x + u] for v, u in np.ndindex(kernel.shape))


def less_contrast(image, factor):
    out = np.empty_like(image)
    for c, channel in enumerate(image):
        mean = sum(channel.flatten()) / channel.size
        for p in np.ndindex(channel.shape):
            out[(c, *p)] = min(1, max(0, mean + factor * (channel[p] - mean)))
    return out


def jpeg(image, quality):
    """(3, H, W) in [0, 1] as a file of that quality and back."""
    file = BytesIO()
    Image.fromarray(np.uint8(np.rint(image.transpose(1, 2, 0) * 255))).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file)).transpose(2, 0, 1) / 255
