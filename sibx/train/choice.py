"""How hard S-IB may pull: the largest share that costs nothing of what is monitored on validation data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sibx._checks import require
from sibx.objectives import Share, SIBConfig
from sibx.train.config import TrainConfig
from sibx.train.epochs import merit

SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)  # 0 is cross-entropy alone
MARGIN = 0.01  # how much worse than cross-entropy's what is monitored may be, whatever it is


@dataclass(frozen=True, slots=True)
class Choice:
    """Which share of the cross-entropy's pull was chosen for S-IB, and why.

    Attributes:
        share: the chosen share; 0 = cross-entropy alone, S-IB did not come for free on this data.
        values: share -> what is monitored, of the epoch that a training of its own kept.
        monitor: what that is, as in ``FineTuneResult.history``: for example ``val_balanced_accuracy``.
    """

    share: float
    values: Mapping[float, float]
    monitor: str


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


def choose_share(values: Mapping[float, float], monitor: str) -> Choice:
    """Return the largest share that is at most MARGIN worse than share 0; never one of which NaN was measured.

    Args:
        values: share -> what is monitored.
        monitor: its name, which says what is better.
    """
    merits = {share: merit({monitor: value}, monitor) for share, value in values.items()}
    # Rates are counts divided by a count: a rounding error must not decide between equal ones.
    least = merits[0.0] - MARGIN - 1e-9
    harmless = [share for share, found in merits.items() if -math.inf < least <= found]
    return Choice(share=max(harmless, default=0.0), values=values, monitor=monitor)
