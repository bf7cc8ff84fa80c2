"""Claims in words: what the first page of a report says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sibx.attribution import is_control
from sibx.evaluation.columns import ACCURACY
from sibx.report.claims import LEAST_PAIRS, MARGIN, Claim, Scope, Status, combine, pick_headline
from sibx.report.names import TRAININGS, interval, method_title, metric_title

SUMMARIZED = (ACCURACY, "bg_gap")  # beside the headline metric
EXPLANATION = (
    "Shown: the 95 % bootstrap interval of the difference, paired over images, lies on the better side of 0; for every "
    "method, if that holds for each of them. Partly shown: for some; which ones is not corrected for their number. The "
    "opposite is shown: the interval lies on the worse side, for at least one method and on the better side for none. "
    f"Not shown: the interval includes 0, or there are fewer than {LEAST_PAIRS} pairs. Intervals speak of other images "
    "of this kind, not of other training runs; several seeds are averaged first."
)


@dataclass(frozen=True, slots=True)
class Part:
    """A claim in one scope: the scope's name, what is shown there, and in words."""

    scope: str
    status: Status
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim over all scopes: who against whom, who they are, what is claimed, what is shown, and scope by scope."""

    subject: str
    about: str
    claim: str
    status: Status
    parts: tuple[Part, ...]


def summarize(claims: Sequence[Claim], names: Mapping[Scope, str], margin: float = MARGIN) -> list[Verdict]:
    """Put the claims that matter most together over scopes: headline metric, accuracy, background gap, controls."""
    headline = pick_headline([c.metric for c in claims])
    verdicts = []
    for training, against in dict.fromkeys((c.training, c.against) for c in claims):
        for metric in (headline, *SUMMARIZED):
            same = [c for c in claims if (c.training, c.against, c.metric) == (training, against, metric)]
            if same:
                parts = tuple(Part(names[c.scope], c.status, in_words(c)) for c in same)
                status = combine([p.status for p in parts])
                who = _subject(training, against), _about(training, against)
                verdicts.append(Verdict(*who, claim_text(same[0], margin), status, parts))
    return verdicts


def claim_text(claim: Claim, margin: float = MARGIN) -> str:
    """Say what is claimed."""
    title = metric_title(claim.metric)
    if claim.metric == ACCURACY:
        return f"Accuracy holds: it does not lose more than {margin:g}"
    if is_control(claim.against):
        return f"{title} of every method is above that of the {method_title(claim.against).replace(': ', ' ')}"
    if claim.metric == "bg_gap":
        return "The background matters less: the gap between backgrounds of the same and of other classes shrinks"
    if len(claim.findings) == 1:
        return f"{title} improves"
    return f"{title} improves for every method"


def in_words(claim: Claim) -> str:
    """Say what the rows show."""
    difference = interval(claim.overall, sign=True)
    images = f"{claim.overall.n} images"
    if len(claim.findings) == 1:
        return f"{difference}, {images}"
    total, shown = len(claim.findings), sum(f.status == "shown" for f in claim.findings)
    words = f"{shown} of {total} methods, mean {difference}, {images}"
    for status, verb in (("not shown", "not shown for"), ("opposite", "the opposite for")):
        found = [method_title(f.name) for f in claim.findings if f.status == status]
        if found:
            words += f"; {verb} {'all others' if len(found) == total - shown > 2 else ', '.join(found)}"
    return words


def _about(*trainings: str) -> str:
    return "; ".join(f"{t}: {TRAININGS[t]}" for t in trainings if t in TRAININGS)


def _subject(training: str, against: str) -> str:
    if is_control(against):
        return f"{training} against model-free controls" if training else "Methods against model-free controls"
    return f"{training} against {against}"
