"""The settings of the S-IB objective, made of parts that check themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from sibx._checks import check_choice, check_range, require
from sibx.attribution.cotangents import Cotangent
from sibx.models.alignment import Align
from sibx.objectives.background import Contrast, Fraction, Variance
from sibx.objectives.balance import GradNorm
from sibx.objectives.foreground import CKA, HSIC
from sibx.objectives.masks import Frozen, Given, Masks, Online
from sibx.objectives.share import Share

Form = Literal["linear", "exponential"]


@dataclass(frozen=True, slots=True)
class SIBConfig:
    """What the S-IB loss is made of. The presets are the places to start.

    Attributes:
        layers: layers at which VJPs are taken, by dotted name, each with its weight; ``"input"`` is the image;
            ``"stage:-1"`` is the last feature map (``find_cam_layer``), ``"stage:-2"`` the end of the stage before it
            (``find_cam_layers``), both looked up once for every model and shape of the images; ``"auto"`` =
            ``"stage:-1"`` with weight 1.
        masks: where M comes from: ``Online()``: the VJP of each step (the paper); ``Frozen()``: the starting model;
            ``Given()``: the data; ``Shuffled(...)``: one of these with the masks of other images, the control.
        foreground: foreground term: ``HSIC()`` of R M and x M (the paper), ``CKA()`` (HSIC without its scale), or None.
        background: background term: ``Variance()`` of R (1 - M) (the paper), ``Fraction()`` of the strength of R that
            lies outside M, ``Contrast()`` of that with what lies outside the batch's mean mask, or None.
        swap: weight, at least 0, of the cross-entropy with the background features of another image (not in the paper).
        cotangent: v of the VJP: ``probability`` p (the paper), ``log_probability``, ``logit`` or ``centered_logit`` of
            the label, ``ones``.
        form: how the terms are added: ``linear``: CE - f F + b B; ``exponential``: CE + f exp(-F) + b exp(B), with the
            foreground and background terms F, B and their weights f, b.
        balance: what weights mean: None: factors of the terms (the paper); ``GradNorm()``: lengths of the terms'
            gradients as shares of the cross-entropy's, so that the paper's weight of 1000 does not carry over;
            ``Share()``: factors among the terms, whose sum pulls a share as hard as the cross-entropy, and never
            against it.
        align: how masks and images are brought to a feature layer's grid, and self masks back to the image.
            ``receptive_field`` (default): by where the layer's units look, measured once by running the model on one
            image; CAMs are drawn there, too. ``half_pixel``: by dividing the image into equal cells, for layers that
            cannot be measured. In a network of stride 32 the two are 16 pixels apart, and a network trained with
            ``half_pixel`` learns to look that far aside. In input space they are the same.

    Raises:
        ValueError: a field outside its range, or fields that contradict each other.

    Example:
        >>> SIBConfig.recommended("self", layers={"stage:-2": 1.0, "stage:-1": 1.0}).masks.layer
        'stage:-2'
    """

    layers: Mapping[str, float] | Literal["auto"] = field(default_factory=lambda: {"input": 1.0})
    masks: Masks = field(default_factory=Online)
    foreground: HSIC | CKA | None = field(default_factory=HSIC)
    background: Variance | Fraction | Contrast | None = field(default_factory=Variance)
    swap: float = 0.0
    cotangent: Cotangent = "probability"
    form: Form = "linear"
    balance: GradNorm | Share | None = None
    align: Align = "receptive_field"

    def __post_init__(self) -> None:
        for name, kind in PARTS.items():
            part = getattr(self, name)
            require(isinstance(part, kind), name, f"be {_names(kind)}", part)
        check_range("swap", self.swap, 0)
        for name, choices in (("cotangent", Cotangent), ("form", Form), ("align", Align)):
            check_choice(name, getattr(self, name), get_args(choices))
        if isinstance(self.layers, str):
            check_choice("layers", self.layers, ("auto",))
        require(bool(self.layers), "layers", "name at least one layer", self.layers)
        for name, weight in self.weights.items():
            check_range(f"layers[{name!r}]", weight, 0)
        self.masks.check(tuple(self.weights))
        if self.swap > 0:
            require(self.masks.from_outside, "masks", "be Given or Frozen for swap", self.masks)
            rule = "name a feature layer last for swap"
            require(list(self.weights)[-1] != "input", "layers", rule, dict(self.weights))

    @property
    def needs_masks(self) -> bool:
        """Whether masks have to be handed to the loss."""
        return self.masks.from_outside

    @property
    def weights(self) -> Mapping[str, float]:
        """Weights of the layers by name; ``auto`` stands for the layer that is looked up."""
        return {"auto": 1.0} if isinstance(self.layers, str) else self.layers

    @classmethod
    def published(cls) -> "SIBConfig":
        """The objective of the authors' README: CE - 0.01 HSIC + 1000 variance, in input space, mask not detached.

        It is here for comparison: at 64 px its gradient is negligible beside the cross-entropy's.
        """
        return cls()

    @classmethod
    def published_script(cls) -> "SIBConfig":
        """The objective of the authors' training script: CE + 0.01 exp(-HSIC) + 1000 exp(variance)."""
        return cls(form="exponential")

    @classmethod
    def recommended(
        cls,
        masks: Literal["given", "self"] = "given",
        layers: Mapping[str, float] | Literal["auto"] = "auto",
    ) -> "SIBConfig":
        """The objective to start with: the fraction of R outside the mask, its pull bounded by that of the labels.

        It names no constant of a data set or of a scale: the term is a fraction, the mask has no gradient, and
        ``Share`` bounds the pull, keeps it from working against the cross-entropy, and lets it wait until the labels
        are fitted. ``fine_tune(choose_weight=True)`` finds out on validation data how large the share may be.

        Args:
            masks: ``given``: object masks from the data; ``self``: the starting model's own masks, frozen: its class
                evidence at the first feature layer in ``layers``, cut along the image's edges (``GrabCut``). The model
                has to classify already, and images must have 1 or 3 channels.
            layers: layers by dotted name, each with its weight; ``"auto"`` = the last feature map, which changes CAMs
                most. A finer grid in addition changes the methods in input space, too, and own masks are read there:
                ``{"stage:-2": 1, "stage:-1": 1}`` fits any network; it is what studies with pretrained weights take.

        Raises:
            ValueError: another word for ``masks``, or layers that do not fit.
        """
        check_choice("masks", masks, ("given", "self"))
        return cls(
            layers=layers,
            masks=Given() if masks == "given" else Frozen(layer=first_feature_layer(layers)),
            foreground=None,
            background=Fraction(1.0),
            cotangent="log_probability",
            balance=Share(),
        )


PARTS: dict[str, tuple[type, ...]] = {
    "masks": get_args(Masks),
    "foreground": (HSIC, CKA, type(None)),
    "background": (Variance, Fraction, Contrast, type(None)),
    "balance": (GradNorm, Share, type(None)),
}


def first_feature_layer(layers: Mapping[str, float] | Literal["auto"]) -> str | None:
    """Return the first layer that is not the image, where own masks have the finest grid; None for ``auto``."""
    names = () if isinstance(layers, str) else tuple(name for name in layers if name != "input")
    return names[0] if names else None


def _names(kinds: type | tuple[type, ...]) -> str:
    names = [
        "None" if kind is type(None) else kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))
    ]
    return f"one of {', '.join(names)}"
