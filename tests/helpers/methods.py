"""Every method of the table, quick enough for tests, and a small network that it can explain."""

from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from sibx.attribution import (
    IBA,
    IDGI,
    LIME,
    METHODS,
    RISE,
    XRAI,
    BlurIG,
    FeatureAblation,
    HSICAttribution,
    KernelSHAP,
    Occlusion,
    ShapleySampling,
    build_method,
)
from sibx.models import TinyCNN, TinyViT

HERE = [name for name in METHODS if name != "lrp" or find_spec("zennit")]  # what is installed for them
SEEN = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))  # images that methods are fitted to

LAVISH = {
    "occlusion": lambda model: Occlusion(model, window=0.5),
    "blur_ig": lambda model: BlurIG(model, steps=4),
    "idgi": lambda model: IDGI(model, steps=4),
    "rise": lambda model: RISE(model, masks=30),
    "xrai": lambda model: XRAI(model, steps=2),
    "hsic": lambda model: HSICAttribution(model, samples=12, cells=3),
    "lime": lambda model: LIME(model, samples=12, count=4),
    "kernel_shap": lambda model: KernelSHAP(model, samples=12, count=4),
    "feature_ablation": lambda model: FeatureAblation(model, count=4),
    "shapley_sampling": lambda model: ShapleySampling(model, orders=2, count=4),
}


def build(name, model, seen=SEEN):
    """The method of the table; those that run the model often do so less; one that needs it has seen images."""
    if name == "iba":
        weight = next(model.parameters())
        return IBA(model, steps=2, copies=2).fit(seen.to(weight))
    return LAVISH[name](model) if name in LAVISH else build_method(name, model)


def quick_spec(name):
    """The line of the table, of a method that does not run the model often."""
    spec = METHODS[name]
    return replace(spec, build=lambda model, _: LAVISH[name](model)) if name in LAVISH else spec


@contextmanager
def quick_table():
    """Let the lines of the table be quick; what is asked for by name, or as "all", is then no longer slow."""
    with pytest.MonkeyPatch.context() as patch:
        for name in LAVISH:
            patch.setitem(METHODS, name, quick_spec(name))
        yield


class OfModules(nn.Sequential):
    """A small CNN in which every step is a module, as in VGG, which the rules of LRP belong to."""

    def __init__(self, width=8, bias=True, norm=True):
        def block(inside, outside):
            normalize = [nn.BatchNorm2d(outside)] if norm else []
            return [nn.Conv2d(inside, outside, 3, padding=1, bias=bias), *normalize, nn.ReLU(), nn.MaxPool2d(2)]

        super().__init__()
        self.features = nn.Sequential(*block(3, width), *block(width, 2 * width))
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(2), nn.Flatten()
        self.classifier = nn.Linear(8 * width, 5, bias=bias)


def network_for(name, width=8):
    """A small CNN, with modules for the methods that rewrite them; a transformer for those that read attention."""
    torch.manual_seed(0)
    if name in METHODS and METHODS[name].kind == "attention":
        return TinyViT(num_classes=5, width=16, depth=2, heads=2).eval()
    if name == "lrp":
        return OfModules(width).eval()
    activation = "relu" if name in ("guided_backprop", "guided_gradcam", "deeplift") else "silu"
    return TinyCNN(num_classes=5, width=width, activation=activation).eval()
