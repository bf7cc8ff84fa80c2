"""How a classifier does, in lines of text: its accuracy, and what an accuracy hides where classes are unequal."""

from collections.abc import Iterator, Mapping, Sequence

from sibx.evaluation import ACCURACY, Interval, Results
from sibx.evaluation.columns import RECALL
from sibx.evaluation.storage import MASKED
from sibx.report.unequal import are_unequal

FEW = 12  # classes whose recalls are all printed


def rate_lines(results: Results, classes: Sequence[str]) -> str:
    """Return the accuracy and what is beside it, and the recall of every class, or of the worst of many.

    Of several labels per image it is the rates of labels, no accuracy.

    Args:
        results: those of one model on one split.
        classes: names of the classes.
    """
    rates = {str(line["metric"]): Interval.of(line) for line in results.rates().to_dict("records")}
    if not rates:
        (line,) = results.accuracy().to_dict("records")
        reason = results.info.get("no_accuracy", "scores have no classes")
        what = "recall of labels that are there" if line["metric"] == RECALL else ACCURACY
        return f"{what} {Interval.of(line)}" if line["n"] else f"no accuracy: {reason}"
    words = _of_labels(rates) if "precision" in rates else _of_classes(rates)
    hits = results.hits()
    recalls = hits.summary(["label"]).sort_values("label")
    shown = recalls if len(recalls) <= FEW else recalls.nsmallest(3, "mean")
    parts = [f"{classes[int(line['label'])]} {line['mean']:.3f}" for line in shown.to_dict("records")]
    unequal = "precision" not in rates and are_unequal(hits.rows)
    note = "\nclasses are unequal: compare balanced accuracies, beside accuracies" if unequal else ""
    return f"{', '.join(words)}\n{'recall' if len(recalls) <= FEW else 'lowest recall'}: {', '.join(parts)}{note}"


def _of_classes(rates: Mapping[str, Interval]) -> Iterator[str]:
    yield f"accuracy {rates['accuracy']}"
    yield f"always the commonest class {rates['majority_rate'].mean:.3f}"
    yield f"balanced accuracy {rates['balanced_accuracy']}"
    for key, name in (("f1", "F1"), ("auroc", "AUROC")):
        if rates[key].n:
            yield f"{name} {rates[key].mean:.3f}"


def _of_labels(rates: Mapping[str, Interval]) -> Iterator[str]:
    for key, name in (
        ("mean_average_precision", "mAP"),
        ("f1", "F1"),
        ("precision", "precision"),
        ("recall", "recall"),
    ):
        yield f"{name} {rates[key]}"
    yield f"labels right, there or not, {rates['label_accuracy'].mean:.3f}"
    yield f"always the commonest answer {rates['majority_rate'].mean:.3f}"


def masked_words(results: Results) -> str:
    """Say how many images have a mask, "" where all have one."""
    total, masked = (results.info.get(name) for name in ("images", MASKED))
    return "" if masked in (None, total) else f" ({masked} of {total} with a mask)"
