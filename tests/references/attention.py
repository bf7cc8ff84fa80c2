"""Attention methods as their papers write them, slowly: whole matrices, one image, one head and one layer at a time."""

import torch

from sibx.models.tiny_vit import _places


def run(vit, image, target):
    """Run a TinyViT on an image (3, H, W) by its formulas.

    Returns its matrices, a list of layers of heads (N, N), and the target's scores of the class token behind every
    layer.
    """
    patches = vit.embed(image[None])
    tokens = torch.cat([vit.token[0], (patches + _places(patches))[0].flatten(1).T])  # (N, D)
    layers, scores = [], []
    for block in vit.blocks:
        query, key, value = block.attend.enter(block.norm_1(tokens)).chunk(3, 1)
        size = tokens.shape[1] // block.attend.heads
        heads, mixed = [], []
        for h in range(block.attend.heads):
            part = slice(h * size, (h + 1) * size)
            heads.append((query[:, part] @ key[:, part].T / size**0.5).softmax(1))
            mixed.append(heads[-1] @ value[:, part])
        tokens = tokens + block.attend.leave(torch.cat(mixed, 1))
        tokens = tokens + block.mix(block.norm_2(tokens))
        layers.append(heads)
        scores.append(vit.classifier(vit.norm(tokens[0]))[target])
    return layers, scores


def grid(row, extra=1):
    """The patches of a row of tokens as a square."""
    side = round((len(row) - extra) ** 0.5)
    return row[extra:].detach().view(side, side)


def raw_attention(vit, image, _):
    layers, _ = run(vit, image, 0)
    return grid(sum(layers[-1])[0] / len(layers[-1]))


def rollout(vit, image, _):
    layers, _ = run(vit, image, 0)
    product = torch.eye(len(layers[0][0]), dtype=image.dtype)
    for heads in layers:
        mixed = sum(heads) / len(heads) + torch.eye(len(product), dtype=image.dtype)
        product = mixed / mixed.sum(1, keepdim=True) @ product
    return grid(product[0])


def attention_gradcam(vit, image, target):
    layers, scores = run(vit, image, target)
    gradients = torch.autograd.grad(scores[-1], layers[-1])
    found = [a[0] * g[0, 1:].mean() for a, g in zip(layers[-1], gradients, strict=True)]
    return grid((sum(found) / len(found)).clamp(min=0))


def chefer(vit, image, target):
    layers, scores = run(vit, image, target)
    relevance = torch.eye(len(layers[0][0]), dtype=image.dtype)
    for heads in layers:
        gradients = torch.autograd.grad(scores[-1], heads, retain_graph=True)
        mean = sum((a * g).clamp(min=0) for a, g in zip(heads, gradients, strict=True)) / len(heads)
        relevance = relevance + mean @ relevance
    return grid(relevance[0])


def legrad(vit, image, target):
    layers, scores = run(vit, image, target)
    rows = []
    for heads, score in zip(layers, scores, strict=True):
        gradients = torch.autograd.grad(score, heads, retain_graph=True)
        rows += [g.clamp(min=0).mean(0) for g in gradients]
    return grid(sum(rows) / len(rows))
