"""Every method of the table, quick enough for tests, and a small network that it can explain."""

import torch

from sibx.attribution import (
    IBA,
    LIME,
    METHODS,
    RISE,
    XRAI,
    FeatureAblation,
    HSICAttribution,
    KernelSHAP,
    ShapleySampling,
    build_method,
)
from sibx.models import TinyCNN, TinyViT

SEEN = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))  # images that methods are fitted to

DRAWING = {
    "rise": lambda model: RISE(model, masks=30),
    "xrai": lambda model: XRAI(model, steps=2),
    "hsic": lambda model: HSICAttribution(model, samples=12, cells=3),
    "lime": lambda model: LIME(model, samples=12, count=4),
    "kernel_shap": lambda model: KernelSHAP(model, samples=12, count=4),
    "feature_ablation": lambda model: FeatureAblation(model, count=4),
    "shapley_sampling": lambda model: ShapleySampling(model, orders=2, count=4),
}


def build(name, model, seen=SEEN):
    """The method of the table; those that draw a lot with few draws, to be quick; one that needs it has seen images."""
    if name == "iba":
        weight = next(model.parameters())
        return IBA(model, steps=2, copies=2).fit(seen.to(weight))
    return DRAWING[name](model) if name in DRAWING else build_method(name, model)


def network_for(name, width=8):
    """A small CNN, with ReLU modules for the methods that rewrite them; a transformer for those that read attention."""
    torch.manual_seed(0)
    if name in METHODS and METHODS[name].kind == "attention":
        return TinyViT(num_classes=5, width=16, depth=2, heads=2).eval()
    activation = "relu" if name in ("guided_backprop", "guided_gradcam", "deeplift") else "silu"
    return TinyCNN(num_classes=5, width=width, activation=activation).eval()
