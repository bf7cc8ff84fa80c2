"""A guard against contributions that change their sign instead of their place."""

import math
import warnings

from torch import Tensor

MOMENTUM = 0.9  # momentum of the running mean
PATIENCE = 10  # number of steps after which the mean is trusted
CLEAR = 0.75  # a mean this large is trusted before that; the first steps of an untrained network stay below it
# Cotangents for which a constant added to all logits changes nothing.
BLIND = ("probability", "log_probability", "centered_logit")


class SignFlipGuard:
    """Warns, once, when the running mean of ``LossTerms.positive_share`` falls below 1/2.

    The background term counts ``|c|``, so it also falls if contributions that spoke for the class turn against it. With
    the plain logit as cotangent the model can do this at no cost, by adding a constant to all logits. A mean that was
    below 1/2 from the start, as an untrained network's may be, causes no warning.

    Attributes:
        mean: exponentially weighted mean of the shares seen.
        highest: highest value of the mean since it is trusted.
        steps: number of shares seen; a share that is NaN (no feature layer) is not counted.
    """

    def __init__(self) -> None:
        self.mean, self.highest, self.steps, self.warned = 0.0, 0.0, 0, False

    def __call__(self, share: Tensor, cotangent: str) -> None:
        """Add one step's share to the mean, and warn if the mean has fallen below 1/2."""
        if self.warned or math.isnan(value := float(share)):
            return
        self.steps += 1
        rate = (1 - MOMENTUM) / (1 - MOMENTUM**self.steps)  # 1 for the first: the weights of all steps sum to 1
        self.mean += rate * (value - self.mean)
        if self.steps >= PATIENCE or self.mean >= CLEAR:
            self.highest = max(self.highest, self.mean)
        if self.steps < PATIENCE or not self.mean < 0.5 <= self.highest:
            return
        self.warned = True
        shifts = "" if cotangent in BLIND else f", or take the cotangent 'log_probability' instead of {cotangent!r}"
        warnings.warn(
            f"SIBLoss: only {self.mean:.0%} of an image's contributions still speak for its class (the running "
            f"mean of LossTerms.positive_share, after {self.highest:.0%}). Below 50 % the background term is being "
            "lowered by turning signs around, not by looking at the object. Lower the background term's weight"
            f"{shifts}.",
            stacklevel=6,  # the line that called the loss
        )
