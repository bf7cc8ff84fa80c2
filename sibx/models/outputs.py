"""What a model's numbers say."""

from torch import Tensor

from sibx._checks import check_labels, check_logits


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Say of every image whether its largest logit is the label's: 1, else 0 (also where a logit is NaN).

    The only place that decides what is right; every accuracy is a mean of this.

    Args:
        logits: (B, K).
        labels: (B,) class indices.

    Returns:
        (B,) float64.

    Raises:
        ValueError: logits that are not (B, K), or labels outside their classes.
    """
    check_logits(logits, len(labels))
    check_labels(labels, logits)
    return ((logits.argmax(1) == labels) & ~logits.isnan().any(1)).double()
