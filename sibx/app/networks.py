"""The networks of a workbench: what the page calls them, how they see pictures, and what they say."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

from sibx.models.looking import Eye


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """A trained network, as the page shows it.

    Attributes:
        name: what the page calls it; the networks of a workbench have different names.
        eye: the network, and how it sees pictures.
        classes: names of its K classes; None = they have none.
        options: words of the command line that name it, such as ``("--checkpoint", "run/model.pt")``.
        lock: held by whoever asks the network: what explains it puts hooks on it, which two visitors must not share.
    """

    name: str
    eye: Eye
    classes: Sequence[str] | None = None
    options: tuple[str, ...] = ()
    lock: Lock = field(default_factory=Lock, repr=False)

    def label(self, index: int) -> str:
        """Return what the page calls a class: its name, or its number where it has none."""
        return self.classes[index] if self.classes and index < len(self.classes) else f"class {index}"
