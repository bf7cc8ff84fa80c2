"""Captum's private functions that sibx builds on, imported here and nowhere else."""

from captum._utils.common import _run_forward as run_forward
from captum._utils.common import _select_targets as select_targets

__all__ = ["run_forward", "select_targets"]
