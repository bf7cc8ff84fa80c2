"""The arms of ``factors.py``: ways of fine-tuning that differ from ``base`` in one thing each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sibx import SIBConfig
from sibx.attribution import DensityMask, TopShare
from sibx.objectives import CKA, Frozen, Given, Online, Shuffled, SufficientShare

MaskSource = Literal["frozen", "second round", "online", "teacher", "truth", "inside the loss"]

FIFTH = TopShare(0.2)
# What was recommended when these arms ran: every term at a fixed weight.
EARLIER = replace(SIBConfig.recommended("self"), foreground=CKA(0.1), swap=1.0, balance=None)
SELF = replace(EARLIER, masks=Frozen(FIFTH))
BASE = replace(SELF, masks=Given())
TERM, SWAP = replace(BASE, swap=0.0), replace(BASE, foreground=None, background=None)
# The paper's mask, in input space: behind a head that averages, R at the last feature map is the same everywhere.
SOFT = replace(TERM, layers={"input": 1.0}, masks=Online(detach=True))


@dataclass(frozen=True)
class Arm:
    """One way of fine-tuning: the loss (None: cross-entropy), whose masks, and how they are read off a network."""

    loss: SIBConfig | None
    masks: MaskSource = "frozen"
    reading: SIBConfig = SELF

    def at(self, layers: Mapping[str, float] | Literal["auto"]) -> "Arm":
        """The same with its VJPs taken at these layers, but for what is taken in input space."""
        loss = self.loss if self.loss is None or self.loss.layers != "auto" else replace(self.loss, layers=layers)
        return replace(self, loss=loss, reading=replace(self.reading, layers=layers))


def with_control(name: str, arm: Arm) -> dict[str, Arm]:
    """The arm and its shuffled twin."""
    assert arm.loss is not None
    assert not isinstance(arm.loss.masks, Shuffled)
    return {name: arm, f"{name}-shuffled": replace(arm, loss=replace(arm.loss, masks=Shuffled(arm.loss.masks)))}


ARMS = {
    "ce": Arm(None),
    **with_control("base", Arm(BASE)),
    # term or swap alone
    **with_control("term", Arm(TERM)),
    **with_control("swap", Arm(SWAP)),
    # the bound: the same losses with the objects' masks
    "truth": Arm(BASE, "truth"),
    "truth-term": Arm(TERM, "truth"),
    "truth-swap": Arm(SWAP, "truth"),
    # what the mask is read from: p's VJP, the contrast of classes, instead of all classes' evidence
    "from-p": Arm(BASE, reading=replace(SELF, masks=Frozen(FIFTH, "vjp"), cotangent="probability")),
    "from-contrast": Arm(BASE, reading=replace(SELF, masks=Frozen(FIFTH, "vjp"), cotangent="centered_logit")),
    # how it is cut: the density mask instead of a share; the share that the network itself finds sufficient
    "density": Arm(BASE, reading=replace(SELF, masks=Frozen(DensityMask()))),
    **with_control("sufficient", Arm(BASE, reading=replace(SELF, masks=Frozen(SufficientShare())))),
    # the share's outline and size from the image's own edges
    **with_control("cut", Arm(BASE, reading=replace(SELF, masks=Frozen()))),
    "share-10": Arm(BASE, reading=replace(SELF, masks=Frozen(TopShare(0.1)))),
    "share-30": Arm(BASE, reading=replace(SELF, masks=Frozen(TopShare(0.3)))),
    # whose mask: that of the network as it learns, of its moving average, of the network that base ended with
    **with_control("online", Arm(BASE, "online")),
    "teacher": Arm(BASE, "teacher"),
    **with_control("second-round", Arm(BASE, "second round")),
    # gradient through the mask or not, on both sides: the paper's soft masks, S-IB term only
    **with_control("soft-detached", Arm(SOFT, "inside the loss")),
    **with_control("soft-attached", Arm(replace(SOFT, masks=Online()), "inside the loss")),
}
