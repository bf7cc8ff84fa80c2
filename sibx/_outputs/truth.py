"""What labels may be, and the usual loss between them and scores."""

from torch import Tensor

from sibx._checks import check_labels, require
from sibx._outputs.kinds import KINDS, Criterion, Output, kind_of
from sibx._outputs.weighting import PLAIN, Weighting, Weights, weighting_of


def criterion_for(
    output: Output = "auto",
    *,
    class_weights: Weights = None,
    label_smoothing: float = 0.0,
    pos_weight: Weights = None,
    labels: Tensor | None = None,
) -> Criterion:
    """Return the usual loss: cross-entropy, or the binary one of one or several labels without the unknown (NaN).

    ``SIBLoss``, ``GuidanceLoss`` and ``TrainConfig`` take it as ``criterion=``.

    Args:
        output: what the scores are.
        class_weights: weight of every class, (C,) numbers at least 0, as in torch's ``cross_entropy``: the loss is the
            weighted mean over the images of a batch; ``"balanced"`` = inversely proportional to the images of the
            class, which all classes together then have the same say; None = 1. Not for several labels.
        label_smoothing: share in [0, 1) of the target that is spread evenly over the classes; of a label by itself over
            yes and no.
        pos_weight: weight of the labels that are there, beside 1 for those that are not, (K,) numbers or one for all,
            as in torch's ``binary_cross_entropy_with_logits``; ``"balanced"`` = images without the label per image with
            it; None = 1. For ``sigmoid``, and in place of ``class_weights``.
        labels: labels of all training images, (N,) or (N, K), which ``"balanced"`` counts.

    Raises:
        ValueError: ``raw``, for which there is none; weights that are no such numbers or contradict each other;
            ``"balanced"`` without labels. When the loss is called also another number of weights than of classes.

    Example:
        >>> criterion_for("sigmoid")(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, float("nan")]]))
        tensor(0.6931)
        >>> criterion = criterion_for(class_weights="balanced", labels=torch.tensor([0, 0, 0, 1]))
        >>> criterion(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
        tensor(0.5982)
    """
    usual = usual_criterion(
        output,
        weighting_of(
            output, class_weights=class_weights, label_smoothing=label_smoothing, pos_weight=pos_weight, labels=labels
        ),
    )

    def criterion(scores: Tensor, labels: Tensor) -> Tensor:
        check_truth(labels, scores, output)
        return usual(scores, labels)

    return criterion


def usual_criterion(output: Output, weighting: Weighting = PLAIN) -> Criterion:
    """Return the usual loss for labels that have been checked: the check waits for the device."""
    require(output != "raw", "criterion", "be given for output='raw', which has no usual loss", None)

    def criterion(scores: Tensor, labels: Tensor) -> Tensor:
        found = kind_of(scores, output).criterion
        assert found is not None
        return found(scores, labels, weighting)

    return criterion


def check_truth(labels: Tensor, scores: Tensor, output: Output = "auto") -> None:
    """Require class indices (B,), or for several labels (B, K) floating point, each 0, 1 or NaN (unknown).

    What is true of ``raw`` scores only their criterion knows.

    Args:
        labels: what is checked.
        scores: scores (B, K) of a model.
        output: what they are.

    Raises:
        ValueError: labels of another shape, dtype or range.
    """
    kind = kind_of(scores, output)
    if kind is KINDS["raw"]:
        return
    if kind.exclusive:
        several = labels.ndim == 2
        require(not several, "output", "be 'sigmoid' for several labels per image", output)
        check_labels(labels, kind.class_scores(scores))
        return
    good = labels.shape == scores.shape and labels.is_floating_point()
    require(good, "labels", f"be a floating-point tensor of shape {tuple(scores.shape)}", labels)
    known = labels[~labels.isnan()]
    require(bool(((known == 0) | (known == 1)).all()), "labels", "be 0, 1 or NaN (unknown)", labels)


def scores_for(classes: int, output: Output, *, several: bool = False) -> int:
    """Return how many scores a model of a data set needs: one for two classes by a sigmoid, else one per class.

    Args:
        classes: number of classes of the data set.
        output: what the scores are.
        several: whether an image may have several of the classes, or none.

    Raises:
        ValueError: ``sigmoid`` for more than two classes of which each image has one.

    Example:
        >>> scores_for(2, "sigmoid"), scores_for(2, "auto"), scores_for(20, "sigmoid", several=True)
        (1, 2, 20)
    """
    if output != "sigmoid" or several:
        return classes
    rule = "be 'softmax' (or 'auto') for more than two classes of which each image has one"
    require(classes == 2, "output", rule, output)
    return 1
