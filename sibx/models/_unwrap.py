"""The model inside its wrappers: several devices, compilation, training frameworks, one column per class."""

from torch import nn

from sibx.models.classes import ByClass

# Wrappers that hold the wrapped model under one of these attributes. Compiled models and frameworks are recognized by
# attributes that only they have, so that they need not be installed.
ATTRIBUTES = ("_orig_mod", "_forward_module")
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside DataParallel, DistributedDataParallel, ``torch.compile``, Fabric, ``ByClass`` wrappers.

    Names of layers are always those of this innermost model: ``"layer4"``, not ``"module.layer4"``. A model that is not
    wrapped is returned as it is.

    Example:
        >>> model = build_model("tiny_cnn", num_classes=5)
        >>> unwrap(torch.nn.DataParallel(model)) is model
        True
    """
    inner = _inside(model)
    while inner is not None:
        model, inner = inner, _inside(inner)
    return model


def _inside(model: nn.Module) -> nn.Module | None:
    """Return the directly wrapped model, None for a model that wraps no other."""
    if isinstance(model, PARALLEL):
        return model.module
    if isinstance(model, ByClass):
        return model.of_classes
    return next((model._modules[name] for name in ATTRIBUTES if name in model._modules), None)
