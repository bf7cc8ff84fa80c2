"""The criterion that a training's settings ask for."""

from torch import Tensor

from sibx._outputs import Criterion, check_truth, usual_criterion, weighting_of
from sibx.datasets.base import MaskedDataset
from sibx.train.config import TrainConfig
from sibx.train.labels import labels_of


def known_criterion_of(config: TrainConfig, data: MaskedDataset) -> Criterion | None:
    """Return the criterion of a training, the usual one of the output among them; None = ``raw`` without one.

    Args:
        config: settings of the training.
        data: training data, whose labels ``balanced`` counts.

    Raises:
        ValueError: class weights for several labels per image.
    """
    usual = None if config.output == "raw" else usual_criterion(config.output)
    return criterion_of(config, data) or usual


def criterion_of(config: TrainConfig, data: MaskedDataset) -> Criterion | None:
    """Return the criterion of a training; None = the usual one of the output, unweighted.

    Args:
        config: settings of the training.
        data: training data, whose labels ``balanced`` counts.

    Raises:
        ValueError: class weights for several labels per image.
    """
    weights = (config.class_weights, config.pos_weight)
    if weights == (None, None) and config.label_smoothing == 0:
        return config.criterion
    labels = labels_of(data) if "balanced" in weights else None
    weighting = weighting_of(
        config.output,
        class_weights=config.class_weights,
        label_smoothing=config.label_smoothing,
        pos_weight=config.pos_weight,
        labels=labels,
        classes=len(data.classes),
    )
    usual = usual_criterion(config.output, weighting)

    def criterion(scores: Tensor, labels: Tensor) -> Tensor:
        check_truth(labels, scores, config.output)
        return usual(scores, labels)

    return criterion
