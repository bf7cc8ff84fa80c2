"""Models whose numbers are probabilities already."""

import warnings

import torch
from torch import Tensor

from sibx._outputs.kinds import Output
from sibx._precise import precise

CLOSE = 1e-3  # how far from 1 rounding may leave a sum of probabilities
SPREAD, ENOUGH = 0.5, 4  # of values between 0 and 1: what takes so much of the interval is no accident of some logits


def warn_of_probabilities(scores: Tensor, output: Output = "auto") -> None:
    """Warn where scores already look like the result of a softmax, a sigmoid or a log_softmax.

    Args:
        scores: scores (B, K) of a model.
        output: what they are taken for; of ``raw`` scores nothing is expected.
    """
    ending = None if output == "raw" else _ending(precise(scores.detach()))
    if ending is not None:
        warnings.warn(
            f"the model seems to end in a {ending}, and output={output!r} would take the probabilities of that again: "
            "leave its last layer away, or use output='raw', which takes the numbers as they are.",
            stacklevel=3,
        )


def _ending(scores: Tensor) -> str | None:
    """Name the function whose results the scores look like, None where they look like scores."""
    if not scores.numel():
        return None
    several = scores.shape[1] > 1
    off = [(values.sum(1) - 1).abs().amax() for values in (scores, scores.exp())]
    low, high, sums, logs = torch.stack([*scores.aminmax(), *off]).tolist()  # one wait for the device
    if several and low >= 0 and sums < CLOSE:
        return "softmax"
    if several and high <= 0 and logs < CLOSE:
        return "log_softmax"
    within = low >= 0 and high <= 1 and high - low > SPREAD
    return "sigmoid" if within and scores.numel() >= ENOUGH else None
