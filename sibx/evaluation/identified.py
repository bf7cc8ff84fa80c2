"""What identifies a model whose scores were interrupted."""

from torch import nn

from sibx.models.scored import readings
from sibx.runs.identity import digest


def identify_model(model: object) -> dict[str, str]:
    """Return what identifies a model, in plain values: a function is known by its name only."""
    if not isinstance(model, nn.Module):
        return {"name": name_of(model)}
    return {"name": type(model).__qualname__, "weights": digest(model.state_dict())} | readings(model)


def name_of(thing: object) -> str:
    """Return the name of a function, or of the class of anything else."""
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))
