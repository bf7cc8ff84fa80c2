"""Scores read from perturbation curves: no further image goes through the model.

Every function takes ``Curves`` and returns (B,) float64, NaN where the heatmap is zero everywhere or not finite. Chance
is what a random map gets; where that is a number, the function says so.
"""

import torch
from torch import Tensor

from sibx._checks import require
from sibx.metrics.curves._perturbations import Curves, perturbations
from sibx.metrics.curves.auc import deletion_of, insertion_of, lerf_of
from sibx.metrics.explained import Explained
from sibx.metrics.spec import RANDOM_MAP, MetricSpec


def normalized_deletion(deletion: Curves) -> Tensor:
    """Deletion AUC in units of the clean probability: ``AUC / p_0``; lower is better.

    Range [0, 1 / p_0]: 1 is a probability that stays what it is, so that images the model is more or less sure of
    compare. NaN where the heatmap is zero everywhere or not finite, and where the clean probability p_0 is 0 (a ``raw``
    score: not above 0).

    Args:
        deletion: what ``deletion`` returns; the clean image is its first point.

    Source: sibx; the AUC is that of Petsiuk et al., arXiv 1806.07421.
    """
    return _in_units_of(deletion.probabilities[:, 0], deletion.auc)


NORMALIZED_DELETION = MetricSpec(
    name="normalized_deletion",
    title="Normalized deletion AUC",
    formula="deletion / p_0, the probability of the clean image",
    score=lambda e: normalized_deletion(deletion_of(e)),
    higher_is_better=False,
    bounds=(0.0, float("inf")),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="deletion / clean probability",
)


def normalized_insertion(insertion: Curves) -> Tensor:
    """Insertion AUC in units of the clean probability: ``AUC / p_0``; higher is better.

    Range [0, 1 / p_0]: 1 is a probability that stays what it is, so that images the model is more or less sure of
    compare. NaN where the heatmap is zero everywhere or not finite, and where the clean probability p_0 is 0 (a ``raw``
    score: not above 0).

    Args:
        insertion: what ``insertion`` returns; the clean image is its last point.

    Source: sibx; the AUC is that of Petsiuk et al., arXiv 1806.07421.
    """
    return _in_units_of(insertion.probabilities[:, -1], insertion.auc)


NORMALIZED_INSERTION = MetricSpec(
    name="normalized_insertion",
    title="Normalized insertion AUC",
    formula="insertion / p_0, the probability of the clean image",
    score=lambda e: normalized_insertion(insertion_of(e)),
    higher_is_better=True,
    bounds=(0.0, float("inf")),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="insertion / clean probability",
)


def insertion_minus_deletion(insertion: Curves, deletion: Curves) -> Tensor:
    """Insertion AUC minus deletion AUC: one number for both questions; higher is better.

    Range [-1, 1]. A random map scores about the difference of what the two baselines leave to the model, not 0; with
    the same baseline in both it is ``srg``, and a random map scores 0 on average. NaN where the heatmap is zero
    everywhere or not finite.

    Args:
        insertion: what ``insertion`` returns.
        deletion: what ``deletion`` returns, for the same images.

    Raises:
        ValueError: curves of different numbers of images.
    """
    _check_pair("insertion", insertion, deletion)
    return insertion.auc - deletion.auc


def _insertion_minus_deletion(e: Explained) -> Tensor:
    e.once(perturbations).measure(("deletion", "mean"), ("insertion", "blur"))  # both in one stream
    return insertion_minus_deletion(insertion_of(e), deletion_of(e))


INSERTION_MINUS_DELETION = MetricSpec(
    name="insertion_minus_deletion",
    title="Insertion - deletion",
    formula="insertion - deletion",
    score=_insertion_minus_deletion,
    higher_is_better=True,
    bounds=(-1.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="of the two AUCs",
)


def srg(lerf: Curves, morf: Curves) -> Tensor:
    """Symmetric relevance gain: ``AUC(LeRF) - AUC(MoRF)``, both towards the same baseline; higher is better.

    Range [-1, 1]; chance is 0: the two orders of a random map are equal in distribution. A map and its reverse score
    opposite values. NaN where the heatmap is zero everywhere or not finite.

    Args:
        lerf: what ``lerf`` returns, least relevant pixels first.
        morf: what ``deletion`` returns with the same baseline, most relevant pixels first.

    Raises:
        ValueError: curves of different numbers of images.

    Source: Bluecher, Vielhaben and Strodthoff, TMLR 2024, arXiv 2401.06654; there on superpixels, here on the pixels
    and shares of ``deletion``.
    """
    _check_pair("lerf", lerf, morf)
    return lerf.auc - morf.auc


def _srg(e: Explained) -> Tensor:
    e.once(perturbations).measure(("deletion", "mean"), ("insertion", "mean"))  # both in one stream
    return srg(lerf_of(e), deletion_of(e))


SRG = MetricSpec(
    name="srg",
    title="Symmetric relevance gain",
    formula="lerf - deletion",
    score=_srg,
    higher_is_better=True,
    bounds=(-1.0, 1.0),
    chance="0",
    needs_model=True,
    reference="Bluecher 2024, arXiv 2401.06654",
)


def aopc(morf: Curves) -> Tensor:
    """Area over the MoRF perturbation curve: ``1 / (L + 1) sum_{k=0}^{L} (p_0 - p_k)``; higher is better.

    L is the number of steps and k = 0 the clean image, whose term is 0, as published: a plain mean over the measured
    points, which depends on L a little (the trapezoids of ``deletion`` do not). Range [-L / (L + 1), L / (L + 1)].
    NaN where the heatmap is zero everywhere or not finite.

    Args:
        morf: what ``deletion`` returns, most relevant pixels first.

    Source: Samek et al., IEEE TNNLS 2017, arXiv 1509.06321. There 100 regions of 9 x 9 pixels, a part of
    the image, are replaced by uniform noise; here all pixels are, in the shares and by the baseline of ``deletion``.
    """
    p = morf.probabilities
    return (p[:, :1] - p).mean(1).masked_fill(morf.auc.isnan(), torch.nan)


AOPC = MetricSpec(
    name="aopc",
    title="AOPC",
    formula="mean of p_0 - p_k over the L + 1 points k = 0, ..., L of the deletion curve",
    score=lambda e: aopc(deletion_of(e)),
    higher_is_better=True,
    bounds=(-1.0, 1.0),
    chance=RANDOM_MAP,
    needs_model=True,
    reference="Samek 2017, arXiv 1509.06321",
)


def _in_units_of(clean: Tensor, auc: Tensor) -> Tensor:
    return (auc / clean).masked_fill(clean <= 0, torch.nan)


def _check_pair(argument: str, curves: Curves, like: Curves) -> None:
    require(len(curves.auc) == len(like.auc), argument, f"hold {len(like.auc)} images", len(curves.auc))
