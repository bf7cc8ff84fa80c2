"""Output of a command that goes on when nobody reads on, as after ``| head``."""

import io
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO


class Unheard:
    """A stream that drops what cannot be written because its reader is gone, so that no work is lost for a line.

    Args:
        stream: where the text goes as long as it is read.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, if anybody reads on."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, if anybody reads on."""
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BrokenPipeError:
            # What the stream still holds would fail again when the process ends.
            with suppress(io.UnsupportedOperation, AttributeError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), self._stream.fileno())
