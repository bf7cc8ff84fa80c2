"""How a classifier does on every label of images that have several: average precision, ROC-AUC and F1."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sibx._checks import check_logits, check_range, require
from sibx._outputs import check_truth, probabilities
from sibx.datasets.base import MaskedDataset, collate
from sibx.models import eval_mode
from sibx.runs.place import pick_device, placed

COLUMNS = ("label", "known", "positive", "average_precision", "roc_auc", "f1")


def label_scores(
    model: Callable[[Tensor], Tensor],
    dataset: MaskedDataset,
    *,
    batch_size: int = 32,
    device: torch.device | str | None = None,
) -> pd.DataFrame:
    """Score a multi-label classifier label by label, by scikit-learn (extra ``labels``).

    Means over labels are the usual scores: ``label_scores(...)["average_precision"].mean()`` is the mAP, those of the
    others are the macro ROC-AUC and F1 (of labels whose probability is above 1/2). Images where a label is unknown do
    not count for it.

    Args:
        model: images -> logits (B, K), one per label; a module runs in eval mode.
        dataset: images with several labels.
        batch_size: images per forward pass.
        device: where to compute; None = where the model is, for a function the CPU.

    Returns:
        One line per class: ``label``, its name; how many images are ``known`` and how many of those are ``positive``;
        ``average_precision`` in [0, 1], chance is the share of positive images; ``roc_auc`` in [0, 1], chance 0.5;
        ``f1`` in [0, 1]. A score is NaN for a label that is there in none or in all of the known images.

    Raises:
        ValueError: a data set with one label per image, or a model whose output is not one score per label.
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
    except ImportError as error:
        raise ImportError("label_scores needs scikit-learn: pip install 'sibx[labels]'") from error
    require(dataset.several_labels, "dataset", "have several labels per image", dataset.name)
    found, truth = _predict(model, dataset, batch_size, device)
    lines = []
    for name, p, wanted in zip(dataset.classes, found.T, truth.T, strict=True):
        known = ~np.isnan(wanted)
        p, wanted = p[known], wanted[known]
        scores = [np.nan] * 3
        if 0 < wanted.sum() < len(wanted):
            scores = [f(wanted, p) for f in (average_precision_score, roc_auc_score)]
            scores.append(f1_score(wanted, p > 0.5, zero_division=0.0))
        lines.append((name, len(wanted), int(wanted.sum()), *map(float, scores)))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _predict(
    model: Callable[[Tensor], Tensor], dataset: MaskedDataset, batch_size: int, device: torch.device | str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and labels, (N, K) each."""
    check_range("batch_size", batch_size, 1)
    place, parts = pick_device(model, device), []
    with placed(model, place), eval_mode(model), torch.inference_mode():
        for batch in DataLoader(dataset, batch_size, collate_fn=collate):
            logits = model(batch.images.to(place))
            check_logits(logits, len(batch))
            check_truth(batch.labels, logits.cpu(), "sigmoid")
            parts.append((probabilities(logits, "sigmoid").cpu().numpy(), batch.labels.numpy()))
    found, truth = (np.concatenate(part) for part in zip(*parts, strict=True))
    return found, truth
