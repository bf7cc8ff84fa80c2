"""What identifies a model whose scores were interrupted, and what its rows are called."""

from collections.abc import Mapping

from torch import nn

from sibx.datasets.base import MaskedDataset
from sibx.models.scored import readings
from sibx.runs.identity import digest


def identify_model(model: object) -> dict[str, str]:
    """Return what identifies a model, in plain values: a function is known by its name only."""
    if not isinstance(model, nn.Module):
        return {"name": name_of(model)}
    return {"name": type(model).__qualname__, "weights": digest(model.state_dict())} | readings(model)


def given_labels(columns: Mapping[str, str], data: MaskedDataset) -> dict[str, str]:
    """Return the columns that hold one value in all rows, but for those that are the data set's own."""
    own = {"dataset": data.name, "split": data.split}
    return {name: value for name, value in columns.items() if own.get(name) != value}


def name_of(thing: object) -> str:
    """Return the name of a function, or of the class of anything else."""
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))
