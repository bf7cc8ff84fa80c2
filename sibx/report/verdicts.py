"""Claims in words: what the first page of a report says."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sibx.attribution import is_control
from sibx.evaluation.columns import ACCURACY, BALANCED, RECALL
from sibx.report.claims import LEAST_PAIRS, LEAST_SEEDS, MARGIN, Claim, Scope, Status, combine, pick_headline
from sibx.report.names import extent, interval, method_title, metric_title
from sibx.train import TRAININGS

SUMMARIZED = (ACCURACY, BALANCED, RECALL, "bg_gap")  # beside the headline metric
EXPLANATION = (
    "Shown: the 95 % interval of the difference, paired over images, lies on the better side of 0; for every method, "
    "if that holds for each of them. 3 of 7 shown: for three of the methods (of several data sets or splits: methods "
    "of each, added up) and not for the others, so that the claim as a whole is not shown; the words beside it name "
    "the others. Which ones are among the three is not corrected for their number. "
    "The opposite is shown: the interval lies on the worse side, for at least one method and on the better side for "
    "none. "
    f"Not shown: the interval includes 0, or there are fewer than {LEAST_PAIRS} pairs."
)
OF_ONE_SEED = (
    "With one seed, intervals are bootstraps over images: they speak of other images of this kind, for this training. "
    "Trained again with another seed it may be different; with two or more seeds every interval includes that."
)
OF_SEVERAL_SEEDS = (
    "Over several seeds, intervals speak of other images of this kind and of other trainings: what Student's intervals "
    "over seeds and over images reach is added in squares. Few seeds make them wide: Student's factor over seeds is "
    "12.7 with two of them, 4.3 with three, 2.8 with five."
)
OF_UNEQUAL_CLASSES = (
    "Classes have unequal numbers of images, and a loss on a rare class hardly shows in the accuracy: what is claimed "
    "of it is claimed of the balanced accuracy too, in which every class counts equally."
)
ALONE: Mapping[Status, str] = {
    "shown": "it is shown",
    "partly": "it is shown for some methods",
    "opposite": "the opposite is shown",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A claim in one scope: its name, what is shown there, for how many of the methods, and in words."""

    scope: str
    status: Status
    count: tuple[int, int]
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim over all scopes: who against whom, who they are, what is claimed, what is shown, and scope by scope."""

    subject: str
    about: str
    claim: str
    status: Status
    parts: tuple[Part, ...]

    @property
    def count(self) -> tuple[int, int]:
        """For how many it is shown, and of how many: methods, those of every scope counted."""
        return sum(p.count[0] for p in self.parts), sum(p.count[1] for p in self.parts)


def summarize(claims: Sequence[Claim], names: Mapping[Scope, str], margin: float = MARGIN) -> list[Verdict]:
    """Put the claims that matter most together over scopes: headline metric, accuracy, background gap, controls."""
    headline = pick_headline([c.metric for c in claims])
    verdicts = []
    for training, against in dict.fromkeys((c.training, c.against) for c in claims):
        for metric in (headline, *SUMMARIZED):
            same = [c for c in claims if (c.training, c.against, c.metric) == (training, against, metric)]
            if same:
                parts = tuple(Part(names[c.scope], c.status, c.count, in_words(c)) for c in same)
                status = combine([p.status for p in parts])
                who = _subject(training, against), _about(training, against)
                text = claim_text(same[0], [c.overall.seeds for c in same], margin)
                verdicts.append(Verdict(*who, text, status, parts))
    return verdicts


def explain(claims: Sequence[Claim]) -> str:
    """Say what the verdicts mean."""
    seeds = {claim.overall.seeds for claim in claims}
    several = [OF_SEVERAL_SEEDS] if max(seeds, default=1) > 1 else []
    unequal = [OF_UNEQUAL_CLASSES] if any(claim.metric == BALANCED for claim in claims) else []
    return " ".join([EXPLANATION, *unequal, *([OF_ONE_SEED] if min(seeds, default=1) < 2 else []), *several])


def claim_text(claim: Claim, seeds: Collection[int], margin: float = MARGIN) -> str:
    """Say what is claimed, and of which trainings.

    Args:
        claim: the claim, of any scope.
        seeds: how many seeds the scopes have.
        margin: what accuracy may lose and still count as held.
    """
    return f"{_statement(claim, margin)}, {extent(seeds)}"


def _statement(claim: Claim, margin: float) -> str:
    title = metric_title(claim.metric)
    if claim.metric in (ACCURACY, BALANCED, RECALL):
        return f"{title} holds: it does not lose more than {margin:g}"
    if is_control(claim.against):
        return f"{title} of every method is above that of the {method_title(claim.against).replace(': ', ' ')}"
    if claim.metric == "bg_gap":
        return "The background matters less: the gap between backgrounds of the same and of other classes shrinks"
    if len(claim.findings) == 1:
        return f"{title} improves"
    return f"{title} improves for every method"


def in_words(claim: Claim) -> str:
    """Say what the rows show."""
    found = interval(claim.overall.interval, sign=True)
    words = f"{found}, {claim.overall.interval.n} images"
    if claim.overall.seeds > 1:
        words += f", {claim.overall.seeds} seeds"
    if len(claim.findings) > 1:
        words = _count_methods(claim, words)
    return words + _of_these(claim)


def _count_methods(claim: Claim, mean: str) -> str:
    shown, total = claim.count
    words = f"{shown} of {total} methods, mean {mean}"
    for status, verb in (("not shown", "not shown for"), ("opposite", "the opposite for")):
        found = [method_title(f.name) for f in claim.findings if f.status == status]
        if found:
            words += f"; {verb} {'all others' if len(found) == total - shown > 2 else ', '.join(found)}"
    return words


def _of_these(claim: Claim) -> str:
    """What is shown of these trainings where nothing is of others: there are too few, or they differ too much."""
    seeds = claim.overall.seeds
    if claim.status != "not shown" or claim.these == "not shown":
        return ""
    found = interval(claim.overall.these, sign=True)
    words = f"; of these {seeds} trainings alone {ALONE[claim.these]} ({found} over images)"
    return words + (f", but {seeds} seeds are few" if seeds < LEAST_SEEDS else "")


def _about(*trainings: str) -> str:
    return "; ".join(f"{t}: {TRAININGS[t].title}" for t in trainings if t in TRAININGS)


def _subject(training: str, against: str) -> str:
    if is_control(against):
        return f"{training} against model-free controls" if training else "Methods against model-free controls"
    return f"{training} against {against}"
