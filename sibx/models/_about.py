"""What is known of a model beside its weights: what a model file tells, and what a model that was built carries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from torch import Tensor, nn

from sibx._checks import require
from sibx._outputs import Output
from sibx.images.normalization import Normalization, Unchanged
from sibx.models.scored import unwrap

CARRIED = "about"  # attribute of a model, an ordinary one, which copies keep and weights do not have
MOST = 1_000_000  # scores of a model that a file may ask for


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is known of a model; None = unknown.

    Attributes:
        model: key of MODELS, ``timm/<name>`` or ``hf/<name>``, by which ``build_model`` builds it.
        scores: number of its outputs K.
        classes: names of its classes.
        normalization: the normalization of the images that it was trained on.
        image_size: side of its images in pixels.
        output: what its logits are.
    """

    model: str | None = None
    scores: int | None = None
    classes: tuple[str, ...] | None = None
    normalization: Normalization | None = None
    image_size: int | None = None
    output: Output = "auto"

    def to_plain(self) -> dict[str, Any]:
        """Return it in values that a file can hold."""
        channels = self.normalization
        return {
            "model": self.model,
            "scores": self.scores,
            "normalization": channels and {"mean": list(channels.mean), "std": list(channels.std)},
            "image_size": self.image_size,
            "output": self.output,
        }

    @classmethod
    def read(cls, plain: Mapping[str, Any], classes: tuple[str, ...] | None, argument: str = "path") -> "About":
        """Return what a file says, checked: a file may come from anywhere.

        Raises:
            ValueError: a value of another kind.
        """
        model, scores, size = plain.get("model"), plain.get("scores"), plain.get("image_size")
        output: Any = plain.get("output") or "auto"
        channels = plain.get("normalization")
        good = {
            "model": model is None or isinstance(model, str),
            "scores": scores is None or _is_count(scores, MOST),
            "image_size": size is None or _is_count(size, MOST),
            "output": output in get_args(Output),
            "normalization": channels is None or _are_channels(channels),
        }
        wrong = [name for name, fine in good.items() if not fine]
        require(not wrong, argument, f"hold a {' and a '.join(wrong)} of the right kind", {n: plain[n] for n in wrong})
        known = channels and Normalization(tuple(channels["mean"]), tuple(channels["std"]))
        normalization = known if known is None or known.mean else Unchanged()  # no list of channels: as they are
        return cls(
            model=model, scores=scores, classes=classes, normalization=normalization, image_size=size, output=output
        )


def about(model: Callable[[Tensor], Tensor]) -> About:
    """Return what is known of a model that ``build_model`` or ``load_model`` returned, or of a wrapper of it.

    Of another model, or a function, nothing is known.

    Example:
        >>> about(build_model("tiny_cnn", num_classes=5)).model
        'tiny_cnn'
    """
    found = vars(unwrap(model)).get(CARRIED) if isinstance(model, nn.Module) else None
    return found or About()


def carry(model: nn.Module, known: About) -> nn.Module:
    """Return the model, which carries what is known of it."""
    vars(model)[CARRIED] = known  # past Module, which looks at every value
    return model


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _are_channels(value: object) -> bool:
    lists = [value.get("mean"), value.get("std")] if isinstance(value, Mapping) else [None]
    numbers = all(isinstance(part, list) and all(isinstance(v, int | float) for v in part) for part in lists)
    if not numbers:
        return False
    try:
        Normalization(*map(tuple, lists))  # type: ignore[arg-type]
    except ValueError:
        return False
    return True
