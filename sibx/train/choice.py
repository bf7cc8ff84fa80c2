"""How hard S-IB may pull: the largest share that costs no accuracy on validation data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sibx._checks import require
from sibx.objectives import Share, SIBConfig
from sibx.train.config import TrainConfig

SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)  # 0 is cross-entropy alone
MARGIN = 0.01  # how much lower than cross-entropy's the accuracy may be


@dataclass(frozen=True, slots=True)
class Choice:
    """Which share of the cross-entropy's pull was chosen for S-IB, and why.

    Attributes:
        share: the chosen share; 0 = cross-entropy alone, S-IB did not come for free on this data.
        accuracies: share -> accuracy in [0, 1] on the validation data, after a training of its own.
    """

    share: float
    accuracies: Mapping[float, float]


def check_choosable(config: TrainConfig) -> None:
    """Raise ValueError unless the objective has a share to choose."""
    objective = config.objective
    shared = isinstance(objective, SIBConfig) and isinstance(objective.balance, Share)
    rule = "be a SIBConfig with balance=Share(...) for choose_weight=True, such as SIBConfig.recommended()"
    require(shared, "objective", rule, objective)


def at_share(config: TrainConfig, share: float) -> TrainConfig:
    """Return the settings with another share; cross-entropy alone for 0."""
    assert isinstance(config.objective, SIBConfig)
    if share == 0:
        return replace(config, objective=None, warm_up=0.0)
    return replace(config, objective=replace(config.objective, balance=Share(share)))


def largest_harmless(accuracies: Mapping[float, float]) -> float:
    """Return the largest share whose accuracy is at most MARGIN below that of share 0."""
    least = accuracies[0.0] - MARGIN
    # Accuracies are counts divided by a count: a rounding error must not decide between equal ones.
    return max(share for share, accuracy in accuracies.items() if accuracy >= least - 1e-9)
