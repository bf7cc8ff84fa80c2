"""The settings of the training loop, every field checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from sibx._checks import check_choice, check_integer, check_range, require
from sibx._outputs import Criterion, Output, Weights, check_output, check_weighting
from sibx.images.geometry import Augmentation
from sibx.objectives import GroupDROConfig, GuidanceConfig, SIBConfig
from sibx.train.losses import Objective

OURS = SIBConfig | GuidanceConfig | GroupDROConfig  # settings of objectives that take any criterion
PROGRAMS = ("objective", "criterion")  # fields that hold what no file and no command line can: functions, or parts


MonitorName = Literal[
    "auto",
    "accuracy",
    "balanced_accuracy",
    "worst_group",
    "foreground_focus",
    "f1",
    "auroc",
    "average_precision",
    "loss",
]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How ``fine_tune`` trains; by default AdamW under a one-cycle schedule.

    Attributes:
        objective: what is minimized: settings of the S-IB loss, of a guidance loss or of group DRO (which draws every
            group equally often), None = plain cross-entropy, or any function ``(model, images, labels, masks) ->
            scalar``. A function may also return terms (a mapping or a NamedTuple) with a ``total`` and, for the
            training accuracy, ``logits``; and one with a parameter ``undefined`` is handed the pixels, (B, 1, H, W)
            bool, of which it is not known whether they are object.
        output: what the logits are: ``softmax``: classes that exclude each other; ``sigmoid``: independent labels, or
            the classes 0 and 1 of a single logit; ``raw``: scores without an accuracy; ``auto`` = ``sigmoid`` for a
            single logit, else ``softmax``.
        criterion: function ``(logits, labels) -> scalar`` that is minimized, alone or beside the objective's terms;
            None = the cross-entropy, or for ``sigmoid`` the binary one. An objective of your own does not use it.
        class_weights: weight of every class in the mean over a batch's images, (C,) numbers at least 0, kept as a
            tuple; ``balanced`` = inversely proportional to its training images, so that all classes have the same say;
            None = 1. Not for several labels per image, and not beside a criterion or an objective of your own.
        label_smoothing: share in [0, 1) of the target that is spread evenly over the classes; of a label by itself over
            yes and no.
        pos_weight: weight of labels that are there beside those that are not, (K,) numbers or one for all, kept as a
            tuple; ``balanced`` = training images without the label per image with it; None = 1. For ``sigmoid``, in
            place of ``class_weights``.
        auxiliary_weight: weight, at least 0, of the loss of each auxiliary head, whose scores torchvision's Inception
            v3 and GoogLeNet return in train mode, beside whatever is minimized; None = 0.4 for one head, 0.3 for two.
        train_layers: which layers learn: patterns as of file names, such as ``("layer4.*", "fc")``, for names of layers
            or weights; everything else is frozen, and its BatchNorm stays in eval mode. None = what learns in the model
            as it comes (``requires_grad``).
        epochs: number of passes over the training data, at least 1.
        batch_size: number of images per step, over all processes and micro-batches, at least 2; an incomplete last
            batch is left out.
        accumulate: number of micro-batches into which a step's images are cut, to save memory; divides ``batch_size``.
            Terms that need several images (HSIC, CKA, the background swap) see one micro-batch at a time, so this
            changes the S-IB loss; it does not change the cross-entropy.
        optimizer: ``adamw`` or ``sgd``.
        momentum: momentum of ``sgd``, in [0, 1].
        learning_rate: learning rate at the peak of the schedule.
        head_learning_rate: learning rate of the head (``head_parameters``) at the peak; None = ``learning_rate``.
        weight_decay: weight decay of the optimizer.
        schedule: schedule of the learning rate: ``one-cycle`` (with ``adamw`` the first beta cycles too), ``cosine``
            from the peak to 0, or ``constant``.
        warm_up: number of epochs, in [0, ``epochs``], over which all terms except the cross-entropy rise linearly from
            0.
        clip_norm: largest norm of a step's gradient; None = no limit.
        amp: precision of forward passes: ``bfloat16``, or ``float16`` with a scaled loss (CUDA only); None = that of
            the model.
        ema: decay in [0, 1] of the moving average of weights that is validated and returned; None = no average.
        keep: which epoch's weights are returned: ``last``, or ``best`` by ``monitor``: of equal epochs the one with the
            lowest loss on ``val_data``, then the later one; never one where it is NaN.
        patience: number of epochs, at least 1, without a better value of ``monitor`` after which training stops; None =
            never stop early.
        monitor: what ``keep`` and ``patience`` look at on ``val_data``: ``accuracy``, ``balanced_accuracy`` (mean
            recall), ``worst_group`` (accuracy on the group where it is lowest), ``foreground_focus`` (mean focus of
            Grad-CAM at the last feature map on the masks, for the labels), ``f1``, ``auroc``, ``average_precision``,
            ``loss`` (of which less is better), or any function ``(model, val_data) -> float``, larger is better.
            ``auto`` = balanced accuracy where an image may have several labels or the commonest class has at least 1.5
            times as many images as the rarest; else accuracy.
        log_focus: whether to log the foreground focus on ``val_data`` after every epoch even if it is not monitored;
            costs a forward and a backward pass over it.
        balanced: whether to draw every class equally often, with replacement; the data is read through once for its
            labels.
        augmentation: ``none``, ``flip``, or ``flip_crop``, applied to images and masks together; or any transform of
            torchvision's v2, such as ``Compose([...])``: a function of an image (C, H, W), pixels in [0, 1], and of the
            masks of the object and of undefined pixels, (P, H, W) each, as tv_tensors, which returns three of the same
            shape. An image has the same random numbers whenever it comes in an epoch, whoever loads it.
        batch_norm: mode of BatchNorm: ``eval``: keep its statistics, for fine-tuning (in train mode the images of a
            batch influence each other's VJP); ``train``: update them, for training from scratch.
        center_head: whether the head loses its mean over classes before the first step and after every one, so that
            scores sum to 0 (``sibx.models.center_head``), also a head that is frozen. Under the cross-entropy, group
            DRO and S-IB of probabilities the network is otherwise the same, to rounding; maps of scores, such as
            Grad-CAM, lose what all classes share, and objectives that explain scores (such as ``energy``) learn from
            the maps without it. It does nothing where the mean may mean something: for independent labels, raw scores,
            a criterion or an objective of your own, and the cotangent ``ones``; a model whose scores are not the
            outputs of one linear layer stays as it is, with a warning.
        sync_batch_norm: whether several processes share the statistics of BatchNorm (torch's SyncBatchNorm: GPUs only);
            needs ``batch_norm="train"``.
        seed: seed of the order of the images and of the augmentation.
        workers: number of processes that load the data; 0 = the process that trains loads it.
        checkpoint_every: number of steps, at least 1, between checkpoints; None = only at the end of every epoch, where
            a checkpoint is written in any case.
        log_gradient_norms: whether to log, once per epoch, how long the gradient of each term of the S-IB loss is
            (``SIBLoss.gradient_norms``, without the warm-up), on the first micro-batch; costs about two or three steps.
        tensorboard: whether to log for TensorBoard, too, which has to be installed.

    Raises:
        ValueError: a field outside its range, or fields that contradict each other.

    Example:
        >>> config = TrainConfig(objective=SIBConfig.recommended("self"), epochs=5, learning_rate=1e-4)
        >>> config.optimizer, config.batch_size
        ('adamw', 64)
    """

    objective: Objective = None
    output: Output = "auto"
    criterion: Criterion | None = None
    class_weights: Weights = None
    label_smoothing: float = 0.0
    pos_weight: Weights = None
    auxiliary_weight: float | None = None
    train_layers: Sequence[str] | None = None
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
    monitor: MonitorName | Callable[..., float] = "auto"
    log_focus: bool = False
    balanced: bool = False
    augmentation: Augmentation | Callable[..., Any] = "flip"
    batch_norm: Literal["eval", "train"] = "eval"
    center_head: bool = False
    sync_batch_norm: bool = False
    seed: int = 0
    workers: int = 0
    checkpoint_every: int | None = None
    log_gradient_norms: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        self._check_objective()
        self._check_weights()
        self._check_layers()
        check_output(self.output)
        check_choice("optimizer", self.optimizer, ("adamw", "sgd"))
        check_choice("schedule", self.schedule, ("one-cycle", "cosine", "constant"))
        check_choice("keep", self.keep, ("last", "best"))
        self._check_monitor()
        if not callable(self.augmentation):
            check_choice("augmentation", self.augmentation, ("none", "flip", "flip_crop"))
        check_choice("batch_norm", self.batch_norm, ("eval", "train"))
        check_choice("amp", self.amp or "bfloat16", ("bfloat16", "float16"))
        for name in ("epochs", "batch_size", "accumulate", "workers"):
            check_integer(name, getattr(self, name), {"batch_size": 2, "workers": 0}.get(name, 1))
        for name in ("patience", "checkpoint_every"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 1)
        for name in ("learning_rate", "weight_decay"):
            check_range(name, getattr(self, name), 0)
        for name in ("head_learning_rate", "clip_norm", "auxiliary_weight"):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), 0)
        check_range("momentum", self.momentum, 0, 1)
        check_range("ema", self.ema or 0, 0, 1)
        check_range("warm_up", self.warm_up, 0, self.epochs)
        synchronized = self.sync_batch_norm and self.batch_norm == "eval"
        require(not synchronized, "batch_norm", "be 'train' for sync_batch_norm=True", self.batch_norm)
        rule = f"divide batch_size={self.batch_size}"
        require(self.batch_size % self.accumulate == 0, "accumulate", rule, self.accumulate)

    def _check_weights(self) -> None:
        check_weighting(self.output, self.class_weights, self.label_smoothing, self.pos_weight)
        for name in ("class_weights", "pos_weight"):
            if not isinstance(getattr(self, name), str | float | int | None):
                object.__setattr__(self, name, tuple(torch.as_tensor(getattr(self, name)).tolist()))
        for name, usual in (("class_weights", None), ("label_smoothing", 0), ("pos_weight", None)):
            value = getattr(self, name)
            rule = f"be {usual} for a criterion or an objective of your own, which has to weigh itself"
            require(value == usual or not self._judges_itself, name, rule, value)

    def _check_layers(self) -> None:
        if self.train_layers is not None:
            words = isinstance(self.train_layers, str) or not all(isinstance(p, str) for p in self.train_layers)
            good = not words and len(self.train_layers) > 0
            require(good, "train_layers", "be None or a sequence of patterns, at least one", self.train_layers)
            object.__setattr__(self, "train_layers", tuple(self.train_layers))

    def _check_objective(self) -> None:
        ramped = self.objective is None or isinstance(self.objective, SIBConfig | GuidanceConfig)
        ours = self.objective is None or isinstance(self.objective, OURS)
        rule = "be settings of a loss of sibx, None, or a function (model, images, labels, masks) -> loss"
        require(ours or callable(self.objective), "objective", rule, self.objective)
        rule = "be 0 for a function, whose terms are its own, and for GroupDROConfig, which has a single term"
        require(ramped or self.warm_up == 0, "warm_up", rule, self.warm_up)
        drawn = self.balanced and isinstance(self.objective, GroupDROConfig)
        rule = "be False for GroupDROConfig, for which groups are drawn equally often"
        require(not drawn, "balanced", rule, self.balanced)
        require(ours or self.criterion is None, "criterion", "be None for an objective of your own", self.criterion)
        given = self.criterion is None or callable(self.criterion)
        require(given, "criterion", "be None or a function (logits, labels) -> loss", self.criterion)
        missing = ours and self.output == "raw" and self.criterion is None
        require(not missing, "criterion", "be given for output='raw', which has no usual loss", None)

    @property
    def _judges_itself(self) -> bool:
        """Whether scores are judged by a function of the caller's."""
        return self.criterion is not None or not (self.objective is None or isinstance(self.objective, OURS))

    @property
    def centers(self) -> bool:
        """Whether the head is centered: not where the loss may need the scores' mean."""
        summed = isinstance(self.objective, SIBConfig) and self.objective.cotangent == "ones"  # it explains the mean
        known = self.output in ("auto", "softmax") and not self._judges_itself
        return self.center_head and known and not summed

    @property
    def chooses(self) -> bool:
        """Whether validation data decides anything."""
        return self.keep == "best" or self.patience is not None

    @property
    def reads_focus(self) -> bool:
        """Whether the foreground focus on validation data is measured."""
        return self.log_focus or self.monitor == "foreground_focus"

    def _check_monitor(self) -> None:
        if callable(self.monitor):
            return
        check_choice("monitor", self.monitor, get_args(MonitorName))
        rule = "be 'loss' or a function for output='raw', whose scores have no classes"
        scored = self.output != "raw" or self.monitor == "loss" or not (self.chooses or self.monitor != "auto")
        require(scored, "monitor", rule, self.monitor)
        lost = self.output == "raw" and self.monitor == "loss" and self.criterion is None
        require(not lost, "criterion", "be given for monitor='loss' and output='raw'", None)
