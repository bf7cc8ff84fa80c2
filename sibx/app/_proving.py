"""What a training has gained on pictures that nobody drew on, against its controls: the report's verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sibx.app._lesson import PLAIN, SHUFFLED, TAUGHT, TRAININGS, scores_folder
from sibx.attribution import is_control
from sibx.evaluation import Interval, Results, worst_group
from sibx.report.claims import Claim, make_claims
from sibx.report.names import metric_title
from sibx.report.verdicts import claim_text, in_words

PAGE = "report/report.html"
# That accuracy holds is no gain.
NO_GAINS = ("accuracy", "balanced_accuracy")


@dataclass(frozen=True, slots=True)
class Line:
    """One claim: of which training against which, what is claimed, whether that is shown, and the numbers in words."""

    training: str
    against: str
    metric: str
    claim: str
    status: str
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a training has come to.

    Attributes:
        lines: the claims against both controls.
        worst_groups: training -> accuracy of its worst group in words; {} where no groups are known.
        page: the report.
    """

    lines: tuple[Line, ...]
    worst_groups: Mapping[str, str]
    page: Path

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the metrics that are shown to be better than both controls' on every method."""
        better = {
            metric: {line.against for line in self.lines if line.metric == metric and line.status == "shown"}
            for metric in dict.fromkeys(line.metric for line in self.lines if line.metric not in NO_GAINS)
        }
        return tuple(metric for metric, against in better.items() if against == {PLAIN, SHUFFLED})

    @property
    def worse(self) -> tuple[str, ...]:
        """Names of the metrics of which the opposite is shown against a control."""
        return tuple(dict.fromkeys(line.metric for line in self.lines if line.status == "opposite"))

    @property
    def words(self) -> str:
        """The verdict in one or two sentences."""
        worse = ", ".join(metric_title(name) for name in self.worse)
        return self._gains() + (f" The opposite is shown against a control: {worse}." if worse else "")

    def _gains(self) -> str:
        if not self.shown:
            return (
                "Nothing is shown: no gain of the drawn masks over both controls (training as long without masks, and "
                "with the masks of other pictures) is beyond chance on the held-out pictures."
            )
        names = ", ".join(metric_title(name) for name in self.shown)
        return f"Shown against both controls, on held-out pictures: {names}."


def judge(folder: Path) -> Verdict | None:
    """Return what a training has come to; None as long as its report is not written.

    Args:
        folder: folder of the training.
    """
    page = folder / PAGE
    return _judge(folder, page, page.stat().st_mtime_ns) if page.is_file() else None


@cache
def _judge(folder: Path, page: Path, written: int) -> Verdict:
    """Return it; ``written`` is the time of the page, with which it is computed anew."""
    parts = [Results.open(scores_folder(folder, name, kind)) for name in TRAININGS for kind in ("scores", "reliance")]
    results = Results.concat(parts, {})
    claims = make_claims(results, [(TAUGHT, PLAIN), (TAUGHT, SHUFFLED)])
    lines = tuple(_line(claim) for claim in claims if not is_control(claim.against))
    groups = worst_group(results.hits(), ["training"])
    worst = {str(g["training"]): f"{Interval.of(g)} of {g['n']} pictures" for g in groups.to_dict("records") if g["n"]}
    return Verdict(lines, worst, page)


def _line(claim: Claim) -> Line:
    return Line(
        training=claim.training,
        against=claim.against,
        metric=claim.metric,
        claim=claim_text(claim, [claim.overall.seeds]),
        status=claim.status,
        words=in_words(claim),
    )
