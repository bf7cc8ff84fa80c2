"""The guidance losses from their papers, written plainly: one image, one pixel at a time.

Energy, L1: Rao et al., arXiv 2303.11932. RRR: Ross et al., arXiv 1703.03717. Gradient penalty: Ross & Doshi-Velez,
arXiv 1711.09404. RRR on Grad-CAM: Schramowski et al., arXiv 2001.05371. ActDiff: Viviano et al., arXiv 1910.00199.
Saliency-guided training: Ismail et al., arXiv 2111.14338. The background swap, and noise beside the images, are ours.

``mask`` says of every pixel (of a coarser grid: which share of its cell) that it is object, ``outside`` that it is
background. What is neither enters no sum, and stays as it is where images are changed.
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


def energy(attributions, mask, outside):
    inside = everywhere = 0
    for i, row in enumerate(attributions):
        for j, a in enumerate(row):
            if a > 0:
                inside = inside + a * mask[i, j]
                everywhere = everywhere + a * (mask[i, j].double() + outside[i, j].double())
    return 1 - inside / everywhere


def l1(attributions, mask, outside):
    known = mask.double() + outside.double()
    largest = max(a * known[i, j] for i, row in enumerate(attributions) for j, a in enumerate(row))
    total = 0
    for i, row in enumerate(attributions):
        for j, a in enumerate(row):
            scaled = a * known[i, j] / largest if a > 0 else 0 * a
            total = total + abs(scaled - mask[i, j].double())
    return total / known.sum()


def right_reasons(tail, point, outside):
    """sum_d (A_d d/dx_d sum_k log p_k)^2 with A = 1 on the background, one class at a time."""
    g = sum(gradient(log_p, point) for log_p in log_probabilities(tail(point[None])[0]))
    total = 0
    for channel in g:
        for i in range(outside.shape[0]):
            for j in range(outside.shape[1]):
                if outside[i, j]:
                    total = total + channel[i, j] ** 2
    return total


def penalty(model, image, label):
    """sum_d (d/dx_d CE)^2."""
    g = gradient(-log_probabilities(model(image[None])[0])[label], image)
    return sum(value**2 for value in g.flatten())


def background_only(image, outside):
    """The image with all that is not its background painted over in the mean color of its background."""
    out = image.clone()
    places = [(i, j) for i in range(outside.shape[0]) for j in range(outside.shape[1])]
    for c in range(image.shape[0]):
        colors = [image[c, i, j].item() for i, j in places if outside[i, j]]
        for i, j in places:
            if not outside[i, j]:
                out[c, i, j] = sum(colors) / len(colors)
    return out


def swap(images, outside):
    out = []
    for n, image in enumerate(images):
        pasted = background_only(images[n - 1], outside[n - 1, 0])
        for i in range(pasted.shape[1]):
            for j in range(pasted.shape[2]):
                if not outside[n, 0, i, j]:
                    pasted[:, i, j] = image[:, i, j]
        out.append(pasted)
    return torch.stack(out)


def grad_cam(point, gradients):
    """relu(sum_k w_k a_k), w_k the mean of channel k's gradient, as rows of scalars."""
    channels, height, width = point.shape
    weights = [sum(gradients[k].flatten()) / (height * width) for k in range(channels)]
    sums = [[sum(weights[k] * point[k, i, j] for k in range(channels)) for j in range(width)] for i in range(height)]
    return [[value if value > 0 else 0 * value for value in row] for row in sums]


def noisy(images, outside):
    """x + z in the background, z of standard deviation 1."""
    out, noise = images.clone(), torch.randn(images.shape, dtype=images.dtype)
    for n, c, i, j in torch.cartesian_prod(*map(torch.arange, images.shape)).tolist():
        if outside[n, 0, i, j]:
            out[n, c, i, j] += noise[n, c, i, j]
    return out


def shuffled(images, outside):
    """The background's pixels in the order of random numbers."""
    out, drawn = images.clone(), torch.rand(len(images), images[0, 0].numel())
    for n, free in enumerate(outside[:, 0]):
        places = [(i, j) for i in range(free.shape[0]) for j in range(free.shape[1]) if free[i, j]]
        order = sorted(places, key=lambda place: drawn[n, place[0] * free.shape[1] + place[1]].item())
        for (i, j), (k, m) in zip(places, order, strict=True):
            out[n, :, i, j] = images[n, :, k, m]
    return out


def hidden(model, images, labels):
    """Uniform noise in the range of the image's channel for the half of the pixels with the lowest mean gradient."""
    out, drawn = images.clone(), torch.rand(images.shape, dtype=images.dtype)
    for n, image in enumerate(images):
        leaf = image.clone().requires_grad_()
        slope = sum(gradient(model(leaf[None])[0, labels[n]], leaf)) / len(image)
        places = [(i, j) for i in range(slope.shape[0]) for j in range(slope.shape[1])]
        for i, j in sorted(places, key=lambda place: slope[place].item())[: len(places) // 2]:
            for c in range(len(image)):
                low, high = min(image[c].flatten()), max(image[c].flatten())
                out[n, c, i, j] = low + (high - low) * drawn[n, c, i, j]
    return out


def kullback_leibler(logits, others):
    p, q = log_probabilities(logits), log_probabilities(others)
    return sum(torch.exp(a) * (a - b) for a, b in zip(p, q, strict=True))


def one_image(method, features, tail, image, label, mask, outside):
    """The term of one image; the network is ``tail(features(image))``, and ``tail`` alone for the input methods."""
    image = image.clone().requires_grad_()
    if method == "gradient-penalty":
        return penalty(lambda x: tail(features(x)), image, label)
    if method == "rrr":
        return right_reasons(lambda x: tail(features(x)), image, outside)
    if method == "energy-cam":
        point = features(image[None])[0]
        logit = tail(point[None])[0, label]
        blocks = (average_blocks(part, *point.shape[1:]) for part in (mask, outside))
        return energy(contributions(point, gradient(logit, point)), *blocks)
    if method == "rrr-cam":
        point = features(image[None])[0]
        cam = grad_cam(point, gradient(tail(point[None])[0, label], point))
        shares = average_blocks(outside, *point.shape[1:])
        return sum((shares[i, j] * value) ** 2 for i, row in enumerate(cam) for j, value in enumerate(row))
    attributions = contributions(image, gradient(tail(features(image[None]))[0, label], image))
    return {"energy": energy, "l1": l1}[method](attributions, mask, outside)


def term(method, features, tail, images, labels, masks, undefined):
    """Mean over the images with an object; for a method that looks at no mask over all."""
    outside = ~masks & ~undefined
    without_masks = method in ("gradient-penalty", "saliency-guided")
    chosen = [n for n in range(len(images)) if without_masks or masks[n].any()]
    if method in ("background-swap", "background-noise"):
        second = {"background-swap": swap, "background-noise": noisy}[method](images[chosen], outside[chosen])
        values = [
            -log_probabilities(tail(features(x[None]))[0])[labels[n]] for x, n in zip(second, chosen, strict=True)
        ]
    elif method == "actdiff":
        second = shuffled(images[chosen], outside[chosen])
        pairs = [(features(images[n][None]), features(x[None])) for x, n in zip(second, chosen, strict=True)]
        values = [sum(((a - b) ** 2).flatten()) ** 0.5 for a, b in pairs]
    elif method == "saliency-guided":
        second = hidden(lambda x: tail(features(x)), images, labels)
        values = [
            kullback_leibler(*(tail(features(x[None]))[0] for x in pair)) for pair in zip(images, second, strict=True)
        ]
    else:
        values = [one_image(method, features, tail, images[n], labels[n], masks[n, 0], outside[n, 0]) for n in chosen]
    return sum(values) / len(values)


def cross_entropy(model, images, labels):
    values = [-log_probabilities(model(x[None])[0])[y] for x, y in zip(images, labels, strict=True)]
    return sum(values) / len(values)
