"""The published S-IB formulas, written plainly, one step a line."""

import torch
import torch.nn.functional as F


def soft_quantile(values, q, temperature=0.1):
    """sum_i w_i sort(v)_i with w = softmax(-|i - q (n - 1)| / T) over all n values of a 1-D tensor."""
    n = len(values)
    ranks = torch.arange(n, dtype=values.dtype)
    weights = torch.softmax(-(ranks - q * (n - 1)).abs() / temperature, 0)
    return (weights * values.sort().values).sum()


def density_mask(vjp_map, window):
    """M of one image, R (C, H, W) -> (H, W)."""
    g = vjp_map.mean(0).abs()
    low, high = soft_quantile(g.flatten(), 0.05), soft_quantile(g.flatten(), 0.95)
    g = (g - low) / (high - low + 1e-8)
    h = torch.sigmoid(10 * (g - soft_quantile(g.flatten(), 0.8)))
    d = F.avg_pool2d(h[None, None], window, stride=1, padding=window // 2)[0, 0]
    return torch.sigmoid(10 * (d - soft_quantile(d.flatten(), 0.8)))


def hard_density_mask(vjp_map, window):
    """The density mask of one image with steps at exact quantiles."""
    g = vjp_map.mean(0).abs()
    low, high = g.flatten().quantile(0.05), g.flatten().quantile(0.95)
    g = (g - low.to(g)) / (high.to(g) - low.to(g) + 1e-8)
    h = (g >= g.flatten().quantile(0.8)).to(g)
    d = F.avg_pool2d(h[None, None], window, stride=1, padding=window // 2)[0, 0]
    return (d >= d.flatten().quantile(0.8)).to(g)


def hsic(a, b):
    """Biased HSIC with linear kernels and explicit centering matrices."""
    n = len(a)
    center = torch.eye(n, dtype=a.dtype) - 1 / n
    k, m = a @ a.T, b @ b.T
    return ((center @ k @ center) * (center @ m @ center)).sum() / (n - 1) ** 2


def vjp_map(model, images):
    """R = grad_x (|p|^2 / 2), differentiable."""
    images = images.clone().requires_grad_()
    logits = model(images)
    half_norm = 0.5 * (logits.softmax(1) ** 2).sum()
    return logits, torch.autograd.grad(half_norm, images, create_graph=True)[0]


def loss(model, images, labels, *, window, exponential=False):
    """Return total, HSIC, background."""
    logits, r = vjp_map(model, images)
    mask = torch.stack([density_mask(row, window) for row in r])[:, None]

    def rows(tensor):
        flat = tensor.reshape(len(tensor), -1)
        return flat / flat.norm(dim=1, keepdim=True)

    foreground = hsic(rows(r * mask), rows(images * mask))
    background = torch.stack([(row * (1 - m)).var() for row, m in zip(r, mask, strict=True)]).mean()
    cross_entropy = F.cross_entropy(logits, labels)
    if exponential:
        total = cross_entropy + 0.01 * torch.exp(-foreground) + 1000 * torch.exp(background)
    else:
        total = cross_entropy - 0.01 * foreground + 1000 * background
    return total, foreground, background


def regions(masks, undefined, side):
    """Shares of object and of background in every cell of a grid of ``side`` cells, (B, h, w) each."""

    def averaged(region):
        rows = region.double().split(region.shape[2] // side, 2)
        cells = [
            torch.stack([cell.mean((1, 2, 3)) for cell in row.split(region.shape[3] // side, 3)], 1) for row in rows
        ]
        return torch.stack(cells, 1)

    return averaged(masks), averaged(~masks & ~undefined)


def background_fraction(strength, inside, outside):
    """sum(s outside) / sum(s where it is known what a pixel is), one position of one image (1, h, w) at a time."""
    lost = everything = 0
    for s, m, n in zip(strength.flatten(), inside.flatten(), outside.flatten(), strict=True):
        lost = lost + s * n
        everything = everything + s * (m + n)
    return lost / everything


def background_contrast(strengths, inside, outside):
    """sum(s (P known - inside)) / sum(s known) of every image, P the mean over images with an object, cell by cell."""
    images = [i for i, m in enumerate(inside) if m.any()]
    found = []
    for s, m, n in zip(strengths, inside, outside, strict=True):
        missed = everything = 0
        for row, column in torch.cartesian_prod(*map(torch.arange, m.shape)).tolist():
            usual = sum(inside[i][row, column] for i in images) / len(images)
            known = m[row, column] + n[row, column]
            strength = s[..., row, column].sum()
            missed = missed + strength * (usual * known - m[row, column])
            everything = everything + strength * known
        found.append(missed / everything)
    return found


def background_variance(r, outside):
    """Unbiased variance over all values of R (C, h, w), which are zero where there is no background."""
    values = [r[c, i, j] * outside[i, j] for c, i, j in torch.cartesian_prod(*map(torch.arange, r.shape)).tolist()]
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def swapped_features(features, outside):
    """Background cells of a (B, C, h, w) hold the mean background of the image before; all other parts stay."""
    means = [(a * n).sum((1, 2)) / n.sum() for a, n in zip(features, outside, strict=True)]
    lent = [means[i - 1][:, None, None] for i in range(len(means))]
    return torch.stack([a * (1 - n) + b * n for a, n, b in zip(features, outside, lent, strict=True)])
