"""A model that is lent to a device comes back, whatever happens there."""

import pytest
import torch
from torch import nn

from sibx import evaluate, evaluate_reliance, evaluate_robustness
from sibx.datasets import InMemoryDataset
from sibx.models import TinyCNN
from sibx.report import make_gallery
from sibx.runs import pick_device, placed

FAR, HERE = torch.device("cuda", 3), torch.device("cpu")


class Far(nn.Parameter):
    """Weights on the CPU that say they are on another device."""

    device = FAR


class Traveler(TinyCNN):
    """A network whose weights say that they are far away; it goes nowhere, but notes where it is sent."""

    def __init__(self):
        super().__init__(8, width=4)
        self.route = []
        for module in self.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, Far(parameter.data))

    def to(self, device):
        self.route.append(torch.device(device))
        return self


@pytest.fixture
def few(shapes):
    return InMemoryDataset.load(shapes, range(2))


EXPLAINED = {"methods": ["saliency"], "metrics": ["iou"]}
CALLS = {
    "evaluate": lambda model, data: evaluate(model, data, **EXPLAINED, device="cpu", progress=False),
    "evaluate_reliance": lambda model, data: evaluate_reliance(model, data, device="cpu", progress=False),
    "evaluate_robustness": lambda model, data: evaluate_robustness(
        model, data, attacks=[], severities=[1], device="cpu", progress=False
    ),
    "make_gallery": lambda model, data: make_gallery({"ce": model}, data, methods=["saliency"], device="cpu"),
}


@pytest.mark.parametrize("call", CALLS)
def test_evaluations_bring_the_model_back(call, few):
    model = Traveler().train()
    assert pick_device(model, None) == FAR
    CALLS[call](model, few)
    assert model.route == [HERE, FAR]
    assert model.training


@pytest.mark.parametrize("call", CALLS)
def test_after_an_exception_too(call, few):
    class Broken(Traveler):
        def forward(self, images):
            raise RuntimeError("no passage")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="no passage"):
        CALLS[call](model, few)
    assert model.route == [HERE, FAR]
    assert model.training


def test_a_move_that_fails_is_undone():
    class Stuck(Traveler):
        def to(self, device):
            super().to(device)
            if self.route == [HERE]:
                raise RuntimeError("out of memory")

    model = Stuck()
    with pytest.raises(RuntimeError, match="out of memory"), placed(model, HERE):
        pass
    assert model.route == [HERE, FAR]


def test_parts_on_several_devices_go_back_each(monkeypatch):
    """The outer ones first, for they take the inner ones along; one without weights and buffers has no home."""
    inner, norm = nn.Sequential(nn.ReLU(), Traveler()), nn.BatchNorm1d(2, affine=False)
    norm._buffers["running_mean"] = Far(norm.running_mean, requires_grad=False)
    whole = nn.Sequential(nn.Linear(2, 2), inner, norm)
    moved = []
    monkeypatch.setattr(nn.Module, "to", lambda module, device: moved.append((module, torch.device(device))))
    with placed(whole, "meta"):
        assert moved == [(whole, torch.device("meta"))]
    assert moved[1] == (whole[0], HERE)
    assert moved[-1] == (norm, FAR)
    assert {device for module, device in moved[2:]} == {FAR}
    assert not {id(m) for m, _ in moved} & {id(inner), id(inner[0])}


def test_the_same_tensors_come_back():
    """On one device nothing is copied: parameters, their gradients and buffers are the objects that they were."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model(torch.randn(4, 2)).sum().backward()
    before = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters())]
    with placed(model, "cpu"):
        pass
    after = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters())]
    assert all(a is b for a, b in zip(after, before, strict=True))


def test_functions_and_modules_without_weights_pass_through(few):
    with placed(torch.sin, "cuda:7"), placed(nn.ReLU(), "cpu"):
        assert torch.sin(torch.zeros(1)) == 0
    assert pick_device(torch.sin, None) == pick_device(nn.ReLU(), None) == HERE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("call", CALLS)
def test_back_from_a_gpu(call, few):
    model = TinyCNN(8, width=4).train()
    model(few[0].image[None].repeat(2, 1, 1, 1)).sum().backward()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with placed(model, "cuda"):
        assert {t.device.type for t in model.state_dict().values()} == {"cuda"}
        CALLS[call](model, few)  # there and back within
        assert {t.device.type for t in model.state_dict().values()} == {"cuda"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert {p.grad.device for p in model.parameters()} == {HERE}
