"""How a classifier does, in lines of text: its accuracy, and what an accuracy hides where classes are unequal."""

from collections.abc import Sequence

import pandas as pd

from sibx.evaluation import Interval, Results
from sibx.train.validation import UNEQUAL

FEW = 12  # classes whose recalls are all printed


def rate_lines(results: Results, classes: Sequence[str]) -> str:
    """Return the accuracy and what is beside it, and the recall of every class, or of the worst of many.

    Args:
        results: those of one model on one split.
        classes: names of the classes.
    """
    rates = {str(line["metric"]): Interval.of(line) for line in results.rates().to_dict("records")}
    if not rates:
        (line,) = results.accuracy().to_dict("records")
        reason = results.info.get("no_accuracy", "scores have no classes")
        return f"accuracy {Interval.of(line)}" if line["n"] else f"no accuracy: {reason}"
    recalls = results.hits().summary(["label"])
    words = [f"accuracy {rates['accuracy']}", f"always the commonest class {rates['majority_rate'].mean:.3f}"]
    words.append(f"balanced accuracy {rates['balanced_accuracy']}")
    words += [f"{name} {rates[key].mean:.3f}" for key, name in (("f1", "F1"), ("auroc", "AUROC")) if rates[key].n]
    shown = recalls if len(recalls) <= FEW else recalls.nsmallest(3, "mean")
    parts = [f"{classes[int(line['label'])]} {line['mean']:.3f}" for line in shown.to_dict("records")]
    return f"{', '.join(words)}\n{'recall' if len(recalls) <= FEW else 'lowest recall'}: {', '.join(parts)}"


def are_unequal(images: pd.DataFrame) -> bool:
    """Whether classes have so different numbers of images that a mean over images hides what happens to rare ones."""
    counts = images["label"].value_counts()
    return bool(counts.max() >= UNEQUAL * counts.min())
