"""The guidance losses from their papers, written plainly: one image, one pixel at a time.

Energy, L1: Rao et al., arXiv 2303.11932. RRR: Ross et al., arXiv 1703.03717. Gradient penalty: Ross & Doshi-Velez,
arXiv 1711.09404. The background swap is ours.
"""

import torch


def gradient(scalar, tensor):
    return torch.autograd.grad(scalar, tensor, create_graph=True)[0]


def log_probabilities(logits):
    normalizer = torch.log(sum(torch.exp(z) for z in logits))
    return [z - normalizer for z in logits]


def average_blocks(mask, height, width):
    """Mean of a mask (H, W) over the blocks of a coarser grid that divides it."""
    rows, columns = mask.shape[0] // height, mask.shape[1] // width
    cells = [
        [mask[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns].double().mean() for j in range(width)]
        for i in range(height)
    ]
    return torch.tensor(cells, dtype=torch.float64)


def contributions(point, gradients):
    """sum_k g_k a_k at every position, as rows of scalars."""
    channels, height, width = point.shape
    return [
        [sum(gradients[k, i, j] * point[k, i, j] for k in range(channels)) for j in range(width)] for i in range(height)
    ]


def energy(attributions, mask):
    inside = everywhere = 0
    for i, row in enumerate(attributions):
        for j, a in enumerate(row):
            if a > 0:
                inside = inside + a * mask[i, j]
                everywhere = everywhere + a
    return 1 - inside / everywhere


def l1(attributions, mask):
    largest = max(a for row in attributions for a in row)
    total = 0
    for i, row in enumerate(attributions):
        for j, a in enumerate(row):
            scaled = a / largest if a > 0 else 0 * a
            total = total + abs(scaled - mask[i, j].double())
    return total / mask.numel()


def right_reasons(tail, point, mask):
    """sum_d (A_d d/dx_d sum_k log p_k)^2 with A = 1 - M, one class at a time."""
    g = sum(gradient(log_p, point) for log_p in log_probabilities(tail(point[None])[0]))
    total = 0
    for channel in g:
        for i in range(mask.shape[0]):
            for j in range(mask.shape[1]):
                if not mask[i, j]:
                    total = total + channel[i, j] ** 2
    return total


def penalty(model, image, label):
    """sum_d (d/dx_d CE)^2."""
    g = gradient(-log_probabilities(model(image[None])[0])[label], image)
    return sum(value**2 for value in g.flatten())


def background_only(image, mask):
    """The image with its object painted over in the mean color of its background."""
    out = image.clone()
    for c in range(image.shape[0]):
        outside = [image[c, i, j].item() for i in range(mask.shape[0]) for j in range(mask.shape[1]) if not mask[i, j]]
        for i in range(mask.shape[0]):
            for j in range(mask.shape[1]):
                if mask[i, j]:
                    out[c, i, j] = sum(outside) / len(outside)
    return out


def swap(images, masks):
    out = []
    for n, image in enumerate(images):
        pasted = background_only(images[n - 1], masks[n - 1, 0])
        for i in range(pasted.shape[1]):
            for j in range(pasted.shape[2]):
                if masks[n, 0, i, j]:
                    pasted[:, i, j] = image[:, i, j]
        out.append(pasted)
    return torch.stack(out)


def one_image(method, features, tail, image, label, mask):
    """The term of one image; the network is ``tail(features(image))``, and ``tail`` alone for the input methods."""
    image = image.clone().requires_grad_()
    if method == "gradient-penalty":
        return penalty(lambda x: tail(features(x)), image, label)
    if method == "rrr":
        return right_reasons(lambda x: tail(features(x)), image, mask)
    if method == "energy-cam":
        point = features(image[None])[0]
        logit = tail(point[None])[0, label]
        return energy(contributions(point, gradient(logit, point)), average_blocks(mask, *point.shape[1:]))
    attributions = contributions(image, gradient(tail(features(image[None]))[0, label], image))
    return {"energy": energy, "l1": l1}[method](attributions, mask)


def term(method, features, tail, images, labels, masks):
    """Mean over the images with an object; for the gradient penalty over all."""
    chosen = [n for n in range(len(images)) if method == "gradient-penalty" or masks[n].any()]
    if method == "background-swap":
        pasted = swap(images[chosen], masks[chosen])
        values = [
            -log_probabilities(tail(features(x[None]))[0])[labels[n]] for x, n in zip(pasted, chosen, strict=True)
        ]
    else:
        values = [one_image(method, features, tail, images[n], labels[n], masks[n, 0]) for n in chosen]
    return sum(values) / len(values)


def cross_entropy(model, images, labels):
    values = [-log_probabilities(model(x[None])[0])[y] for x, y in zip(images, labels, strict=True)]
    return sum(values) / len(values)
