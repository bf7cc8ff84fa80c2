"""A model that knows what its numbers are, and gives one score per class, so that every class can be explained."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from sibx._outputs import Output, by_class

M = TypeVar("M")


class ByClass(nn.Module):
    """A model with one column per class: ``(-z, z)`` for a binary model's single logit z, else what the model returns.

    Layers keep the names that they have in the model (see ``unwrap``). Methods that need probabilities (RISE, the VJP
    with v = p) are told by it what the logits are. What is not (B, K) is passed on as it is.

    Args:
        model: the model, images -> logits (B, K).
        output: what the logits are, see ``sibx.models.Output``.

    Example:
        >>> binary = build_model("tiny_cnn", num_classes=1)
        >>> ByClass(binary)(torch.rand(3, 3, 32, 32)).shape
        torch.Size([3, 2])
    """

    def __init__(self, model: nn.Module, output: Output = "auto"):
        super().__init__()
        self.of_classes, self.output = model, output

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """Run the model and return the scores of its classes."""
        return _by_class(self.of_classes(*arguments, **options), self.output)


class FunctionByClass:
    """The same for a function."""

    def __init__(self, model: Callable[..., Tensor], output: Output = "auto"):
        self.of_classes, self.output = model, output

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run the function and return the scores of its classes."""
        return _by_class(self.of_classes(*arguments, **options), self.output)


def scored_by_class(model: Any, output: Output = "auto") -> Any:
    """Return a model, a module or a function, in the form of ``ByClass``.

    Args:
        model: the model, images -> logits (B, K).
        output: what the logits are.
    """
    return ByClass(model, output) if isinstance(model, nn.Module) else FunctionByClass(model, output)


def told_output(model: M, output: Output = "auto") -> tuple[M, Output]:
    """Return the model itself and what its logits are: what a ``ByClass`` says of its model, else what is given.

    Args:
        model: the model, a module or a function.
        output: what the logits are of a model that does not say it.
    """
    if isinstance(model, ByClass | FunctionByClass):
        inner: Any = model.of_classes
        return inner, model.output
    return model, output


def _by_class(scores: Any, output: Output) -> Any:
    return by_class(scores, output) if isinstance(scores, Tensor) and scores.ndim == 2 else scores
