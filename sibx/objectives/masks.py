"""Where the mask M comes from: the data, the starting model, or the model at every step."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol, get_args

from torch import Tensor

from sibx._checks import check_choice, check_integer, require
from sibx._outputs import Output
from sibx.attribution.mask_rules import DensityMask, MaskRule
from sibx.models.alignment import Alignment
from sibx.objectives.evidence import class_evidence
from sibx.objectives.own_masks.grab_cut import GrabCut
from sibx.runs.ranks import previous_rows

Reading = Literal["vjp", "class-evidence"]


class View(NamedTuple):
    """What masks are made of at one layer.

    Attributes:
        logits: logits (B, K).
        activations: activations of the layer in the graph of the logits, (B, C, h, w) or tokens (B, N, D).
        vjp_map: VJP map R, (B, C, h, w).
        masks: masks handed to the loss, (B, 1, H, W) bool; None without masks.
        image_size: size (H, W) of the images.
        alignment: where the layer's units lie on the image.
        output: what the logits are.
    """

    logits: Tensor
    activations: Tensor
    vjp_map: Tensor
    masks: Tensor | None
    image_size: tuple[int, int]
    alignment: Alignment
    output: Output = "auto"


class MaskSource(Protocol):
    """A source of masks M."""

    @property
    def from_outside(self) -> bool:
        """Whether masks are handed to the loss with every batch."""

    @property
    def frozen(self) -> "Frozen | None":
        """How the starting model's own masks are read; None if they are not used."""

    def check(self, layers: tuple[str, ...]) -> None:
        """Raise ValueError if the masks cannot be read at these layers."""

    def arrange(self, masks: Tensor) -> Tensor:
        """Return the masks (B, 1, H, W) that were handed to the loss, in the order in which the images get them."""

    def at(self, view: View) -> Tensor:
        """Return M (B, 1, h, w) at one layer."""


class _Outside:
    """What all masks share that are handed to the loss."""

    __slots__ = ()
    from_outside: ClassVar[bool] = True

    def arrange(self, masks: Tensor) -> Tensor:
        """Return the masks as they are: every image gets its own."""
        return masks

    def at(self, view: View) -> Tensor:
        """Return the masks, averaged over the cells around the points where the layer's units look."""
        assert view.masks is not None
        maps = view.vjp_map
        return view.alignment.pool(view.masks.to(maps.dtype), (maps.shape[2], maps.shape[3]))


@dataclass(frozen=True, slots=True)
class Given(_Outside):
    """Masks from the data."""

    frozen: ClassVar[None] = None

    def check(self, layers: tuple[str, ...]) -> None:
        """Accept any layers."""


@dataclass(frozen=True, slots=True)
class Frozen(_Outside):
    """The starting model's own masks, computed once: by ``fine_tune``, or by you with ``self_masks``.

    Attributes:
        rule: mask rule that turns evidence into a mask.
        reading: which evidence: ``class-evidence``: the standard deviation over classes of ``sum_k R_k a_k`` at the
            layer, which needs no label; ``vjp``: the strength of R with the objective's cotangent and the predicted
            class.
        layer: layer where the evidence is read, a dotted name or ``"input"``; None = the objective's last layer.
        cotangents: number of backward passes from the logits to the layer for the class evidence, at least 1; None =
            one less than the number of classes, which is exact. For many classes a few are enough.

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
        """Require a feature layer for class evidence, and for rules that use the part of the model behind it."""
        rule = "be read at a feature layer (the last of `layers`, or `layer`) for class evidence and SufficientShare"
        tail = self.reading == "class-evidence" or "tail" in _needs(self.rule)
        require((self.layer or layers[-1]) != "input" or not tail, "masks", rule, self)


@dataclass(frozen=True, slots=True)
class Online:
    """The model's own masks, made at every step.

    Attributes:
        rule: mask rule that turns evidence into a mask; it may use only the evidence, and has to be differentiable
            unless ``detach``.
        reading: which evidence: ``vjp``: the map R (the paper); ``class-evidence``: the standard deviation over classes
            of ``sum_k R_k a_k`` at the layer.
        detach: whether gradients through M are cut off (in the paper they are not); class evidence has no gradient in
            any case.
        cotangents: number of backward passes from the logits to the layer for the class evidence, at least 1; None =
            one less than the number of classes, which is exact.

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
        """Return the masks as they are; here they only say which images have an object."""
        return masks

    def at(self, view: View) -> Tensor:
        """Return the mask that the rule makes of the evidence."""
        read = view.vjp_map
        if self.reading == "class-evidence":
            read = class_evidence(view.logits, view.activations, view.image_size, self.cotangents, view.output)
        mask = self.rule(read)
        return mask.detach() if self.detach else mask


@dataclass(frozen=True, slots=True)
class Shuffled:
    """The control: every image gets the mask of the image before it in the batch, and the first that of the last.

    If a training does as well with shuffled masks, the place of the mask does not matter.

    Attributes:
        masks: source of the masks that are shuffled.
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
        """Raise ValueError if the masks cannot be read at these layers."""
        self.masks.check(layers)

    def arrange(self, masks: Tensor) -> Tensor:
        """Return the masks moved on by one image."""
        return previous_rows(masks)

    def at(self, view: View) -> Tensor:
        """Return the mask of the image before; ``arrange`` has moved masks from outside already."""
        mask = self.masks.at(view)
        return mask if self.from_outside else previous_rows(mask)


Masks = Given | Frozen | Online | Shuffled


def _needs(rule: MaskRule) -> tuple[str, ...]:
    """Return what a rule needs besides the evidence; a plain function needs nothing else."""
    return tuple(getattr(rule, "needs", ()))


def _check_reading(rule: MaskRule, reading: str, cotangents: int | None) -> None:
    require(callable(rule), "rule", "be a mask rule: a callable (evidence, ...) -> mask", rule)
    check_choice("reading", reading, get_args(Reading))
    if cotangents is not None:
        check_integer("cotangents", cotangents, 1)
