"""The settings of the S-IB objective, every field checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from sibx._checks import check_choice, check_integer, check_range, require
from sibx.attribution.soft_mask import DensityMask, HardDensityMask, TopShare
from sibx.objectives._hsic import Estimator, Kernel
from sibx.objectives.alignment import Alignment
from sibx.objectives.own_masks.grab_cut import GrabCut
from sibx.objectives.own_masks.sufficient import SufficientShare


@dataclass(frozen=True, slots=True)
class SIBConfig:
    """What the S-IB loss is made of. The presets are the places to start.

    Attributes:
        form: ``linear``: CE - f F + b B; ``exponential``: CE + f exp(-F) + b exp(B), with the weights f, b and the
            foreground and background terms F, B.
        foreground_weight: f, at least 0.
        background_weight: b, at least 0.
        layers: where VJPs are taken, dotted name -> weight; ``"input"`` is the image; ``"auto"`` = the last feature map
            (``find_cam_layer``) with weight 1. SIBLoss looks ``"auto"`` up at every call, by running the model on one
            small image; ``fine_tune`` does it once.
        masks: where M comes from: ``self-online``, from the VJP of each step; ``self-frozen``, from the starting model
            once (``fine_tune`` does it; ``self_masks`` by hand); ``given``, from the data.
        mask_source: what a self mask reads: ``vjp`` the map R (the paper), or ``class-evidence``, the standard
            deviation over classes of ``sum_k R_k a_k`` at the layer, which needs no label.
        mask_layer: where ``self-frozen`` masks are read, a dotted name or ``"input"``; None = the last of ``layers``.
        evidence_cotangents: backward passes, at least 1, from the logits to the layer for the class evidence; None =
            one less than there are classes, exact. For many classes and a long tail behind the layer a few will do.
        detach_mask: whether no gradient flows through M (the paper: it flows); class evidence lets none through.
        background: ``variance`` of R (1 - M) (the paper), or ``fraction`` of the strength of R outside M.
        foreground: ``hsic`` of R M and x M (the paper), or ``cka``, HSIC without its scale.
        kernel: of the foreground term: ``linear`` (the paper) or ``gaussian``, its bandwidth by the median heuristic;
            formulas, ranges, undefined cases and sources of this and the next are those of ``hsic``.
        estimator: of HSIC: ``biased`` (the paper) or ``unbiased``. They need 2 and 4 images with an object; the
            foreground and background terms of a batch with fewer are 0.
        projection: d of the ``RandomProjection`` of the foreground's rows, at least 1, the same at every step of one
            SIBLoss; None = rows as they are (the paper); 512 is in a variant of the authors' code.
        cotangent: v of the VJP: ``probability`` p (the paper), ``log_probability``, ``logit`` or ``centered_logit`` of
            the label, ``ones``.
        background_swap: weight of the cross-entropy with the background features of another image (not in the paper).
        mask: turns R or the evidence into M: ``DensityMask`` (the paper), ``TopShare``, or for ``self-frozen`` masks
            ``SufficientShare`` or ``GrabCut``.
        shuffle_masks: every image gets the mask of the one before it in the batch: the control for masks that are made
            during training. Where it does as well, the place of the mask does not matter.
        align: how masks and images reach a feature layer's grid, and self masks the image: ``receptive_field``, by
            where its units look (``ReceptiveField``, measured once by running the model on one image), the default
            because CAMs are drawn there as well; ``half_pixel``, by dividing the image into equal cells: for layers
            that cannot be measured. In a network of stride 32 the two are 16 pixels apart, and one trained the second
            way learns to look that far aside. In input space they are the same.
        balance: ``none``: weights multiply the terms as they are (the paper); ``gradnorm``: every S-IB term is scaled
            so that its gradient over the model's parameters is its weight times as long as the cross-entropy's
            (``GradientBalance`` has the rule). Weights then are shares of the cross-entropy's pull, so the paper's 1000
            is not one of them. SIBLoss in train mode measures; its buffers hold the scales.
        balance_every: calls in train mode, at least 1, from one measurement to the next; each costs one more backward
            pass for the cross-entropy and for every term with a weight.

    Raises:
        ValueError: a field outside its range, or fields that contradict each other.
    """

    form: Literal["linear", "exponential"] = "linear"
    foreground_weight: float = 0.01
    background_weight: float = 1000.0
    layers: Mapping[str, float] | Literal["auto"] = field(default_factory=lambda: {"input": 1.0})
    masks: Literal["self-online", "self-frozen", "given"] = "self-online"
    mask_source: Literal["vjp", "class-evidence"] = "vjp"
    mask_layer: str | None = None
    evidence_cotangents: int | None = None
    detach_mask: bool = False
    background: Literal["variance", "fraction"] = "variance"
    foreground: Literal["hsic", "cka"] = "hsic"
    kernel: Kernel = "linear"
    estimator: Estimator = "biased"
    projection: int | None = None
    cotangent: Literal["probability", "log_probability", "logit", "centered_logit", "ones"] = "probability"
    background_swap: float = 0.0
    mask: DensityMask | TopShare | SufficientShare | GrabCut = field(default_factory=DensityMask)
    shuffle_masks: bool = False
    align: Alignment = "receptive_field"
    balance: Literal["none", "gradnorm"] = "none"
    balance_every: int = 10

    def __post_init__(self) -> None:
        check_choice("form", self.form, ("linear", "exponential"))
        for name in ("foreground_weight", "background_weight", "background_swap"):
            check_range(name, getattr(self, name), 0)
        check_choice("masks", self.masks, ("self-online", "self-frozen", "given"))
        check_choice("mask_source", self.mask_source, ("vjp", "class-evidence"))
        check_choice("background", self.background, ("variance", "fraction"))
        check_choice("foreground", self.foreground, ("hsic", "cka"))
        check_choice("kernel", self.kernel, ("linear", "gaussian"))
        check_choice("estimator", self.estimator, ("biased", "unbiased"))
        for name in ("projection", "evidence_cotangents", "balance_every"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 1)
        cotangents = ("probability", "log_probability", "logit", "centered_logit", "ones")
        check_choice("cotangent", self.cotangent, cotangents)
        check_choice("align", self.align, get_args(Alignment))
        check_choice("balance", self.balance, ("none", "gradnorm"))
        masks = (DensityMask, TopShare, SufficientShare, GrabCut)
        require(isinstance(self.mask, masks), "mask", f"be one of {', '.join(m.__name__ for m in masks)}", self.mask)
        named = self.mask_layer is None or isinstance(self.mask_layer, str)
        require(named, "mask_layer", "be a layer's name or None", self.mask_layer)
        if self.masks == "self-online":
            self._check_online()
        if isinstance(self.layers, str):
            check_choice("layers", self.layers, ("auto",))
        self._check_layers({"auto": 1.0} if isinstance(self.layers, str) else self.layers)

    def _check_online(self) -> None:
        """What masks that are made at every step cannot be."""
        steps = isinstance(self.mask, TopShare | HardDensityMask) and not self.detach_mask
        require(not steps, "mask", "be differentiable unless detach_mask=True", self.mask)
        rule = f"be 'given' or 'self-frozen' for {type(self.mask).__name__}"
        require(not isinstance(self.mask, SufficientShare | GrabCut), "masks", rule, self.masks)
        rule = "be None for masks='self-online', which every layer has of its own"
        require(self.mask_layer is None, "mask_layer", rule, self.mask_layer)
        require(self.background_swap == 0, "masks", "be 'given' or 'self-frozen' for background_swap", self.masks)

    def _check_layers(self, layers: Mapping[str, float]) -> None:
        require(bool(layers), "layers", "name at least one layer", dict(layers))
        for name, weight in layers.items():
            check_range(f"layers[{name!r}]", weight, 0)
        last = list(layers)[-1]
        rule = "name a feature layer last for background_swap"
        require(last != "input" or self.background_swap == 0, "layers", rule, dict(layers))
        # Both look at what the rest of the model makes of features.
        tail = self.mask_source == "class-evidence" or isinstance(self.mask, SufficientShare)
        if self.masks != "given" and tail:
            argument = "layers" if self.mask_layer is None else "mask_layer"
            rule = "name a feature layer last for mask_source='class-evidence' and for SufficientShare"
            require((self.mask_layer or last) != "input", argument, rule, getattr(self, argument))

    @classmethod
    def published(cls) -> "SIBConfig":
        """The objective of the authors' README: CE - 0.01 HSIC + 1000 variance, in input space, mask not detached.

        At 64 px its pull is negligible beside the cross-entropy; it is here to be compared with.
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
        """The objective that worked in our experiments: feature space, detached masks, scale-free terms.

        Args:
            masks: ``given``: object masks from the data; ``self``: the starting model's own, frozen: its class evidence
                at the first feature layer named, cut along the image's edges (``GrabCut``). The model has to classify
                already, and images to have 1 or 3 channels.
            layers: ``"auto"`` = the last feature map. There alone the CAMs move most; naming a middle layer as well
                moves the input-space methods too, and gives own masks a finer grid. For MobileNetV2 on photographs
                ``{"features.13": 5, "features.18": 2}`` was chosen on validation images; with object masks the
                background term alone (``foreground_weight=0, background_swap=0``) did better there (README, Results).
        """
        named = () if isinstance(layers, str) else tuple(name for name in layers if name != "input")
        return cls(
            foreground_weight=0.1,
            background_weight=1.0,
            layers=layers,
            masks="given" if masks == "given" else "self-frozen",
            mask_source="class-evidence",
            mask_layer=named[0] if named and masks == "self" else None,
            detach_mask=True,
            background="fraction",
            foreground="cka",
            cotangent="log_probability",
            background_swap=1.0,
            mask=GrabCut(),
        )
