"""SIBLoss around its formulas: calling modes, precision, transformers, alignment, balance, and its warning."""

import pytest
import torch
from torch import nn

from sibx.models import TinyCNN
from sibx.train import SIBConfig, SIBLoss

CONFIGS = {"published": SIBConfig.published(), "given": SIBConfig.recommended("given")}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 32, 32, dtype=torch.float64, generator=generator)
    masks = torch.zeros(6, 1, 32, 32, dtype=torch.bool)
    masks[:, :, 8:24, 4:20] = True
    return images, torch.tensor([0, 1, 2, 3, 4, 0]), masks


@pytest.fixture
def net():
    torch.manual_seed(1)
    return TinyCNN(num_classes=5, width=8, norm="group").double()


def assert_same(a, b):
    for name, value in a._asdict().items():
        assert torch.equal(value.nan_to_num(), getattr(b, name).nan_to_num()), name


class TestModes:
    """R is a gradient, so the terms need a graph even where the caller asks for none."""

    @every_config
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_without_gradients_the_terms_are_the_same(self, batch, net, config, mode):
        expected = SIBLoss(config)(net, *batch)
        assert expected.background > 0
        with mode():
            terms = SIBLoss(config)(net, *(t.clone() for t in batch))
            assert not torch.is_grad_enabled()
        assert_same(terms, expected)
        assert not terms.total.requires_grad
        assert not terms.total.is_inference()

    @pytest.mark.parametrize("frozen", ["features", ""], ids=["features", "everything"])
    def test_frozen_weights(self, batch, net, frozen):
        expected = SIBLoss(CONFIGS["given"])(net, *batch)
        net.get_submodule(frozen).requires_grad_(False)
        terms = SIBLoss(CONFIGS["given"])(net, *batch)
        assert_same(terms, expected)
        if frozen:
            terms.total.backward()
            assert net.classifier.weight.grad.any()

    def test_a_model_without_one_tensor_of_logits(self, batch):
        class Tuple(nn.Module):
            def __init__(self):
                super().__init__()
                self.features = nn.Conv2d(3, 4, 3, padding=1).double()

            def forward(self, images):
                return self.features(images), 0

        with pytest.raises(ValueError, match=r"`model` must return logits .* but got a tuple"):
            SIBLoss(CONFIGS["given"])(Tuple(), *batch)
