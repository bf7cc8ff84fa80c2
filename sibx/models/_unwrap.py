"""Through what is put around a model: several devices, compilation, training frameworks."""

from torch import nn

# What holds the model it wraps under this attribute. Compiled models and frameworks are known by the attributes that
# they alone have, so that none of them has to be installed.
ATTRIBUTES = ("_orig_mod", "_forward_module")
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the innermost model: through DataParallel, DistributedDataParallel, ``torch.compile`` and Fabric.

    Names of layers are always those of the innermost model: ``"layer4"``, not ``"module.layer4"``. A model that is not
    wrapped is returned as it is.
    """
    inner = _inside(model)
    while inner is not None:
        model, inner = inner, _inside(inner)
    return model


def _inside(model: nn.Module) -> nn.Module | None:
    """What is directly wrapped."""
    if isinstance(model, PARALLEL):
        return model.module
    return next((model._modules[name] for name in ATTRIBUTES if name in model._modules), None)
