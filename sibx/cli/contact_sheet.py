"""Contact sheets: every picture that was explained, with all its maps, a row each."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from sibx._files import write_atomically
from sibx.cli.picture_files import SHEET
from sibx.report import SheetRow, draw_rows

ROWS = 8  # of a page
SIDE = 400  # pixels of a cell's longer side, which is what a page has for it


def png(figure: Figure) -> memoryview:
    """Return a figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=figure.dpi, format="png")
    return stream.getbuffer()


class ContactSheet:
    """Pages of rows, each written as soon as it is full, so that any number of pictures needs little memory.

    Args:
        folder: where to write ``contact-sheet-1.png`` and further pages.
        together: rows of one picture, which stay on one page.
    """

    def __init__(self, folder: Path, together: int):
        self._folder, self._most = folder, max(1, ROWS // together)
        self._page: list[SheetRow] = []
        self._pictures, self._written = 0, 0

    def add(self, rows: Sequence[SheetRow]) -> None:
        """Add the rows of one picture."""
        if self._pictures and self._pictures % self._most == 0:
            self._write()
        self._page += [row.smaller(SIDE) for row in rows]
        self._pictures += 1

    def close(self) -> list[Path]:
        """Write the last page; return all pages. A single picture needs none: its overlay shows the same."""
        if self._pictures > 1:
            self._write()
        return [self._path(number) for number in range(1, self._written + 1)]

    def _write(self) -> None:
        self._written += 1
        write_atomically(self._path(self._written), png(draw_rows(self._page)))
        self._page = []

    def _path(self, number: int) -> Path:
        return self._folder / SHEET.format(number)
