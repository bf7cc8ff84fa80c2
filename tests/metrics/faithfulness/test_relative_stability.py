"""Relative stability: the slow forms, what is left out, and one explanation of an image for all that ask."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sibx.metrics import METRICS, relative_stability
from sibx.metrics.faithfulness.nearby import Remembered
from tests.references import TWINS

NAMES = [f"relative_{part}_stability" for part in ("input", "output", "representation")]
TARGETS = torch.tensor([0, 2, 1])


class Curved(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.features(x).square().mean((2, 3)))


@pytest.fixture
def case():
    torch.manual_seed(0)
    network = Curved().double().eval()
    images = torch.randn(3, 3, 6, 5, dtype=torch.float64)
    network.head.bias.data -= network(images).mean(0).detach()  # so that predictions change nearby

    def explain(x, targets):
        return (x * (1 + targets.view(-1, 1, 1, 1))).sum(1, keepdim=True).clamp(min=0).sqrt()

    return network, explain, images, explain(images, TARGETS), TARGETS


def test_is_the_definition(case):
    """A radius that changes some predictions; the layer is the one that is named."""
    network, explain, images, heatmaps, targets = case
    seen = []

    def watched(x, t):
        seen.extend(x)
        return explain(x, t)

    found = relative_stability(network, watched, *case[2:], layer="features", radius=0.8, samples=6, batch_size=4)
    changed = 0
    for i, image in enumerate(images):
        near = [y.numpy() for y in seen[i * 6 : i * 6 + 6]]

        def run(part, y):
            return part(torch.from_numpy(y)[None])[0].detach().numpy()

        def predict(y, i=i):
            return run(network, y).argmax() == network(images)[i].argmax()

        def again(y, t=targets[i : i + 1]):
            return explain(torch.from_numpy(y)[None], t)[0, 0].numpy()

        changed += sum(not predict(y) for y in near)
        common = (again, heatmaps[i, 0].numpy(), near, predict)
        parts = {
            "input": (),
            "output": (lambda y: run(network, y),),
            "representation": (lambda y: run(network.features, y),),
        }
        for name, part in parts.items():
            slow = next(TWINS[f] for f in TWINS if f.__name__ == f"relative_{name}_stability")
            assert getattr(found, name)[i].item() == pytest.approx(slow(*common, *part, image.numpy())), name
    assert 0 < changed < 18


def test_undefined(case):
    """Maps without a value; a model that does not move, or always says something else; no layers in a function."""
    network, explain, images, heatmaps, targets = case
    heatmaps = torch.cat([heatmaps[:1], 0 * heatmaps[:1], heatmaps[:1] * torch.nan])
    odd = relative_stability(network, explain, images[[0, 0, 0]], heatmaps, targets[[0, 0, 0]], layer="features")
    assert torch.stack([*odd]).isnan().tolist() == [[False, True, True]] * 3
    still = relative_stability(lambda x: torch.zeros(len(x), 3), explain, *case[2:])
    assert [part.isnan().all().item() for part in still] == [False, True, True]
    other = relative_stability(lambda x: flip(x, images), explain, *case[2:])
    assert torch.stack([*other]).isnan().all()
    with pytest.raises(ValueError, match="`layer` must be one of features, head, but got 'body'"):
        relative_stability(network, explain, *case[2:], layer="body")


def flip(x, images):
    """Class 0 for the images themselves, class 1 for all others."""
    known = torch.tensor([any(torch.equal(image, y) for y in images) for image in x])
    return torch.stack([known, ~known], 1).double()


def test_images_near_are_explained_once_for_all(explained):
    asked = []

    def explain(images, targets):
        asked.extend(images)
        return explained.explain(images, targets)

    e = replace(explained, explain=explain)
    values = {name: METRICS[name].score(e) for name in (*NAMES, "max_sensitivity")}
    assert len(asked) == 10 * len(e.images)
    alone = METRICS["max_sensitivity"].score(replace(explained))
    assert torch.equal(values["max_sensitivity"], alone)
    assert all((values[name] > 0).all() for name in NAMES)


def test_another_class_is_another_question():
    explain = Remembered(lambda x, t: x[:, :1].abs() * t.view(-1, 1, 1, 1))
    images = torch.ones(2, 3, 2, 2)
    assert explain(images, torch.tensor([1, 2])).flatten(1).tolist() == [[1.0] * 4, [2.0] * 4]
