"""Which of several methods rank differently over the same images: Friedman's test and Nemenyi's critical difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from string import ascii_lowercase

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import chi2, rankdata, studentized_range

from sibx._checks import check_choice, check_range, require
from sibx.evaluation.by_cell import ByCell
from sibx.evaluation.columns import side_by_side
from sibx.evaluation.photographs import means_of, photographs_of
from sibx.evaluation.ties import with_ties
from sibx.metrics import METRICS

Array = npt.NDArray[np.float64]

DIVIDED, ABOVE_CHANCE = 0.25, 1.5  # share of the images on which a method is first, or last; times 1 / k at least


@dataclass(frozen=True, slots=True)
class Ranking:
    """Methods by their mean rank over images.

    Attributes:
        mean_ranks: method -> mean rank, 1 = always the best; best first.
        critical_difference: two mean ranks that far apart, or farther, differ.
        first: method -> share of the images on which it is the best; t equal ones have 1 / t of an image each,
            and one on which all are equal counts for none.
        last: method -> share of the images on which it is the worst, likewise.
        groups: the largest sets of methods of which no two differ, best first; a method that differs from all others is
            a group of its own.
        statistic: Friedman's chi squared, corrected for ties.
        p_value: chance of such a statistic if all methods ranked alike.
        n: images ranked.
        undefined: images left out because a method has no score there.
        undefined_by: method -> images without a score.
        level: chance of any false difference, which the critical difference allows.
    """

    mean_ranks: dict[str, float]
    first: dict[str, float]
    last: dict[str, float]
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]
    statistic: float
    p_value: float
    n: int
    undefined: int
    undefined_by: dict[str, int]
    level: float

    @property
    def divided(self) -> list[str]:
        """Methods whose mean rank hides two kinds of images: first on a quarter of them or more, and last on as many.

        Of few methods these are many by chance alone: both shares have to be half as much again as 1 / k.
        """
        least = max(DIVIDED, ABOVE_CHANCE / len(self.mean_ranks))
        return [m for m in self.mean_ranks if min(self.first[m], self.last[m]) >= least]

    def letters(self, method: str) -> str:
        """Return the letters of a method's groups; methods that share one do not differ."""
        return "".join(_letter(i) for i, group in enumerate(self.groups) if method in group)

    def table(self) -> pd.DataFrame:
        """Return a line per method; methods that share a letter do not differ."""
        lines = [
            {
                "method": method,
                "mean_rank": rank,
                "first": self.first[method],
                "last": self.last[method],
                "groups": self.letters(method),
                "undefined": self.undefined_by[method],
            }
            for method, rank in self.mean_ranks.items()
        ]
        return pd.DataFrame(lines)


def rank_methods(scores: Array, methods: Sequence[str], *, higher_is_better: bool, level: float = 0.05) -> Ranking:
    """Rank methods on every image, and say which mean ranks differ.

    On an image the best of k methods has rank 1, equal ones their mean rank. Friedman's statistic over N images with
    mean ranks R_j is ``12 N / (k (k + 1)) (sum R_j^2 - k (k + 1)^2 / 4)``, divided by the correction for ties
    ``1 - sum (t^3 - t) / (N (k^3 - k))`` over groups of t equal scores of an image, and follows chi squared with k - 1
    degrees of freedom. Nemenyi's critical difference is ``q sqrt(k (k + 1) / (6 N))`` with q the upper quantile of the
    studentized range of k means (infinite degrees of freedom) divided by sqrt(2).

    Args:
        scores: (N, k), a row per image; NaN means undefined. An image that is undefined for any method cannot be
            ranked: it is left out and counted.
        methods: k names.
        higher_is_better: direction of the score.
        level: chance of any false difference that the critical difference allows, in (0, 1).

    Returns:
        Ranking. Where all methods are equal on every image the statistic is 0 and p is 1; without a ranked image all is
        NaN, and no two methods differ.

    Raises:
        ValueError: scores that are not (N, k) with k >= 2 names, or a level out of range.

    Source: Demsar 2006, JMLR 7; the correction for ties: Conover 1999, section 5.8.
    """
    scores = np.asarray(scores, dtype=np.float64)
    good = scores.ndim == 2 and scores.shape[1] == len(methods) >= 2
    require(good, "scores", f"be (N, k) with a column for each of k >= 2 methods {list(methods)}", scores.shape)
    check_range("level", level, 0, 1)
    missing = np.isnan(scores)
    complete = scores[~missing.any(1)]
    (n, k), undefined = complete.shape, int(missing.any(1).sum())
    ranks = rankdata(-complete if higher_is_better else complete, axis=1)
    means = ranks.mean(0) if n else np.full(k, np.nan)
    statistic = _friedman(ranks) if n else np.nan
    reach = _critical_difference(n, k, level) if n else np.nan
    order = np.argsort(means, kind="stable")
    mean_ranks = {methods[i]: float(means[i]) for i in order}
    first, last = _shares(ranks, ranks.min(1)), _shares(ranks, ranks.max(1))
    return Ranking(
        mean_ranks=mean_ranks,
        first={methods[i]: float(first[i]) for i in order},
        last={methods[i]: float(last[i]) for i in order},
        critical_difference=reach,
        groups=_groups(mean_ranks, reach),
        statistic=statistic,
        p_value=float(chi2.sf(statistic, k - 1)),
        n=n,
        undefined=undefined,
        undefined_by={methods[i]: int(missing[:, i].sum()) for i in order},
        level=level,
    )


def rank_rows(rows: ByCell, metric: str, higher_is_better: bool | None, level: float) -> Ranking:
    """Return what ``Results.ranking`` says."""
    check_choice("metric", metric, tuple(rows.distinct(["metric"])["metric"]))
    for name in ("dataset", "split", "model", "training", "seed"):
        found = rows.distinct([name])[name].tolist()
        require(len(found) == 1, "rows", f"be of one {name} (pick it with where)", found)
    higher = direction_of(metric, higher_is_better)
    methods, scores = scores_by_photograph(rows.table({"metric": [metric]}))
    return rank_methods(with_ties(scores), methods, higher_is_better=higher, level=level)


def scores_by_photograph(of_metric: pd.DataFrame) -> tuple[list[str], Array]:
    """Return the methods of the rows of one metric and network, and their scores (photographs, methods).

    A row of a photograph with several counts for all methods or for none.
    """
    wide = side_by_side(of_metric, ["image_id", "photo"], "method")
    methods = [str(m) for m in of_metric["method"].unique()]
    scores, photos = wide[methods].to_numpy(copy=True), photographs_of(wide.index)
    if photos is not None:
        scores[np.isnan(scores).any(1)] = np.nan
    return methods, np.stack([means_of(column, photos) for column in scores.T], 1)


def direction_of(metric: str, higher_is_better: bool | None) -> bool:
    """Return whether a higher score is better: what was said, else what METRICS says.

    Raises:
        ValueError: nothing says it.
    """
    if higher_is_better is None:
        require(metric in METRICS, "higher_is_better", f"be given for {metric}, which is not in METRICS", None)
        higher_is_better = METRICS[metric].higher_is_better
    require(higher_is_better is not None, "higher_is_better", f"be given for {metric}, which states none", None)
    assert higher_is_better is not None
    return higher_is_better


def _shares(ranks: Array, extreme: Array) -> Array:
    """Share of the images (N, k) on which every method has the extreme rank (k,); equal ones share an image."""
    if not len(ranks):
        return np.full(ranks.shape[1], np.nan)
    there = (ranks == extreme[:, None]) & (np.ptp(ranks, 1) > 0)[:, None]
    return np.asarray((there / np.maximum(1, there.sum(1, keepdims=True))).mean(0), dtype=np.float64)


def _friedman(ranks: Array) -> float:
    """Chi squared of ranks (N, k): their spread over methods, in units of what random orders of each row give."""
    n, k = ranks.shape
    spread = n * ((ranks.mean(0) - (k + 1) / 2) ** 2).sum()
    expected = ((ranks - (k + 1) / 2) ** 2).sum() / (n * (k - 1))
    return float(spread / expected) if expected else 0.0


def _critical_difference(n: int, k: int, level: float) -> float:
    return float(_quantile(k, level) / 2**0.5 * (k * (k + 1) / (6 * n)) ** 0.5)


@cache
def _quantile(k: int, level: float) -> float:
    """The upper quantile of the studentized range of k means, which takes scipy a good part of a second."""
    return float(studentized_range.ppf(1 - level, k, np.inf))


def _groups(mean_ranks: dict[str, float], reach: float) -> tuple[tuple[str, ...], ...]:
    """Runs of the ordered methods within the critical difference that no longer run contains."""
    names, ranks = list(mean_ranks), np.array(list(mean_ranks.values()))
    groups: list[tuple[str, ...]] = []
    end = 0
    for start in range(len(names)):
        after = start + int((~(ranks[start:] - ranks[start] >= reach)).sum())
        if after > end:
            groups.append(tuple(names[start:after]))
            end = after
    return tuple(groups)


def _letter(index: int) -> str:
    return ascii_lowercase[index] if index < len(ascii_lowercase) else f"({index + 1})"
