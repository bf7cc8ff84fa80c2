"""What metrics need that explain copies of the model with other parameters."""

from collections.abc import Callable

from torch import Tensor, nn

from sibx._checks import check_case
from sibx.metrics.explained import Explain, Explained

ExplainWith = Callable[[nn.Module], Explain]  # model -> function (images, targets) -> heatmaps


def rebuildable(e: Explained) -> tuple[nn.Module, ExplainWith]:
    """Return the model of what was explained, and what explains a copy of it.

    Raises:
        ValueError: ``explain_with`` was not given, or the model is no module.
    """
    if not isinstance(e.model, nn.Module) or e.explain_with is None:
        raise ValueError(
            "`explain_with` must be given, and the model be a torch.nn.Module: the metric explains copies of the model "
            "with other parameters, which methods of METHODS and specs can do and functions of your own cannot."
        )
    return e.model, e.explain_with


def check_module(model: object) -> None:
    """Require a module that has parameters."""
    good = isinstance(model, nn.Module) and any(True for _ in model.parameters())
    if not good:
        raise ValueError(f"`model` must be a torch.nn.Module with parameters, but got a {type(model).__name__}.")


def check_inputs(model: nn.Module, images: Tensor, heatmaps: Tensor, targets: Tensor) -> None:
    """Require such a module, images, and for each of them a heatmap and a target."""
    check_module(model)
    check_case(images, heatmaps, targets)
