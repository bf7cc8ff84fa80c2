"""Any model's scores: what a model returns as scores (B, K), contrasts of them, and the model inside its wrappers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sibx._checks import check_choice, check_integer, check_range, describe, output_kind, require
from sibx.models.classes import ByClass


class Scored(nn.Module):
    """A model whose output is read as scores (B, K), so that every method, metric and loss can use it.

    Layers keep the names that they have in the model (see ``unwrap``).

    Args:
        model: the model, which may return anything: an output of Hugging Face, a dict, a tuple, a dataclass, features.
        scores: what the scores are: the name of a field of the output (``"logits"``), its position (``0``), or a
            function of the output. One value per row (B,) is one column (B, 1).

    Raises:
        ValueError: in the forward pass: an output without that field or position, or scores that are not floating
            point (B, K) or (B,).

    Example:
        A model that returns a dict, similarity to an embedding, and the mean score of a region in a segmentation:

        >>> images = torch.rand(2, 3, 32, 32)
        >>> features = torch.nn.Conv2d(3, 8, kernel_size=4, stride=4)
        >>> class Detailed(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.features = features
        ...     def forward(self, images):
        ...         maps = self.features(images)
        ...         return {"maps": maps, "logits": maps.mean((2, 3))}
        >>> Scored(Detailed(), "logits")(images).shape
        torch.Size([2, 8])
        >>> embedding = torch.rand(8)
        >>> similar = Scored(
        ...     Detailed(), lambda output: torch.cosine_similarity(output["logits"], embedding)
        ... )
        >>> similar(images).shape
        torch.Size([2, 1])
        >>> region = torch.zeros(8, 8)
        >>> region[:4] = 1
        >>> upper_half = Scored(features, lambda maps: (maps * region).sum((2, 3)) / region.sum())
        >>> upper_half(images).shape
        torch.Size([2, 8])
    """

    def __init__(self, model: Callable[..., Any], scores: str | int | Callable[[Any], Tensor]):
        super().__init__()
        require(callable(model), "model", "be a module or a function", model)
        readable = callable(scores) or (isinstance(scores, str | int) and not isinstance(scores, bool))
        require(readable, "scores", "be a name, a position or a function of the model's output", scores)
        self.model, self.scores = model, scores

    def forward(self, *inputs: Any, **options: Any) -> Tensor:
        """Return scores (B, K); the arguments are the model's."""
        output = self.model(*inputs, **options)
        scores = self.scores(output) if callable(self.scores) else _pick(output, self.scores)
        good = isinstance(scores, Tensor) and scores.ndim in (1, 2) and scores.is_floating_point()
        if not good:
            rule = "give floating-point scores of shape (B, K) or (B,)"
            raise ValueError(f"`scores` must {rule}, but got {_kind(scores)}.")
        return scores if scores.ndim == 2 else scores.unsqueeze(1)

    def extra_repr(self) -> str:
        """Say how the scores are read; a function of the caller's goes by its name."""
        if isinstance(self.scores, nn.Module):
            return f"scores={type(self.scores).__qualname__}"
        return f"scores={getattr(self.scores, '__qualname__', repr(self.scores))}"


def readings(model: nn.Module) -> dict[str, str]:
    """Return how the scores are read in every Scored of a model, by its name: the weights do not tell it."""
    return {name or "scores": m.extra_repr() for name, m in model.named_modules() if isinstance(m, Scored)}


def _pick(output: Any, key: str | int) -> Any:
    """Return a field of an output by its name or its position."""
    fields = _fields(output)
    values = list(output) if isinstance(output, tuple | list) else list(fields.values())
    rule = f"be a function for a model that returns {_kind(output)}"
    if isinstance(key, str):
        require(bool(fields), "scores", rule, key)
        check_choice("scores", key, tuple(map(str, fields)))
        return fields[key]
    require(bool(values), "scores", rule, key)
    require(-len(values) <= key < len(values), "scores", f"be a position among the output's {len(values)} parts", key)
    return values[key]


def _kind(output: object) -> str:
    return describe(output) if isinstance(output, Tensor) else f"a {type(output).__name__}"


def _fields(output: Any) -> dict[str, Any]:
    """Return the named parts of an output: a mapping (as Hugging Face's outputs are), a named tuple, an object."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple):
        return output._asdict() if hasattr(output, "_asdict") else {}
    return {} if isinstance(output, Tensor) else dict(getattr(output, "__dict__", {}))


def contrast(model: Callable[..., Any], against: int | Sequence[int], weight: float = 1.0) -> Scored:
    """Return the model with contrasted scores: why this class and not those.

    The score of class t becomes ``z_t - weight * mean(z_a)`` over the classes a in ``against``; every method then
    explains this difference. All columns lose the same number, so the probabilities of a softmax, and the predicted
    class, are the model's own: what looks at them (RISE, deletion, the cotangent ``"probability"``) does not change.

    Args:
        model: the model, images -> logits (B, K); another output is read by ``Scored`` first.
        against: index of the class, or indices of the classes, to compare with.
        weight: how much of their mean score is subtracted; 0 = the model's own scores.

    Raises:
        ValueError: no class, or one that the model does not have.

    Source: Zhang et al., arXiv 2501.11309 (there for CAMs, with weight 0.6).

    Example:
        >>> model, images = build_model("tiny_cnn", num_classes=5).eval(), torch.rand(2, 3, 32, 32)
        >>> rather_0_than_3 = contrast(model, against=3)
        >>> GradCAM(rather_0_than_3).attribute(images, target=0).shape
        torch.Size([2, 1, 32, 32])
    """
    classes = (against,) if isinstance(against, int) else tuple(against)
    require(bool(classes), "against", "name at least one class", against)
    for index in classes:
        check_integer("against", index, 0)
    check_range("weight", weight, -float("inf"))
    return Scored(model, _Contrast(classes, weight))


@dataclass(frozen=True, slots=True)
class _Contrast:
    """Scores of the classes minus the mean score of some of them; a class, so that it can be pickled."""

    against: tuple[int, ...]
    weight: float

    def __call__(self, logits: Tensor) -> Tensor:
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ValueError(f"`model` must return logits of shape (B, K), but got {output_kind(logits)}")
        classes = logits.shape[1]
        require(max(self.against) < classes, "against", f"lie in 0..{classes - 1}, the model's classes", self.against)
        return logits - self.weight * logits[:, list(self.against)].mean(1, keepdim=True)


# Wrappers and the attribute that holds the wrapped model.
WRAPPERS: dict[type[nn.Module], str] = {
    nn.DataParallel: "module",
    nn.parallel.DistributedDataParallel: "module",
    AveragedModel: "module",
    Scored: "model",
    ByClass: "of_classes",
}
# Compiled models and frameworks are recognized by attributes that only they have: they need not be installed.
ATTRIBUTES = ("_orig_mod", "_forward_module")


def unwrap(model: nn.Module) -> nn.Module:
    """Return the innermost model: inside DataParallel, DDP, ``torch.compile``, Fabric, ``Scored`` and ``ByClass``.

    Names of layers are always those of this innermost model: ``"layer4"``, not ``"module.layer4"``. A model that is not
    wrapped is returned as it is; frameworks that only change its ``forward`` (accelerate) do not wrap it.

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
    held = (attribute for kind, attribute in WRAPPERS.items() if isinstance(model, kind))
    return next((model._modules[name] for name in (*held, *ATTRIBUTES) if name in model._modules), None)
