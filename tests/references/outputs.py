"""What scores say about classes, image by image and class by class, with the exponential function alone."""

import math

from sibx import models
from tests.references import twin_of


def sigmoid(score):
    return 1 / (1 + math.exp(-score))


@twin_of(models.by_class)
def by_class(scores, kind):
    """The scores of the classes from the scores of one image."""
    return [-scores[0], scores[0]] if kind == "binary" else list(scores)


@twin_of(models.probabilities)
def probabilities(scores, kind):
    if kind == "binary":
        return [1 - sigmoid(scores[0]), sigmoid(scores[0])]
    if kind == "sigmoid":
        return [sigmoid(z) for z in scores]
    if kind == "raw":
        return list(scores)
    return [math.exp(z) / sum(math.exp(other) for other in scores) for z in scores]


@twin_of(models.hits)
def hits(scores, label, kind):
    """The most probable class is predicted; of several labels each that is more probable than not."""
    found = probabilities(scores, kind)
    return float(found[label] > 0.5 if kind == "sigmoid" else found[label] == max(found))


def loss(scores, label, kind):
    """Minus the logarithm of the probability of what is true, on average over what is known."""
    found = probabilities(scores, kind)
    if kind != "sigmoid":
        return -math.log(found[label])
    known = [(p, true) for p, true in zip(found, label, strict=True) if not math.isnan(true)]
    return -sum(math.log(p if true else 1 - p) for p, true in known) / len(known)


@twin_of(models.classification_rates)
def classification_rates(answers, labels, classes):
    """Accuracy of predictions, that of the commonest class, recall of every class and their mean, image by image."""

    def share(marks):
        return sum(marks) / len(marks) if marks else math.nan

    right = [answer == label for answer, label in zip(answers, labels, strict=True)]
    recall = [share([r for r, label in zip(right, labels, strict=True) if label == k]) for k in range(classes)]
    there = [value for value in recall if not math.isnan(value)]
    commonest = max(labels.count(k) for k in range(classes)) / len(labels)
    return {"accuracy": share(right), "majority_rate": commonest, "recall": recall, "balanced_accuracy": share(there)}
