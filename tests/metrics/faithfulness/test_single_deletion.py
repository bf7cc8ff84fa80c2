"""Single deletion: the slow form, its extremes, and where it is undefined."""

import pytest
import torch

from sibx.metrics import single_deletion
from tests.references import TWINS

TARGETS = torch.tensor([0, 2, 1])
SEGMENTS = (torch.arange(48).view(1, 1, 6, 8) * 7 % 11 * 3).expand(3, -1, -1, -1)  # eleven, with gaps in their numbers


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHTS = normal(9, 3, 6, 8, 3)


def linear(images):
    return (images.unsqueeze(-1) * WEIGHTS).sum((1, 2, 3))


def curved(images):
    return linear(images) + linear(images.roll(1, 3) * images) ** 2


def worth(images):
    """What every pixel adds to the logit of the linear model."""
    return (images * WEIGHTS[..., TARGETS].movedim(3, 0)).sum(1, keepdim=True)


def test_is_the_definition_whatever_the_batch():
    images, maps = normal(0, 3, 3, 6, 8), normal(1, 3, 1, 6, 8)
    seen = []

    def watched(x):
        seen.append(len(x))
        return curved(x)

    found = single_deletion(watched, images, maps, TARGETS, SEGMENTS, batch_size=5)
    assert sum(seen) == 3 * 12
    for i, target in enumerate(TARGETS):
        arrays = (part[i].numpy() for part in (images, maps[:, 0], SEGMENTS[:, 0], torch.zeros_like(images)))
        slow = TWINS[single_deletion](lambda x, t=target: curved(torch.from_numpy(x)[None])[0, t].item(), *arrays)
        assert found[i].item() == pytest.approx(slow)
    alone = single_deletion(curved, images[1:2], maps[1:2] * 1e200, TARGETS[1:2], SEGMENTS[:1])
    assert alone.item() == pytest.approx(found[1].item())


def test_extremes_and_undefined():
    """What segments are worth in a linear model, and the opposite; a flat map of equal segments says nothing."""
    images = normal(2, 3, 3, 6, 8)
    best = worth(images)
    assert single_deletion(linear, images, best, TARGETS, SEGMENTS).tolist() == pytest.approx([1] * 3)
    assert single_deletion(linear, images, -best, TARGETS, SEGMENTS).tolist() == pytest.approx([-1] * 3)
    halves = torch.arange(2).view(1, 1, 1, 2).repeat_interleave(4, 3).expand(3, 1, 6, 8)
    odd = torch.stack([torch.ones_like(best[0]), best[0] * torch.nan, best[2]])
    found = single_deletion(linear, images, odd, TARGETS, halves)
    assert found.isnan().tolist() == [True, True, False]
    assert single_deletion(lambda x: 0 * linear(x), images, best, TARGETS, SEGMENTS).isnan().all()
    with pytest.raises(ValueError, match=r"`segments` must be an integer tensor of shape \(3, 1, 6, 8\)"):
        single_deletion(linear, images, best, TARGETS, SEGMENTS.double())
