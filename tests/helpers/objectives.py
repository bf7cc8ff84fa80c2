"""Objectives to test with."""

from dataclasses import replace

from sibx.objectives import CKA, SIBConfig


def every_term(masks="given", layers="auto"):
    """The recommended objective with every term there is, at fixed weights: what one term hides, another shows."""
    return replace(SIBConfig.recommended(masks, layers), foreground=CKA(0.1), swap=1.0, balance=None)
