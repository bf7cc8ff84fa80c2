"""Objectives from command line words: a line of TRAININGS, and ``NAME=VALUE`` options that change it."""

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from sibx._checks import check_choice, look_up, require
from sibx.objectives import (
    CKA,
    HSIC,
    Fraction,
    Frozen,
    Given,
    GradNorm,
    GroupDROConfig,
    GuidanceConfig,
    Online,
    Share,
    Shuffled,
    SIBConfig,
    Variance,
)
from sibx.train import TRAININGS
from sibx.train.trainings import Layers

Settings = SIBConfig | GuidanceConfig | GroupDROConfig | None

PARTS = {
    kind.__name__.lower(): kind for kind in (Given, Frozen, Online, HSIC, CKA, Variance, Fraction, GradNorm, Share)
}
OF_PARTS = ("masks", "foreground", "background", "balance")  # fields of SIBConfig that hold a part


def build_objective(training: str, options: Sequence[str]) -> Settings:
    """Return the objective of a training with fields replaced by ``NAME=VALUE`` options; values are JSON or words.

    A field of a part is named with a dot (``background.weight=2``). A part is replaced by its name (``foreground=cka``,
    ``balance=gradnorm``, ``background=none``). Own masks are read at the first of the ``layers`` where the training
    says so.

    Args:
        training: key of TRAININGS.
        options: words ``NAME=VALUE``.

    Raises:
        ValueError: an unknown name or field, a value that the field refuses, or options for a training without an
            objective.
    """
    read = [_read_option(option) for option in options]
    named: Any = [value for name, value in read if name == "layers" and isinstance(value, dict)]
    layers: Layers = named[-1] if named else "auto"
    settings: Any = look_up("training", training, TRAININGS).at(layers).objective
    require(settings is not None or not options, "objective_options", f"be left out for {training}", list(options))
    for path, value in read:
        try:
            settings = _changed(settings, path.split("."), value)
        except (TypeError, AttributeError) as error:  # for example a word instead of a number
            rule = f"`objective_options` must have values of the fields' types, but got '{path}={value}'."
            raise ValueError(rule) from error
    found: Settings = settings
    return found


def _read_option(option: str) -> tuple[str, Any]:
    name, equals, text = option.partition("=")
    require(bool(equals), "objective_options", "be written NAME=VALUE", option)
    try:
        return name.replace("-", "_"), json.loads(text)
    except json.JSONDecodeError:
        return name.replace("-", "_"), text


def _changed(settings: Any, path: Sequence[str], value: Any) -> Any:
    """Return the settings with the field at a dotted path replaced."""
    name, *rest = path
    known = [f.name for f in fields(settings) if f.name not in ("method", "rule")] if is_dataclass(settings) else []
    check_choice("objective_options", name, tuple(known))
    if rest:
        value = _changed(getattr(settings, name), rest, value)
    elif name in OF_PARTS:
        value = _part(name, value)
    return replace(settings, **{name: value})


def _part(name: str, word: Any) -> Any:
    """Return the part that a word names: ``cka``, ``none``, ``shuffled-given``."""
    shuffled, _, kind = str(word).rpartition("-")
    check_choice(name, kind, (*PARTS, "none"))
    part: Any = None if kind == "none" else PARTS[kind]()
    return Shuffled(part) if shuffled == "shuffled" else part
