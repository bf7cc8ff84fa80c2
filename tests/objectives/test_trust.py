"""Own masks of a model that does not know its labels, or that do not hold what its classes rest on, are warned of."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from sibx.attribution import TopShare
from sibx.datasets import InMemoryDataset, MaskedSample, SyntheticDataset
from sibx.objectives import Frozen, SIBConfig, self_masks
from sibx.objectives.own_masks.trust import Trust, trust_in, warn_of_distrust

CONFIG = replace(
    SIBConfig.recommended("self", layers={"0": 1.0}), masks=Frozen(TopShare(0.25), layer="0"), align="half_pixel"
)


class Quadrant(nn.Sequential):
    """Says class 1 where the upper left quarter is bright: the only pixels that matter."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 1, 4, 4, bias=False), nn.Flatten(), nn.Linear(16, 2))
        with torch.no_grad():
            self[0].weight.fill_(1 / 48)
            self[2].weight.zero_()
            self[2].bias.copy_(torch.tensor([2.0, -2.0]))
            self[2].weight[1, [0, 1, 4, 5]] = 2.0
            self[2].weight[0, [0, 1, 4, 5]] = -2.0


def data(n=24, wrong=0):
    """Images with a bright quarter for class 1; the last ``wrong`` labels are turned around."""
    samples = []
    for i in range(n):
        image = torch.zeros(3, 16, 16)
        image[:, :8, :8] = 2.0 * (i % 2)
        label = i % 2 if i < n - wrong else 1 - i % 2
        mask = torch.zeros(1, 16, 16, dtype=torch.bool)
        samples.append(MaskedSample(image=image, mask=mask, label=label, id=str(i), group=-1, undefined=mask))
    return InMemoryDataset(SyntheticDataset("train", 32, size=1), samples)


def test_a_model_that_knows_its_classes_is_trusted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masks = self_masks(Quadrant(), data(), config=CONFIG, progress=False)
    assert masks[1, 0, :8, :8].float().mean() > 0.9


def test_labels_at_chance():
    with pytest.warns(UserWarning, match="predicts the label of 12 of 24 images; .* would be right for 12"):
        self_masks(Quadrant(), data(wrong=12), config=CONFIG, progress=False)


@pytest.mark.parametrize(("right", "warned"), [(16, True), (17, False)])
def test_two_standard_errors(right, warned):
    """Of 24 images in equal halves chance is right for 12, with a standard error of 2.4."""
    hit = (torch.arange(24) < right).double()
    batch = Trust(hit, torch.arange(24) % 2, torch.ones(24), torch.zeros(24))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_distrust([batch])
    assert bool(caught) == warned


def test_masks_beside_what_matters():
    net, images = Quadrant(), torch.stack([data()[1].image] * 20)
    away = torch.zeros(20, 1, 16, 16, dtype=torch.bool)
    away[..., 8:, 8:] = True
    found = trust_in(net, images, torch.ones(20, dtype=torch.long), away, "auto")
    assert torch.allclose(found.inside.float(), net(torch.zeros_like(images)).softmax(1)[:, 1])
    assert torch.allclose(found.outside.float(), net(images).softmax(1)[:, 1])
    with pytest.warns(UserWarning, match=r"keeps a mean probability of 0\.02 from the masks alone, and of 1\.00 from"):
        warn_of_distrust([found._replace(right=found.right, labels=torch.arange(20) % 2)])


def test_few_images_and_foreign_labels_say_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        self_masks(Quadrant(), data(8, wrong=4), config=CONFIG, progress=False)
        foreign = Trust(torch.full((24,), torch.nan), torch.arange(24), torch.ones(24), torch.zeros(24))
        warn_of_distrust([foreign])
        warn_of_distrust([])
    images = torch.rand(3, 3, 16, 16)
    found = trust_in(Quadrant(), images, torch.tensor([5, 0, 1]), images[:, :1] > 0.5, "auto")
    assert found.right.isnan().all()
