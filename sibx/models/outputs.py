"""Which predictions are right."""

from torch import Tensor

from sibx._checks import check_labels, check_logits


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 for every image whose largest logit is the label's, else 0 (also where a logit is NaN).

    This is the only place that decides what is right; every accuracy is a mean of it.

    Args:
        logits: logits (B, K).
        labels: class indices (B,).

    Returns:
        (B,) float64.

    Raises:
        ValueError: logits that are not (B, K), or labels outside their classes.
    """
    check_logits(logits, len(labels))
    check_labels(labels, logits)
    return ((logits.argmax(1) == labels) & ~logits.isnan().any(1)).double()
