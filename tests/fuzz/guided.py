"""Bytes that find their way: a fuzzer that watches the readers of files, and keeps what reaches new lines of them.

pip install atheris
python tests/fuzz/guided.py picture FOLDER -runs=20000 -max_total_time=60

The reader is ``picture``, ``index``, ``settings`` or ``results``; FOLDER keeps what was found, and another call goes
on. A file may be read or refused (OSError, ValueError); any other error is a finding, and ends it.
"""

import contextlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import atheris

with atheris.instrument_imports(include=["sibx", "PIL", "yaml"]):
    from sibx import Results
    from sibx.cli.options import Parser
    from sibx.cli.settings_file import with_config
    from sibx.datasets import FolderDataset
    from sibx.datasets.folder_masks import read_mask
    from sibx.images.reading import Once, read_pixels

HERE = Path(mkdtemp())


def read_picture(path: Path) -> None:
    """Read a picture as pixels and as a mask."""
    read_pixels(path), read_mask(path, Once())


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "picture": ("picture", read_picture),
    "index": ("index.csv", lambda path: FolderDataset(str(path.parent))),
    "settings": ("settings.yaml", lambda path: with_config(Parser(), ["study", "--config", str(path)])),
    "results": ("results.csv.gz", lambda path: Results.load(path.parent)),
}


def main() -> None:
    """Fuzz the reader that the first word names; the other words are libFuzzer's."""
    name, read = READERS[sys.argv.pop(1)]
    path = HERE / name
    for other in ("curves.csv.gz", "run.json"):
        (HERE / other).write_bytes(b"{}")
    warnings.simplefilter("ignore")

    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(OSError, ValueError):
            read(path)

    atheris.Setup(sys.argv, attempt)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
