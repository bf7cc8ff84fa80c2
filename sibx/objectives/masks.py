"""Where the mask M comes from: the data, the starting model, or the model at every step."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol, get_args

from torch import Tensor

from sibx._checks import check_choice, check_integer, require
from sibx.attribution.mask_rules import DensityMask, MaskRule
from sibx.models.alignment import Alignment
from sibx.objectives.evidence import class_evidence
from sibx.objectives.own_masks.grab_cut import GrabCut
from sibx.runs.ranks import previous_rows

Reading = Literal["vjp", "class-evidence"]


class View(NamedTuple):
    """What masks are made of at one layer.

    Attributes:
        logits: (B, K).
        activations: of the layer in the graph of the logits, (B, C, h, w) or tokens (B, N, D).
        vjp_map: R, (B, C, h, w).
        masks: those handed to the loss, (B, 1, H, W) bool.
        image_size: (H, W).
        alignment: of the layer with the image.
    """

    logits: Tensor
    activations: Tensor
    vjp_map: Tensor
    masks: Tensor | None
    image_size: tuple[int, int]
    alignment: Alignment


class MaskSource(Protocol):
    """Says where M comes from."""

    @property
    def from_outside(self) -> bool:
        """Whether masks are handed to the loss with every batch."""

    @property
    def frozen(self) -> "Frozen | None":
        """How the starting model's own masks are read; None where they play no part."""

    def check(self, layers: tuple[str, ...]) -> None:
        """Raise ValueError for what cannot be read at these layers."""

    def arrange(self, masks: Tensor) -> Tensor:
        """Return which image gets which of the masks (B, 1, H, W) that were handed to the loss."""

    def at(self, view: View) -> Tensor:
        """Return M (B, 1, h, w) at one layer."""


class _Outside:
    """What masks that are handed to the loss have in common."""

    __slots__ = ()
    from_outside: ClassVar[bool] = True

    def arrange(self, masks: Tensor) -> Tensor:
        """Leave every image its own."""
        return masks

    def at(self, view: View) -> Tensor:
        """Return the masks, averaged where the layer's units look."""
        assert view.masks is not None
        maps = view.vjp_map
        return view.alignment.pool(view.masks.to(maps.dtype), (maps.shape[2], maps.shape[3]))


@dataclass(frozen=True, slots=True)
class Given(_Outside):
    """Masks from the data."""

    frozen: ClassVar[None] = None

    def check(self, layers: tuple[str, ...]) -> None:
        """Any layers will do."""


@dataclass(frozen=True, slots=True)
class Frozen(_Outside):
    """The starting model's own masks, read once: ``fine_tune`` does it, or ``self_masks`` by hand.

    Attributes:
        rule: turns evidence into a mask.
        reading: ``class-evidence``, the standard deviation over classes of ``sum_k R_k a_k`` at the layer, which needs
            no label, or ``vjp``, the strength of R with the objective's cotangent and the predicted class.
        layer: where the masks are read, a dotted name or ``"input"``; None = the last of the objective's layers.
        cotangents: backward passes, at least 1, from the logits to the layer for the class evidence; None = one less
            than there are classes, exact. For many classes and a long tail behind the layer a few will do.

    Raises:
        ValueError: a field outside its range.
    """

    rule: MaskRule = field(default_factory=GrabCut)
    reading: Reading = "class-evidence"
    layer: str | None = None
    cotangents: int | None = None

    def __post_init__(self) -> None:
        _check_reading(self.rule, self.reading, self.cotangents)
        named = self.layer is None or isinstance(self.layer, str)
        require(named, "layer", "be a layer's name or None", self.layer)

    @property
    def frozen(self) -> "Frozen":
        """These masks."""
        return self

    def check(self, layers: tuple[str, ...]) -> None:
        """Require a feature layer for what looks at what the rest of the model makes of features."""
        rule = "be read at a feature layer (the last of `layers`, or `layer`) for class evidence and SufficientShare"
        tail = self.reading == "class-evidence" or "tail" in _needs(self.rule)
        require((self.layer or layers[-1]) != "input" or not tail, "masks", rule, self)


@dataclass(frozen=True, slots=True)
class Online:
    """The model's own masks, made at every step.

    Attributes:
        rule: turns evidence into a mask; made of the evidence alone, and differentiable unless ``detach``.
        reading: ``vjp``: the map R (the paper), or ``class-evidence`` as in ``Frozen``.
        detach: whether no gradient flows through M (the paper: it flows); class evidence lets none through.
        cotangents: as in ``Frozen``.

    Raises:
        ValueError: a field outside its range, or a rule that cannot be used at every step.
    """

    rule: MaskRule = field(default_factory=DensityMask)
    reading: Reading = "vjp"
    detach: bool = False
    cotangents: int | None = None

    from_outside: ClassVar[bool] = False
    frozen: ClassVar[None] = None

    def __post_init__(self) -> None:
        _check_reading(self.rule, self.reading, self.cotangents)
        require(not _needs(self.rule), "rule", "look at the evidence alone for Online masks (use Frozen)", self.rule)
        smooth = getattr(self.rule, "differentiable", True)
        require(smooth or self.detach, "rule", "be differentiable unless detach=True", self.rule)

    def check(self, layers: tuple[str, ...]) -> None:
        """Require a feature layer for class evidence."""
        good = layers[-1] != "input" or self.reading == "vjp"
        require(good, "layers", "name a feature layer last for class evidence", layers)

    def arrange(self, masks: Tensor) -> Tensor:
        """Leave masks, which only say here which images have an object, where they are."""
        return masks

    def at(self, view: View) -> Tensor:
        """Return the rule's mask."""
        read = view.vjp_map
        if self.reading == "class-evidence":
            read = class_evidence(view.logits, view.activations, view.image_size, self.cotangents)
        mask = self.rule(read)
        return mask.detach() if self.detach else mask


@dataclass(frozen=True, slots=True)
class Shuffled:
    """The control: every image gets the mask of the one before it in the batch, the first that of the last.

    Where it does as well, the place of the mask does not matter.

    Attributes:
        masks: whose masks.
    """

    masks: Given | Frozen | Online

    def __post_init__(self) -> None:
        require(isinstance(self.masks, Given | Frozen | Online), "masks", "be Given, Frozen or Online", self.masks)

    @property
    def from_outside(self) -> bool:
        """Whether masks are handed to the loss with every batch."""
        return self.masks.from_outside

    @property
    def frozen(self) -> Frozen | None:
        """How the starting model's own masks are read."""
        return self.masks.frozen

    def check(self, layers: tuple[str, ...]) -> None:
        """Ask the masks."""
        self.masks.check(layers)

    def arrange(self, masks: Tensor) -> Tensor:
        """Move masks on by one image."""
        return previous_rows(masks)

    def at(self, view: View) -> Tensor:
        """Return the mask of the image before; masks from outside have been moved by ``arrange``."""
        mask = self.masks.at(view)
        return mask if self.from_outside else previous_rows(mask)


Masks = Given | Frozen | Online | Shuffled


def _needs(rule: MaskRule) -> tuple[str, ...]:
    """What a rule looks at beside the evidence; a plain function looks at nothing else."""
    return tuple(getattr(rule, "needs", ()))


def _check_reading(rule: MaskRule, reading: str, cotangents: int | None) -> None:
    require(callable(rule), "rule", "be a mask rule: a callable (evidence, ...) -> mask", rule)
    check_choice("reading", reading, get_args(Reading))
    if cotangents is not None:
        check_integer("cotangents", cotangents, 1)
