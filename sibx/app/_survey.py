"""The data set of a workbench in orders worth looking at: what is wrong, what looks elsewhere, what gained."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch

from sibx._files import write_atomically
from sibx.app._opinions import ask, explain
from sibx.app._picked import UNKNOWN, Picture, picture_of
from sibx.app.networks import Network
from sibx.attribution import to_heatmap
from sibx.datasets import MaskedDataset, spread
from sibx.metrics import foreground_focus
from sibx.runs.identity import digest

MOST = 500  # pictures that are looked at, spread evenly over the data
METHOD = "sib"  # whose map's focus on the object is meant


class Found(NamedTuple):
    """What was found about a picture, of every network.

    Attributes:
        rates: probability of the label; of the predicted class where the label is unknown.
        right: whether the prediction is the label; False where it is unknown.
        focus: share of the map that lies on the object; NaN without a mask.
    """

    rates: tuple[float, ...]
    right: tuple[bool, ...]
    focus: tuple[float, ...]


class Order(NamedTuple):
    """An order of pictures: what it sorts by (the lowest comes first, NaN last), and what it needs."""

    key: Callable[[Found], float]
    labels: bool = False
    masks: bool = False
    two: bool = False


AS_THEY_COME = "as they come"
FOLDER = "looked_at"  # in that of everything that is written
ORDERS = {
    "wrong first": Order(lambda f: sum(f.right) + float(np.mean(f.rates)), labels=True),
    "lowest focus": Order(lambda f: f.focus[0], masks=True),
    "largest gain": Order(lambda f: f.focus[0] - f.focus[1], masks=True, two=True),
}


@dataclass(eq=False)
class Survey:
    """What was found about the pictures of a data set; each is looked at once, whoever asks, and whenever.

    Attributes:
        networks: the networks.
        data: the data set.
        knows_labels: whether its labels are classes of the networks.
        folder: where it is kept, in a file for these networks.
    """

    networks: Sequence[Network]
    data: MaskedDataset
    knows_labels: bool
    folder: Path
    _found: dict[int, Found | str] = field(default_factory=dict)  # copied to be read: others may add to it
    _unkept: list[str] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.indices = spread(len(self.data), MOST)

    def orders(self) -> list[str]:
        """Return the orders that this data set and these networks allow."""
        has = {"labels": self.knows_labels, "masks": not self.data.no_masks, "two": len(self.networks) > 1}
        fits = [n for n, order in ORDERS.items() if all(has[need] or not getattr(order, need) for need in has)]
        return [AS_THEY_COME, *fits]

    def look(self) -> Iterator[float]:
        """Look at the pictures that nobody looked at yet; yields the share that is done after each."""
        for done, index in enumerate(self.indices, 1):
            with self._lock:
                if index not in self._found:
                    self._found[index] = self._look_at(index)
                    if done == len(self.indices):
                        self._keep()
            yield done / len(self.indices)

    def order(self, name: str) -> list[int]:
        """Return the indices of the pictures in an order: those that were looked at, or all as they come."""
        if name == AS_THEY_COME:
            return list(range(len(self.data)))
        found = {index: one for index, one in self._found.copy().items() if isinstance(one, Found)}
        keys = {index: ORDERS[name].key(one) for index, one in found.items()}
        return sorted(keys, key=lambda index: (np.isnan(keys[index]), keys[index], index))

    def found(self, index: int) -> Found | None:
        """Return what was found about a picture, None if nobody looked at it or it could not be read."""
        found = self._found.get(index)
        return found if isinstance(found, Found) else None

    def problems(self) -> list[str]:
        """Return what went wrong: pictures that could not be looked at, and what was found if it cannot be kept."""
        return [found for found in self._found.copy().values() if isinstance(found, str)] + self._unkept

    @cached_property
    def _file(self) -> Path:
        """The file for these networks, as they see, and for what is asked about them."""
        seen = [[repr(n.eye), n.eye.model.state_dict()] for n in self.networks]  # the first is its parts, in words
        return self.folder / f"{digest([METHOD, self.knows_labels, seen])}.json"

    @cached_property
    def _kept(self) -> dict[str, Sequence[Any]]:
        """What was found about pictures, by their content: at earlier starts, and now."""
        with suppress(OSError, ValueError, TypeError):  # of a file that is broken everything is found again
            return dict(json.loads(self._file.read_bytes()))
        return {}

    def _keep(self) -> None:
        try:
            write_atomically(self._file, json.dumps(self._kept).encode())
        except OSError as error:  # of a full disk, say: the order is there all the same
            self._unkept.append(f"What was found is not kept for the next start: {error}")

    def _look_at(self, index: int) -> Found | str:
        try:
            picture = picture_of(self.data, index)
            content = digest([picture.pixels, picture.label, picture.mask, picture.undefined])
            if content not in self._kept:
                self._kept[content] = tuple(zip(*(self._one(n, picture) for n in self.networks), strict=True))
            return Found(*map(tuple, self._kept[content]))
        except (OSError, ValueError) as error:
            return str(error)

    def _one(self, network: Network, picture: Picture) -> tuple[float, bool, float]:
        opinion = ask(network, picture.pixels)
        label = picture.label if self.knows_labels and picture.label != UNKNOWN else None
        target = opinion.predicted if label is None else label
        focus = float("nan")
        if picture.mask is not None and bool(picture.mask.any()):
            values = explain(opinion, [METHOD], target)[0].values
            if values is not None:
                height, width = picture.mask.shape[1:]  # the network may have seen another size
                heatmap = to_heatmap(torch.from_numpy(values)[None, None], (height, width), "l2")
                undefined = None if picture.undefined is None else picture.undefined[None]
                focus = float(foreground_focus(heatmap, picture.mask[None], undefined=undefined))
        return float(opinion.rates[target]), opinion.predicted == label, focus
