"""Perturbation curves: what they cost, what they share, and the scores that are read from them."""

import pytest
import torch

from sibx.datasets import Normalization
from sibx.metrics import Evidence
from sibx.metrics.probability import probability


class Counting:
    """A model that remembers the sizes of its passes."""

    def __init__(self, model):
        self.model, self.passes = model, []

    def __call__(self, images):
        self.passes.append(len(images))
        return self.model(images)


@pytest.fixture
def counting(model):
    return Counting(model.double())


@pytest.fixture
def evidence(counting, images):
    masks = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    return Evidence(
        heatmaps=torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)),
        masks=masks,
        undefined=masks,
        images=images.double(),
        targets=torch.tensor([0, 4, 2, 1]),
        model=counting,
        normalization=Normalization((0.5,) * 3, (0.25,) * 3),
        batch_size=3,
    )


class TestProbability:
    def test_is_the_softmax_of_the_target(self, counting, evidence):
        values = probability(counting, evidence.images, evidence.targets, 3)
        expected = counting.model(evidence.images).softmax(1)[range(4), evidence.targets]
        assert counting.passes == [3, 1]
        assert values.dtype == torch.float64
        assert not values.requires_grad
        assert not values.is_inference()
        assert torch.allclose(values, expected)

    def test_half_precision_logits_are_normalized_in_double(self, images):
        logits = torch.full((4, 3), 20.0, dtype=torch.float16)
        values = probability(lambda x: logits[: len(x)], images, torch.tensor([0, 1, 2, 0]))
        assert torch.allclose(values, torch.full((4,), 1 / 3, dtype=torch.float64))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"targets": torch.tensor([0])}, "`targets` must have 4 rows, one per image"),
            ({"targets": torch.tensor([0, 1, 2, 5])}, "`targets` must lie in 0..4"),
            ({"batch_size": 0}, "`batch_size` must be at least 1, but got 0"),
            ({"model": lambda x: x}, "`model` must return logits of shape"),
        ],
    )
    def test_errors(self, counting, evidence, change, message):
        good = {"model": counting, "images": evidence.images, "targets": evidence.targets}
        with pytest.raises(ValueError, match=message):
            probability(**{**good, **change})

    def test_evidence_runs_the_clean_images_once(self, counting, evidence):
        first = evidence.clean_probability
        assert evidence.clean_probability is first
        assert counting.passes == [3, 1]
        assert torch.equal(first, probability(counting, evidence.images, evidence.targets, 3))
