"""Trainings from command line words: a line of TRAININGS, and ``NAME=VALUE`` options that change it."""

import json
from collections.abc import Sequence
from typing import Any

from sibx._checks import look_up, require
from sibx.train import TRAININGS, TrainingSpec
from sibx.train.trainings import Layers


def build_training(training: str, options: Sequence[str]) -> TrainingSpec:
    """Return a training with fields of its objective or stages replaced by ``NAME=VALUE`` options.

    Values are JSON or words. A field of a part is named with a dot (``background.weight=2``). A part is replaced by its
    name (``foreground=cka``, ``balance=gradnorm``, ``background=none``). Own masks are read at the first of the
    ``layers`` where the training says so.

    Args:
        training: key of TRAININGS.
        options: words ``NAME=VALUE``.

    Raises:
        ValueError: an unknown name or field, a value that the field refuses, or options for a training without
            settings.
    """
    read = dict(_read_option(option) for option in options)
    named = read.get("layers")
    layers: Layers = named if isinstance(named, dict) else "auto"
    return look_up("training", training, TRAININGS).at(layers).changed(read, "objective_options")


def _read_option(option: str) -> tuple[str, Any]:
    name, equals, text = option.partition("=")
    require(bool(equals), "objective_options", "be written NAME=VALUE", option)
    try:
        return name.replace("-", "_"), json.loads(text)
    except json.JSONDecodeError:
        return name.replace("-", "_"), text
