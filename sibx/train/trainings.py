"""The ways of training that are compared: the TRAININGS table.

To add a training: one line in TRAININGS. A training of your own is a TrainingSpec as well.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from torch import nn

from sibx._checks import check_choice, require
from sibx.attribution import TopShare
from sibx.datasets.base import MaskedDataset
from sibx.objectives import CKA, GUIDANCE, Frozen, Given, GroupDROConfig, GuidanceConfig, Online, Shuffled, SIBConfig
from sibx.objectives.config import first_feature_layer
from sibx.objectives.masks import Masks
from sibx.train.changes import changed, names_of
from sibx.train.dfr import RefitHead
from sibx.train.jtt import UpsampleErrors
from sibx.train.losses import Objective

Layers = Mapping[str, float] | Literal["auto"]
FIRST = "first"  # as the layer of Frozen masks in a spec: the first feature layer that is named
SHUFFLED = "-shuffled"  # how the name of a control ends


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """One line of the TRAININGS table.

    Attributes:
        name: key in the table, and value of the column ``training`` of results.
        title: what it is, for people.
        objective: what is learned beside the labels, as ``TrainConfig.objective``; None = nothing.
        masks: whose masks the objective gets; ``at`` puts them in the place of those that an SIBConfig has. None = it
            looks at none.
        control: name of the same training with the masks of other images; None = there is none.
        prepare: what is done before: function ``(data, learn) -> data`` to train on, where ``learn(epochs)`` trains a
            copy of the starting model by cross-entropy and returns it. None = nothing.
        finish: what is done after: function ``(trained model, validation data) -> model``. None = nothing.

    Example:
        >>> spec = TRAININGS["sib-self-cut"].at({"stage:-2": 1.0, "stage:-1": 1.0})
        >>> spec.objective.masks.layer, spec.control
        ('stage:-2', 'sib-self-cut-shuffled')
    """

    name: str
    title: str
    objective: Objective = None
    masks: Masks | None = None
    control: str | None = None
    prepare: Callable[[MaskedDataset, Callable[[int], nn.Module]], MaskedDataset] | None = None
    finish: Callable[[nn.Module, MaskedDataset], nn.Module] | None = None

    def at(self, layers: Layers = "auto") -> "TrainingSpec":
        """Return the training with its layers and masks filled in: its ``objective`` is what ``fine_tune`` takes.

        Args:
            layers: where S-IB takes its VJPs, layer name -> weight, unless the objective says so itself; ``"auto"`` =
                the last feature map. The starting model's own masks are read at the last layer named, or at the first
                one that is a feature layer, as the table says.
        """
        masks, objective = self.masks and _read_at(self.masks, first_feature_layer(layers)), self.objective
        if isinstance(objective, SIBConfig):
            layers = layers if objective.layers == "auto" else objective.layers
            objective = replace(objective, layers=layers, masks=masks or objective.masks)
        return replace(self, objective=objective, masks=masks)

    def changed(self, values: Mapping[str, Any], argument: str = "settings") -> "TrainingSpec":
        """Return the training with other values of its settings, those of its objective or of its stages.

        Args:
            values: dotted name -> value; for a field that holds a part the name of one.
            argument: what the caller calls them, for errors.

        Raises:
            ValueError: settings for a training that has none, an unknown name, or a value that is refused.

        Example:
            >>> TRAININGS["jtt"].changed({"factor": 50}).prepare
            UpsampleErrors(epochs=1, factor=50)
            >>> TRAININGS["sib"].changed({"background.weight": 3.0}).objective.background
            Fraction(weight=3.0)
        """
        spec, parts = self, ("objective", "prepare", "finish")
        known = tuple(name for part in parts for name in names_of(getattr(self, part)))
        require(bool(known) or not values, argument, f"be left out for {self.name}", sorted(values))
        for path, value in values.items():
            name, *rest = path.split(".")
            check_choice(argument, name, known)
            part = next(p for p in parts if name in names_of(getattr(self, p)))
            spec = replace(spec, **{part: changed(getattr(spec, part), [name, *rest], value, argument)})
        if isinstance(spec.objective, SIBConfig) and any(path.split(".")[0] == "masks" for path in values):
            return replace(spec, masks=spec.objective.masks)
        return spec

    def with_control(self) -> tuple["TrainingSpec", "TrainingSpec"]:
        """Return the training, and its control: the same with the masks of other images."""
        assert self.masks is not None
        assert not isinstance(self.masks, Shuffled)
        name = control_name(self.name)
        title = f"control of {self.name}: the same, every image with the mask of another one"
        control = replace(self, name=name, title=title, masks=Shuffled(self.masks))
        return replace(self, control=name), control

    @property
    def from_outside(self) -> bool:
        """Whether masks are handed to the objective with every batch."""
        return self.masks is not None and self.masks.from_outside

    @property
    def shuffled(self) -> bool:
        """Whether every image gets the mask of another one."""
        return isinstance(self.masks, Shuffled)

    @property
    def reading(self) -> SIBConfig | None:
        """How the starting model's own masks are read, for ``self_masks``; None where they play no part.

        It is the same for all trainings that need the same masks.
        """
        frozen = None if self.masks is None else self.masks.frozen
        if frozen is None:
            return None
        base = self.objective if isinstance(self.objective, SIBConfig) else SIBConfig.recommended("self")
        return SIBConfig(layers=base.layers, masks=frozen, cotangent=base.cotangent, align=base.align)


def control_name(training: str) -> str:
    """Return the name of a training's control."""
    return f"{training}{SHUFFLED}"


def is_shuffled(training: str) -> bool:
    """Whether a training is the control of another one, by its name."""
    return training.endswith(SHUFFLED)


def _read_at(masks: Masks, first: str | None) -> Masks:
    """Put the first feature layer in the place of FIRST."""
    if isinstance(masks, Shuffled):
        return Shuffled(cast("Given | Frozen | Online", _read_at(masks.masks, first)))
    return replace(masks, layer=first) if isinstance(masks, Frozen) and masks.layer == FIRST else masks


_RECOMMENDED = SIBConfig.recommended("given")
_EVERY_TERM = replace(_RECOMMENDED, foreground=CKA(0.1), swap=1.0, balance=None)  # recommended before Share
_CUT, _FIFTH = Frozen(layer=FIRST), Frozen(TopShare(0.2))  # the second: as own masks were before GrabCut
_ONLINE = Online(TopShare(0.2), reading="class-evidence", detach=True)


def _pair(name: str, title: str, objective: SIBConfig, masks: Masks) -> tuple[TrainingSpec, TrainingSpec]:
    return TrainingSpec(name, title, objective, masks).with_control()


def _guided(name: str) -> tuple[TrainingSpec, ...]:
    spec = GUIDANCE[name]
    training = TrainingSpec(name, spec.title, GuidanceConfig(name, weight=1.0), Given() if spec.needs_masks else None)
    return training.with_control() if spec.needs_masks else (training,)


TRAININGS: dict[str, TrainingSpec] = {
    spec.name: spec
    for spec in (
        TrainingSpec("ce", "cross-entropy alone"),
        *_pair("sib", "S-IB with object masks from the data", _RECOMMENDED, Given()),
        *_pair("sib-self", "S-IB with the starting network's own masks, a fifth of every image", _RECOMMENDED, _FIFTH),
        *_pair("sib-self-cut", "S-IB with the starting network's own masks, cut along edges", _RECOMMENDED, _CUT),
        *_pair("sib-online", "S-IB with the masks of the network as it learns", _RECOMMENDED, _ONLINE),
        *_pair("sib-fixed", "S-IB with every term at a fixed weight, with object masks", _EVERY_TERM, Given()),
        *_pair("sib-self-fixed", "S-IB with every term at a fixed weight, with own masks cut", _EVERY_TERM, _CUT),
        TrainingSpec("sib-published", "S-IB as published", SIBConfig.published(), Online()),
        TrainingSpec("sib-published-script", "S-IB as in the authors' script", SIBConfig.published_script(), Online()),
        TrainingSpec("group-dro", "group DRO: the loss of the worst group", GroupDROConfig()),
        TrainingSpec("jtt", "just train twice: the errors of one epoch shown more often", prepare=UpsampleErrors()),
        TrainingSpec("dfr", "cross-entropy, the last layer refitted on balanced validation data", finish=RefitHead()),
        # What a user would try first: weight 1, not tuned.
        *(spec for name in GUIDANCE for spec in _guided(name)),
    )
}
