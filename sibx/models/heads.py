"""The head of a classifier: the weights that make its scores, found by what happens when it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import require
from sibx.models.differentiable import uncompiled
from sibx.models.finding import image_for
from sibx.models.layers import eval_mode
from sibx.models.scored import unwrap
from sibx.models.trace import tensors_in


def head_parameters(model: nn.Module, images: Tensor | None = None) -> list[nn.Parameter]:
    """Return the parameters of the head, in the model's order: of the last matrices on all ways to the scores.

    The model runs once, in eval mode, and the result depends on nothing else: the head may be a linear layer, a
    convolution, or a matrix that the model multiplies with; a distilled transformer has two.

    Args:
        model: the model, images -> scores.
        images: images (B, C, H, W), of which the first is used; None = noise of the model's own size.

    Raises:
        ValueError: no matrix of the model makes its scores.

    Example:
        >>> [tuple(p.shape) for p in head_parameters(build_model("tiny_cnn", num_classes=5))]
        [(5, 64), (5,)]
    """
    names = _names(model, image_for(unwrap(model), None) if images is None else images[:1])
    require(bool(names), "model", "make its scores by a matrix, the head", type(model).__name__)
    return [p for name, p in model.named_parameters() if name in names]


def head_module(model: nn.Module, images: Tensor | None = None) -> nn.Linear:
    """Return the linear layer that is the head.

    Args:
        model: the model, images -> scores.
        images: images (B, C, H, W), of which the first is used; None = noise of the model's own size.

    Raises:
        ValueError: the head is something else, or several layers.
    """
    names = _names(model, image_for(unwrap(model), None) if images is None else images[:1])
    owners = sorted({name.rpartition(".")[0] for name in names})
    head = model.get_submodule(owners[0]) if len(owners) == 1 else None
    got = [f"{o}: {type(model.get_submodule(o)).__name__}" for o in owners]
    require(isinstance(head, nn.Linear), "model", "have one linear layer at its end", got or type(model).__name__)
    assert isinstance(head, nn.Linear)
    return head


def _names(model: nn.Module, image: Tensor) -> set[str]:
    """Return the names of the head's parameters."""
    exact = torch.autocast(image.device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), exact, eval_mode(model), uncompiled(), _all_learn(model):
        leaf = image.detach().clone().requires_grad_()
        ends = [t.grad_fn for t in tensors_in(model(leaf)) if t.grad_fn is not None]
    named = {id(p): name for name, p in model.named_parameters()}
    return {named[id(w)] for w in _last_weights(ends, leaf) if id(w) in named}


@contextmanager
def _all_learn(model: nn.Module) -> Iterator[None]:
    """Within the block frozen parameters are in autograd's graph, too."""
    frozen = [p for p in model.parameters() if p.is_floating_point() and not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _last_weights(ends: list[Any], leaf: Tensor) -> Iterator[Tensor]:
    """Yield the weights of the last steps of a graph that bring a matrix, not only vectors, to what the image makes.

    Args:
        ends: nodes of autograd's graph.
        leaf: the image.
    """
    below = _leaves_below(ends)
    waiting, seen = list(ends), set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            weights = [w for part in _parts(node) if id(leaf) not in below[part] for w in below[part].values()]
            if any(w.ndim > 1 for w in weights):
                yield from weights
            else:
                waiting += _parts(node)


def _leaves_below(ends: list[Any]) -> dict[Any, dict[int, Tensor]]:
    """Return the leaves that every node of a graph depends on, by their id."""
    below: dict[Any, dict[int, Tensor]] = {}
    waiting = list(ends)
    while waiting:
        node = waiting[-1]
        missing = [part for part in _parts(node) if part not in below]
        if missing and node not in below:
            waiting += missing
            continue
        waiting.pop()
        variable = getattr(node, "variable", None)
        own = {} if variable is None else {id(variable): variable}
        below[node] = own | {key: value for part in _parts(node) for key, value in below[part].items()}
    return below


def _parts(node: Any) -> list[Any]:
    """Return the nodes that a node's inputs come from."""
    return [part for part, _ in node.next_functions if part is not None]
