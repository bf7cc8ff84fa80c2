"""Group DRO from its paper's algorithm 1 (Sagawa et al., arXiv 1911.08731), one image and one group at a time."""

import math

import torch


def step(weights, counts, logits, labels, groups, step_size, adjustment):
    """The loss ``sum_g q_g L_g`` of a batch, and the weights q that it is taken with."""
    losses = {}
    for row, label, group in zip(logits, labels.tolist(), groups.tolist(), strict=True):
        losses.setdefault(group, []).append(torch.log(sum(torch.exp(z) for z in row)) - row[label])
    moved = list(weights)
    for group, values in losses.items():
        adjusted = sum(values).item() / len(values) + adjustment / math.sqrt(counts[group])
        moved[group] = weights[group] * math.exp(step_size * adjusted)
    weights = [q / sum(moved) for q in moved]
    return sum(weights[group] * sum(values) / len(values) for group, values in losses.items()), weights
