"""How a classifier does label by label, of several per image or of one: average precision, ROC-AUC, F1 and others."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from sibx._checks import check_integer, check_logits, require
from sibx._outputs import Output, check_truth, probabilities
from sibx._precise import precise
from sibx.datasets.base import MaskedDataset, check_dataset
from sibx.datasets.batches import load_batches
from sibx.models import eval_mode
from sibx.runs.place import pick_device, placed

COLUMNS = ("label", "known", "positive", "average_precision", "roc_auc", "f1", "precision", "recall")


def label_scores(
    model: Callable[[Tensor], Tensor],
    dataset: MaskedDataset,
    *,
    output: Output = "auto",
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
) -> pd.DataFrame:
    """Score a classifier label by label, by scikit-learn (extra ``labels``).

    Means over labels are the usual scores: ``label_scores(...)["average_precision"].mean()`` is the mAP, those of the
    others are the macro ROC-AUC and F1. Several labels per image are independent of each other, and one counts as
    predicted if its probability is above 1/2; images where it is unknown do not count for it. Of one label per image
    every class is asked against the rest, and the most probable one is predicted; a single logit has the classes 0 and
    1, and with defect or disease as class 1 its last line is what is usually reported.

    Args:
        model: images -> logits (B, K), one per label or class; a module runs in eval mode.
        dataset: images with labels.
        output: what the logits are, see ``sibx.models.Output``; of several labels per image always ``sigmoid``.
        batch_size: images per forward pass.
        workers: number of processes that read the images ahead; 0 = this process reads them.
        device: where to compute; None = where the model is, for a function the CPU.

    Returns:
        One line per class: ``label``, its name; how many images are ``known`` and how many of those are ``positive``;
        ``average_precision`` in [0, 1], chance is the share of positive images; ``roc_auc`` in [0, 1], chance 0.5;
        ``f1``, ``precision`` and ``recall`` in [0, 1]. A score is NaN for a label that is there in none or in all of
        the known images, precision also for one that is never predicted, the
        first two also where a score of the model is.

    Raises:
        ValueError: another ``output`` for several labels, or a model whose output is not one score per label.
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
    except ImportError as error:
        raise ImportError("label_scores needs scikit-learn: pip install 'sibx[labels]'") from error
    check_dataset(dataset, "dataset")
    several = dataset.several_labels
    require(not several or output in ("auto", "sigmoid"), "output", "be 'sigmoid' for several labels per image", output)
    chances, said, truth = _predict(model, dataset, "sigmoid" if several else output, batch_size, workers, device)
    lines = []
    for k, name in enumerate(dataset.classes):
        known = ~np.isnan(truth[:, k])
        p, predicted, wanted = (table[known, k] for table in (chances, said, truth))
        scores = [np.nan] * 5
        if 0 < wanted.sum() < len(wanted):
            ranked = not np.isnan(p).any()
            scores = [f(wanted, p) if ranked else np.nan for f in (average_precision_score, roc_auc_score)]
            scores.append(f1_score(wanted, predicted, zero_division=0.0))
            found = (predicted * wanted).sum()
            scores += [found / predicted.sum() if predicted.any() else np.nan, found / wanted.sum()]
        lines.append((name, len(wanted), int(wanted.sum()), *map(float, scores)))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _predict(
    model: Callable[[Tensor], Tensor],
    dataset: MaskedDataset,
    output: Output,
    batch_size: int,
    workers: int,
    device: torch.device | str | None,
) -> list[np.ndarray]:
    """Return probabilities, what is predicted and what is true, (N, K) each; NaN where that is unknown."""
    check_integer("batch_size", batch_size, 1)
    place, parts = pick_device(model, device), []
    with placed(model, place), eval_mode(model), torch.inference_mode():
        for batch in load_batches(dataset, batch_size, workers):
            logits = model(batch.images.to(place)).cpu()
            check_logits(logits, len(batch))
            check_truth(batch.labels, logits, output)
            chances, classes = probabilities(logits, output), len(dataset.classes)
            count = chances.shape[1]
            require(count >= classes, "model", f"have a score for each of {classes} classes", count)
            exclusive = batch.labels.ndim == 1
            said = chances.argmax(1, keepdim=True) == torch.arange(classes) if exclusive else chances > 0.5
            truth = F.one_hot(batch.labels, classes) if exclusive else batch.labels
            parts.append((chances.numpy(), said.numpy(), precise(truth).numpy()))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
