"""What the scores show, claim by claim: paired differences whose interval lies on one side of 0, or honestly nothing.

A claim is about one data set, split and model. "Focus rises" holds for a method if the 95 % interval of the paired
difference lies above 0, and for all methods only if it does so for each of them; so no correction for their number is
needed. Accuracy holds if its interval stays above minus a margin that is named. The intervals are those of
``Results.difference``: with one seed they speak for this training, with several for other trainings too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from sibx._checks import check_choice, check_range
from sibx.attribution import is_control
from sibx.evaluation import Gain, Interval, Results, paired_gain
from sibx.evaluation.classified import to_balanced
from sibx.evaluation.classifier_rates import MAJORITY, RATES
from sibx.evaluation.columns import ACCURACY, BALANCED, CLASSIFIER, IMAGE, per_image
from sibx.evaluation.label_rates import LABEL_RATES
from sibx.metrics import METRICS
from sibx.report.unequal import are_unequal
from sibx.train.trainings import control_name, is_shuffled

Status = Literal["shown", "partly", "not shown", "opposite"]
Column = tuple[str, str]  # training, method
Pairs = Mapping[str, tuple[Column, Column]]  # method -> which scores are compared with which
Comparison = tuple[str, str]  # two values of the training column: whose gain is asked for, and over which
HEADLINE = "foreground_focus"
MARGIN = 0.02  # that accuracy may lose and still count as held
LEAST_PAIRS = 6  # with five, not even a sign test can reject at 5 %: 2 / 2^5 > 0.05
LEAST_SEEDS = 5  # with four, Student's factor is above 3; with many it is 2
# Scores of a classifier, beside METRICS, whose direction is beyond doubt.
RELIANCE_DIRECTIONS = {"bg_gap": False, "mixed_rand": True}
RATE_DIRECTIONS = dict.fromkeys({*RATES, *LABEL_RATES} - {MAJORITY}, True)


class Scope(NamedTuple):
    """What a claim is about."""

    dataset: str
    split: str
    model: str


SCOPE = list(Scope._fields)  # its columns
PAIRED = [*IMAGE, "seed"]  # what has to be the same in two scores that are compared


class Scores(NamedTuple):
    """Scores of one column, (N,), one per image and seed: NaN where one is undefined or not there, and which is."""

    values: npt.NDArray[np.float64]
    there: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a method gains and what that shows: ``status``, and of these trainings alone, where there are several."""

    name: str
    gain: Gain
    status: Status
    these: Status


@dataclass(frozen=True, slots=True)
class Claim:
    """That a training's scores are better than those ``against`` it.

    Attributes:
        scope: data set, split and model that it is about.
        training: the training whose scores they are.
        against: another training, or a model-free control of the same training.
        metric: key of METRICS, or ``accuracy`` (of several labels ``recall``), or a score of the classifier.
        overall: the difference of the mean over methods (an image's: over those defined for it).
        findings: one finding per method.
    """

    scope: Scope
    training: str
    against: str
    metric: str
    overall: Gain
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """What the findings show together."""
        return combine([f.status for f in self.findings])

    @property
    def count(self) -> tuple[int, int]:
        """For how many methods it is shown, and of how many."""
        return sum(f.status == "shown" for f in self.findings), len(self.findings)

    @property
    def these(self) -> Status:
        """What they show of these trainings alone."""
        return combine([f.these for f in self.findings])


def combine(statuses: Sequence[Status]) -> Status:
    """Return ``shown`` if all are, ``partly`` if some are, ``opposite`` if none is and any is, else ``not shown``."""
    if statuses and all(s == "shown" for s in statuses):
        return "shown"
    if any(s in ("shown", "partly") for s in statuses):
        return "partly"
    return "opposite" if "opposite" in statuses else "not shown"


def judge(difference: Interval, higher_is_better: bool) -> Status:
    """Say whether an interval of a difference lies on the better side of 0, on the worse one, or shows nothing.

    It shows nothing if it touches 0, if there is none, and with fewer than six pairs.
    """
    if difference.n < LEAST_PAIRS:
        return "not shown"
    low, high = difference.low, difference.high
    if not higher_is_better:
        low, high = -high, -low
    return "shown" if low > 0 else "opposite" if high < 0 else "not shown"


def judge_held(difference: Interval, margin: float) -> Status:
    """Say whether a loss beyond the margin is excluded; ``opposite`` if it is not and a loss is certain."""
    if difference.n < LEAST_PAIRS:
        return "not shown"
    if difference.low >= -margin:
        return "shown"
    return "opposite" if difference.high < 0 else "not shown"


def pick_headline(metrics: Sequence[str]) -> str:
    """Return the metric that the summary speaks of: foreground focus, else the first of METRICS, else none ("")."""
    return HEADLINE if HEADLINE in metrics else next((m for m in metrics if m in METRICS), "")


def known_directions(own: Mapping[str, bool] | None = None) -> dict[str, bool]:
    """Return metric -> whether higher is better: METRICS, the classifier's scores, and the caller's own."""
    known = {m: s.higher_is_better for m, s in METRICS.items() if s.higher_is_better is not None}
    return known | RELIANCE_DIRECTIONS | RATE_DIRECTIONS | dict(own or {})


def default_comparisons(trainings: Sequence[str]) -> list[Comparison]:
    """Pair every training with ``ce`` (or the first one), and S-IB with its control, the shuffled masks, where there.

    Shuffled trainings are controls: nothing is claimed for them.
    """
    reference = "ce" if "ce" in trainings else next(iter(trainings), "")
    claimed = [t for t in trainings if t != reference and not is_shuffled(t)]
    controls = [(t, control_name(t)) for t in claimed if control_name(t) in trainings]
    return [(t, reference) for t in claimed] + controls


def make_claims(
    results: Results,
    comparisons: Sequence[Comparison] | None = None,
    *,
    directions: Mapping[str, bool] | None = None,
    margin: float = MARGIN,
) -> list[Claim]:
    """Return all claims that the rows can speak to.

    Per data set, split and model: for every comparison, accuracy (of several labels recall), where classes are unequal
    balanced accuracy too, and every metric with a direction; and for every
    training whose gain is asked for (without a comparison: every training), the headline metric against the model-free
    controls. Differences are taken image by image and seed by seed, see ``paired_gain``.

    Args:
        results: results of any number of data sets, models and trainings.
        comparisons: pairs of trainings; by default ``default_comparisons``.
        directions: metric of your own -> whether higher is better.
        margin: what accuracy may lose and still count as held.

    Raises:
        ValueError: a training that is not in the results, or a negative margin.
    """
    check_range("margin", margin, 0, 1)
    trainings = tuple(results.distinct("training")["training"])
    comparisons = default_comparisons(trainings) if comparisons is None else comparisons
    for name in (t for pair in comparisons for t in pair):
        check_choice("comparisons", name, trainings)
    asked = list(dict.fromkeys(t for t, _ in comparisons)) or list(trainings)
    known, claims = known_directions(directions), list[Claim]()
    for key, hits in results.hits().rows.groupby(SCOPE, sort=False, observed=True):
        claims.extend(_Pairs(Scope(*map(str, key)), hits, results, known).claims(comparisons, asked, margin))
    return claims


class _Pairs:
    """The rows of one scope, those of an image and seed paired.

    Args:
        scope: the scope.
        hits: its rows of ``Results.hits``.
        results: all rows.
        directions: metric -> whether higher is better.
    """

    def __init__(self, scope: Scope, hits: pd.DataFrame, results: Results, directions: Mapping[str, bool]):
        self.scope, self.results, self.directions = scope, results, directions
        self.hits = _by_training(hits)
        self.right = {str(hits["metric"].iloc[0]): self.hits}  # of accuracy, or of several labels of recall
        if ACCURACY in self.right and are_unequal(hits) and self.hits.notna().any(axis=None):
            self.right[BALANCED] = _by_training(to_balanced(hits))
        lines = results.distinct(*SCOPE, "method", "metric")
        of_scope = lines[(lines[SCOPE] == list(scope)).all(axis=1)]
        self.methods = list(dict.fromkeys(of_scope["method"]))
        self.metrics = list(dict.fromkeys(of_scope["metric"]))

    def claims(self, comparisons: Sequence[Comparison], asked: Sequence[str], margin: float) -> Iterator[Claim]:
        """Yield the claims of one comparison after the other, then those against controls of the trainings asked for.

        They are made metric by metric: the scores of one metric are in memory.
        """
        headline, against_controls = pick_headline(self.metrics), list[Claim]()
        compared = [list(self._accuracy(*pair, margin)) for pair in comparisons]
        for metric in (m for m in self.metrics if m in self.directions):
            scores = self._scores(metric)
            for claims, (training, reference) in zip(compared, comparisons, strict=True):
                pairs = {m: ((training, m), (reference, m)) for m in self.methods}
                claims.extend(self._claim(training, reference, metric, pairs, scores))
            for training, control in product(asked, filter(is_control, self.methods)) if metric == headline else ():
                pairs = {m: ((training, m), (training, control)) for m in self.methods}
                against_controls.extend(self._claim(training, control, metric, pairs, scores))
        yield from chain(*compared, against_controls)

    def _accuracy(self, training: str, reference: str, margin: float) -> Iterator[Claim]:
        """Accuracy, and where classes are unequal balanced accuracy, which a loss on rare classes does not escape."""
        for metric, hits in self.right.items():
            if {training, reference} <= set(hits.dropna(axis=1, how="all")):  # scores without classes have no hits
                gain = paired_gain((hits[training] - hits[reference]).dropna())
                finding = _find(CLASSIFIER, gain, lambda interval: judge_held(interval, margin))
                yield Claim(
                    scope=self.scope,
                    training=training,
                    against=reference,
                    metric=metric,
                    overall=gain,
                    findings=(finding,),
                )

    def _scores(self, metric: str) -> dict[Column, Scores]:
        """The scores of a metric by training and method."""
        found = {}
        by = ["training", "method"]
        for (training, method), cell in self.results.cells(by, **self.scope._asdict(), metric=metric):
            means = per_image(cell, PAIRED)
            values, there = np.full(len(self.hits), np.nan), np.zeros(len(self.hits), dtype=bool)
            places = self.hits.index.get_indexer(means.index)
            values[places], there[places] = means, True
            found[str(training), str(method)] = Scores(values, there)
        return found

    def _differences(self, pairs: Pairs, scores: Mapping[Column, Scores]) -> Iterator[tuple[str, pd.Series]]:
        """The differences of every method, controls apart, that has both columns."""
        for method, (better, worse) in pairs.items():
            if not is_control(method) and better in scores and worse in scores:
                both = scores[better].there & scores[worse].there
                difference = scores[better].values - scores[worse].values
                yield method, pd.Series(difference[both], self.hits.index[both])

    def _claim(
        self, training: str, against: str, metric: str, pairs: Pairs, scores: Mapping[Column, Scores]
    ) -> Iterator[Claim]:
        """The claim over all methods that have differences; none without any."""
        differences = dict(self._differences(pairs, scores))
        if differences:
            higher = self.directions[metric]
            gains = {method: paired_gain(values) for method, values in differences.items()}
            findings = tuple(_find(m, gain, lambda interval: judge(interval, higher)) for m, gain in gains.items())
            yield Claim(
                scope=self.scope,
                training=training,
                against=against,
                metric=metric,
                overall=paired_gain(pd.DataFrame(differences).mean(axis=1)),
                findings=findings,
            )


def _by_training(hits: pd.DataFrame) -> pd.DataFrame:
    """Return the values of an image and seed, a line for each, in a column per training."""
    means = hits.groupby([*PAIRED, "training"], sort=False, observed=True)["value"].mean()
    return means.unstack("training")


def _find(name: str, gain: Gain, rule: Callable[[Interval], Status]) -> Finding:
    return Finding(name, gain, rule(gain.interval), rule(gain.these))
