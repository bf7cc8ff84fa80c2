"""Image classifiers of Hugging Face's transformers, with a head for your classes."""

from typing import Any

from torch import nn

from sibx._checks import require
from sibx.models.scored import Scored
from sibx.models.zoo import read_weights


def build_hugging_face(name: str, num_classes: int, weights: str | None = None) -> nn.Module:
    """Build an image classifier of transformers with ``num_classes`` outputs; needs the extra ``hf``.

    Its layers keep the names that they have in the model of transformers, which is ``unwrap(model)``.

    Args:
        name: name of the model on the Hugging Face hub, or a folder that ``save_pretrained`` wrote.
        num_classes: number of classes K of the head.
        weights: None = random weights for the model's configuration; ``"default"`` = the weights that lie beside it;
            otherwise the path of a state dict. If they are for another number of classes, the head is new.

    Raises:
        ImportError: transformers is not installed.
        OSError: there is no such model, or its files cannot be had.
        ValueError: it is no image classifier, the file of weights is missing, or it does not fit the model.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"hf/{name} needs transformers: pip install 'sibx[hf]'") from error
    maker: Any = transformers.AutoModelForImageClassification
    if weights == "default":
        model = maker.from_pretrained(name, num_labels=num_classes, ignore_mismatched_sizes=True)
        return Scored(model.train(), "logits")  # in train mode, as all models are built
    config = transformers.AutoConfig.from_pretrained(name, num_labels=num_classes)
    config.architectures = config.architectures or []  # a configuration saved on its own names none
    model = maker.from_config(config)
    if weights is not None:
        _fill(model, weights, name, num_classes)
    return Scored(model, "logits")


def _fill(model: nn.Module, weights: str, name: str, num_classes: int) -> None:
    """Load a state dict; the head, which has a row per class, stays new if it is there for another number of them."""
    own, state = model.state_dict(), read_weights(weights)
    others = {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape}
    are_head = all(own[k].shape[0] == num_classes and own[k].shape[1:] == state[k].shape[1:] for k in others)
    fits = own.keys() == state.keys() and are_head
    require(fits, "weights", f"hold a state dict of hf/{name}", weights)
    model.load_state_dict({k: own[k] if k in others else v for k, v in state.items()})
