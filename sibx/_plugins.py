"""Tables to which installed packages add lines, by entry points."""

import warnings
from collections import UserDict
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, TypeVar

HOME = "sibx"


class Named(Protocol):
    """A line of a table."""

    @property
    def name(self) -> str:
        """Key in the table."""


T = TypeVar("T", bound=Named)


class Table(UserDict[str, T]):
    """A table of specs by name: those of sibx, and those of installed packages.

    Packages are imported when the table is first used. One that cannot be imported, or whose entry point is no line of
    the table or has the name of another line, gives a warning and is left out.

    Args:
        group: group of the entry points, such as ``sibx.methods``.
        specs: lines of sibx.
        read: function ``(what an entry point loads, its name) -> line``; raises ValueError where it is none.
    """

    def __init__(self, group: str, specs: Iterable[T], read: Callable[[Any, str], T]):
        self.group, self._read = group, read
        self._lines: dict[str, T] = {spec.name: spec for spec in specs}
        self._origins: dict[str, str] = {}
        self._waiting = True

    @property
    def data(self) -> dict[str, T]:  # type: ignore[override]
        """The lines; what UserDict looks into."""
        if self._waiting:
            self._waiting = False  # before: a package may look into the table while it is imported
            for point in entry_points(group=self.group):
                self._add(point)
        return self._lines

    def origin(self, name: str) -> str:
        """Return where a line comes from: ``sibx``, or a package and its version."""
        return self._origins.get(name, HOME)

    def _add(self, point: EntryPoint) -> None:
        package = "unknown" if point.dist is None else f"{point.dist.name} {point.dist.version}"
        try:
            spec = self._read(point.load(), point.name)
            if spec.name in self._lines:
                raise ValueError(f"there is a {spec.name!r} of {self.origin(spec.name)} already")
        except Exception as error:  # whatever a foreign package does when it is imported
            problem = f"{type(error).__name__}: {error}"
            warnings.warn(f"{point.name!r} of {package} ({self.group}) is left out: {problem}", stacklevel=4)
        else:
            self._lines[spec.name], self._origins[spec.name] = spec, package


def only(kind: type[T]) -> Callable[[Any, str], T]:
    """Return a ``read`` of a Table that takes specs of this kind as they are."""

    def read(found: Any, name: str) -> T:
        if not isinstance(found, kind):
            raise ValueError(f"it must be a {kind.__name__}, but got {found!r}")
        return found

    return read
