"""How keys are called on a page."""

from collections.abc import Collection, Sequence

from sibx.attribution import METHODS
from sibx.evaluation import Interval
from sibx.metrics import METRICS
from sibx.report.claims import Scope, Status

MINUS = "\N{MINUS SIGN}"
METHOD_HEAD, TRAINING_HEAD = "Method", "Training"
CLASSIFIER_TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "lowest_recall": "Lowest recall of a class",
    "f1": "F1",
    "auroc": "AUROC",
    "mean_average_precision": "Mean average precision",
    "majority_rate": "Always the commonest answer",
    "precision": "Precision",
    "recall": "Recall of labels that are there",
    "label_accuracy": "Labels right, there or not",
    "original": "As it is",
    "bg_gap": "Background gap",
    "only_fg": "Object only",
    "no_fg": "Object blacked out",
    "only_bg_b": "Box blacked out",
    "only_bg_t": "Box tiled over",
    "only_bg_i": "Object inpainted",
    "mixed_same": "Background of the same class",
    "mixed_rand": "Background of another class",
    "mixed_next": "Background of the next class",
}


def badge(status: Status, count: tuple[int, int]) -> str:
    """Say on a badge what is shown; where it is shown for some methods only, for how many of how many."""
    return f"{count[0]} of {count[1]} shown" if status == "partly" else status


def method_title(method: str) -> str:
    """Return a method's name for people; one of the user's own is its key."""
    return METHODS[method].title if method in METHODS else method


def metric_title(metric: str) -> str:
    """Return the name for people of a metric, or of a score of the classifier."""
    return METRICS[metric].title if metric in METRICS else CLASSIFIER_TITLES.get(metric, metric)


def rates_title(metrics: Collection[str]) -> str:
    """Return what a table of rates is called, which of several labels per image has no accuracy to be beside of."""
    return "Label by label" if "precision" in metrics else "Beside the accuracy"


def curve_title(curve: str) -> str:
    """Return a curve's name for people, which is not that of the area under it."""
    return metric_title(curve).removesuffix(" AUC")


def scope_names(scopes: Sequence[Scope]) -> dict[Scope, str]:
    """Name every scope by the parts in which they differ; a single one by its split."""
    parts = [i for i in range(len(Scope._fields)) if len({s[i] for s in scopes}) > 1] or [1]
    return {scope: ", ".join(scope[i] for i in parts if scope[i]) for scope in scopes}


def extent(seeds: Collection[int]) -> str:
    """Say of which trainings a claim speaks, by the number of seeds; of several scopes, by the fewest and the most."""
    fewest, most = max(1, min(seeds)), max(1, max(seeds))
    if most == 1:
        return "for this training"
    return f"over {most} seeds" if fewest == most else f"over {fewest} to {most} seeds"


def extent_of_means(seeds: Collection[int]) -> str:
    """Say of which trainings a table of means speaks."""
    return extent(seeds) + (", for these trainings" if max(seeds) > 1 else "")


def means_note(seeds: Collection[int]) -> str:
    """Say what the intervals of such a table are."""
    note = f"Means with 95 % bootstrap intervals over images, {extent_of_means(seeds)}"
    return note + ("; how much trainings differ is in the claims only" if max(seeds) > 1 else "")


def number(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """Write a number with a real minus, so that columns line up; an undefined one is a dash."""
    if value != value:
        return "\N{EN DASH}"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", MINUS)


def interval(found: Interval, *, sign: bool = False) -> str:
    """Write ``mean [low, high]`` with a real minus."""
    return f"{found:{'+' if sign else ''}.3f}".replace("-", MINUS)


def mean_and_bounds(found: Interval, *, sign: bool = False) -> tuple[str, str]:
    """Write an interval in two parts, which a table may show differently: the mean, and ``[low, high]``."""
    mean, _, bounds = interval(found, sign=sign).partition(" ")
    return mean, bounds
