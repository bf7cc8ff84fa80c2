"""IBA as Schulz et al. (arXiv 2001.00396, section 3) write it: one image, the tail of the network as a function."""

import math

import torch
import torch.nn.functional as F


def iba(features, tail, target, mean, deviation, noises, beta=10.0, sigma=1.0):
    """Bits (h, w) of one image's features (C, h, w); ``noises`` (steps, copies, C, h, w) are standard normal."""
    side = torch.arange(-round(2 * sigma), round(2 * sigma) + 1.0)
    square = torch.exp(-(side[:, None] ** 2 + side[None] ** 2) / (2 * sigma**2)).to(features)
    kernel, reach = (square / square.sum())[None, None], len(side) // 2
    alpha = torch.full_like(features, 5).requires_grad_()
    first, second = torch.zeros_like(features), torch.zeros_like(features)  # Adam's moments

    def kl():
        padded = F.pad(alpha.sigmoid()[:, None], (reach,) * 4, mode="reflect")
        passed = F.conv2d(padded, kernel)[:, 0]
        of_z = torch.distributions.Normal(passed * features + (1 - passed) * mean, (1 - passed) * deviation)
        return passed, torch.distributions.kl_divergence(of_z, torch.distributions.Normal(mean, deviation))

    for step, draws in enumerate(noises, 1):
        passed, divergence = kl()
        z = passed * features + (1 - passed) * (mean + deviation * draws)
        loss = F.cross_entropy(tail(z), torch.full((len(draws),), target)) + beta * divergence.mean()
        (g,) = torch.autograd.grad(loss, alpha)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        moved = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        alpha = (alpha.detach() - moved).requires_grad_()
    return kl()[1].detach().sum(0) / math.log(2)
