"""A warning of models in train mode, whose maps depend on the other images of the batch, or on chance."""

import warnings
from weakref import WeakSet

from torch import nn

# Stochastic depth has no class in torch itself: torchvision's and timm's go by their names.
STOCHASTIC = ("StochasticDepth", "DropPath")
_WARNED: WeakSet[nn.Module] = WeakSet()


def warn_of_train_mode(model: object) -> None:
    """Warn once of a model with modules in train mode that act otherwise than in eval mode.

    Args:
        model: the model; a plain function says nothing about its modules.
    """
    if not isinstance(model, nn.Module) or model in _WARNED:
        return
    found = sorted({type(m).__name__ for m in model.modules() if m.training and _acts_otherwise(m)})
    if found:
        _WARNED.add(model)
        message = f"The model is in train mode: with {', '.join(found)} a map depends on the batch, or on chance"
        warnings.warn(f"{message}. Call model.eval() before explaining.", stacklevel=4)


def _acts_otherwise(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return True
    if isinstance(module, nn.RReLU):
        return module.lower < module.upper
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    drops = isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ in STOCHASTIC
    return drops and bool(getattr(module, "p", None) or getattr(module, "drop_prob", None))
