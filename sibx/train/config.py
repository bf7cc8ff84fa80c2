"""The settings of the S-IB objective and of the training loop, every field range-checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from sibx._checks import check_choice, check_range, require
from sibx.attribution.soft_mask import DensityMask, TopShare
from sibx.datasets.transforms import Augmentation
from sibx.train.alignment import Alignment
from sibx.train.grab_cut import GrabCut
from sibx.train.guidance import GuidanceConfig
from sibx.train.hsic import Estimator, Kernel
from sibx.train.sufficient import SufficientShare


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
        balance_every: steps, at least 1, from one measurement to the next; each costs one more backward pass for the
            cross-entropy and for every term with a weight.

    Raises:
        ValueError: a field outside its range, or fields that contradict each other.
    """

    form: Literal["linear", "exponential"] = "linear"
    foreground_weight: float = 0.01
    background_weight: float = 1000.0
    layers: Mapping[str, float] | Literal["auto"] = field(default_factory=lambda: {"input": 1.0})
    masks: Literal["self-online", "self-frozen", "given"] = "self-online"
    mask_source: Literal["vjp", "class-evidence"] = "vjp"
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
        for name in ("projection", "evidence_cotangents"):
            check_range(name, 1 if getattr(self, name) is None else getattr(self, name), 1)
        cotangents = ("probability", "log_probability", "logit", "centered_logit", "ones")
        check_choice("cotangent", self.cotangent, cotangents)
        check_choice("align", self.align, get_args(Alignment))
        check_choice("balance", self.balance, ("none", "gradnorm"))
        check_range("balance_every", self.balance_every, 1)
        hard_online = self.masks == "self-online" and isinstance(self.mask, TopShare) and not self.detach_mask
        require(not hard_online, "mask", "be differentiable unless detach_mask=True", self.mask)
        looks = isinstance(self.mask, SufficientShare | GrabCut) and self.masks == "self-online"
        rule = f"be 'given' or 'self-frozen' for {type(self.mask).__name__}"
        require(not looks, "masks", rule, self.masks)
        swap_online = self.background_swap > 0 and self.masks == "self-online"
        require(not swap_online, "masks", "be 'given' or 'self-frozen' for background_swap", self.masks)
        if isinstance(self.layers, str):
            check_choice("layers", self.layers, ("auto",))
        else:
            self._check_layers(self.layers)

    def _check_layers(self, layers: Mapping[str, float]) -> None:
        require(bool(layers), "layers", "name at least one layer", dict(layers))
        for name, weight in layers.items():
            check_range(f"layers[{name!r}]", weight, 0)
        on_features = self.background_swap > 0 or (self.mask_source == "class-evidence" and self.masks != "given")
        rule = "name a feature layer last for background_swap and for mask_source='class-evidence'"
        require(not on_features or list(layers)[-1] != "input", "layers", rule, dict(layers))

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
            masks: ``given``: object masks from the data; ``self``: the top 20 % of the starting model's own class
                evidence, frozen.
            layers: ``"auto"`` = the last feature map. There alone the CAMs move most; naming a middle layer as well
                moves the input-space methods too (for MobileNetV2 ``{"features.13": 1, "features.18": 1}``).

        On photographs the background term alone (``foreground_weight=0, background_swap=0``) at 5 and 2 times these
        weights moved the maps further. There ``self`` did not pass its control, but own masks by ``GrabCut``, read off
        a middle layer, did as well as object masks (README, Fine-tune and Results).
        """
        return cls(
            foreground_weight=0.1,
            background_weight=1.0,
            layers=layers,
            masks="given" if masks == "given" else "self-frozen",
            mask_source="class-evidence",
            detach_mask=True,
            background="fraction",
            foreground="cka",
            cotangent="log_probability",
            background_swap=1.0,
            mask=TopShare(0.2),
        )


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How ``fine_tune`` trains; by default AdamW under a one-cycle schedule.

    Attributes:
        objective: the S-IB loss, a guidance loss to compare it with, or None for plain cross-entropy.
        epochs: passes over the training data, at least 1.
        batch_size: images per step, over all processes and micro-batches, at least 2; an incomplete last batch is left
            out.
        accumulate: micro-batches that a step's images are cut into, to save memory; divides ``batch_size``. Terms that
            need several images (HSIC, CKA, the background swap) see one micro-batch at a time, so the S-IB loss
            changes with it; cross-entropy does not.
        optimizer: ``adamw`` or ``sgd``.
        momentum: of ``sgd``, in [0, 1].
        learning_rate: peak of the schedule.
        head_learning_rate: the same for the last linear layer; None = ``learning_rate``.
        weight_decay: of the optimizer.
        schedule: ``one-cycle`` (with ``adamw`` the first beta cycles too), ``cosine`` from the peak to 0, or
            ``constant``.
        warm_up: epochs, in [0, ``epochs``], over which all of the loss but the cross-entropy rises linearly from 0.
        clip_norm: largest norm of a step's gradient; None = any.
        amp: run forward passes in ``bfloat16``, or ``float16`` with a scaled loss (CUDA only); None = as they are.
        ema: decay in [0, 1] of the moving average of weights that is validated and returned; None = the weights.
        keep: which epoch's weights are returned: ``last``, or ``best`` = highest accuracy on ``val_data``, the earliest
            of equals.
        patience: stop after this many epochs, at least 1, without a higher accuracy on ``val_data``; None = never.
        balanced: draw every class equally often, with replacement; the data is read through once for its labels.
        augmentation: ``none``, ``flip``, or ``flip_crop``, applied to images and masks together.
        batch_norm: ``eval``: keep BatchNorm's statistics while fine-tuning (in train mode images of a batch influence
            each other's VJP); ``train``: when training from scratch.
        sync_batch_norm: with several processes, take BatchNorm's statistics over all of them (torch's SyncBatchNorm:
            GPUs only); needs ``batch_norm="train"``.
        seed: of the order and the augmentation.
        workers: processes that load the data; 0 = the one that trains.
        checkpoint_every: steps, at least 1, between checkpoints; None = one at the end of every epoch, which is written
            in any case.
        tensorboard: also log for TensorBoard, which has to be installed.

    Raises:
        ValueError: a field outside its range, or fields that contradict each other.
    """

    objective: SIBConfig | GuidanceConfig | None = None
    epochs: int = 3
    batch_size: int = 64
    accumulate: int = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    learning_rate: float = 1e-3
    head_learning_rate: float | None = None
    weight_decay: float = 1e-4
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    warm_up: float = 0.0
    clip_norm: float | None = None
    amp: Literal["bfloat16", "float16"] | None = None
    ema: float | None = None
    keep: Literal["last", "best"] = "last"
    patience: int | None = None
    balanced: bool = False
    augmentation: Augmentation = "flip"
    batch_norm: Literal["eval", "train"] = "eval"
    sync_batch_norm: bool = False
    seed: int = 0
    workers: int = 0
    checkpoint_every: int | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, ("adamw", "sgd"))
        check_choice("schedule", self.schedule, ("one-cycle", "cosine", "constant"))
        check_choice("keep", self.keep, ("last", "best"))
        check_choice("augmentation", self.augmentation, ("none", "flip", "flip_crop"))
        check_choice("batch_norm", self.batch_norm, ("eval", "train"))
        check_choice("amp", self.amp or "bfloat16", ("bfloat16", "float16"))
        lowest = {"epochs": 1, "batch_size": 2, "accumulate": 1, "patience": 1, "checkpoint_every": 1}
        for name in ("learning_rate", "weight_decay", "head_learning_rate", "clip_norm", "workers", *lowest):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), lowest.get(name, 0))
        check_range("momentum", self.momentum, 0, 1)
        check_range("ema", self.ema or 0, 0, 1)
        check_range("warm_up", self.warm_up, 0, self.epochs)
        synchronized = self.sync_batch_norm and self.batch_norm == "eval"
        require(not synchronized, "batch_norm", "be 'train' for sync_batch_norm=True", self.batch_norm)
        rule = f"divide batch_size={self.batch_size}"
        require(self.batch_size % self.accumulate == 0, "accumulate", rule, self.accumulate)
