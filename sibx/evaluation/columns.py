"""The two tables of an evaluation, and how they lie on disk: gzipped CSV, and beside them ``run.json``."""

import csv
import gzip
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from packaging.version import Version
from pandas.api.types import is_numeric_dtype, union_categoricals

from sibx._checks import require
from sibx._files import atomic_file, write_atomically

COLUMNS = (
    "dataset",
    "split",
    "image_id",
    "photo",
    "label",
    "predicted",
    "confidence",
    "group",
    "area",
    "model",
    "training",
    "seed",
    "method",
    "target",
    "metric",
    "value",
)
CURVE_COLUMNS = ("dataset", "split", "image_id", "model", "training", "seed", "method", "curve", "x", "y")
ROWS_FILE, CURVES_FILE, INFO_FILE = "results.csv.gz", "curves.csv.gz", "run.json"
# What stands under several columns together.
IMAGE = ("dataset", "split", "image_id", "photo", "label")  # one image; a photograph may be shown by several
TRAINED = ("dataset", "split", "model", "training")  # a trained model on a data set
CLASSIFIED = (*IMAGE, "model", "training", "seed")  # what one network says of one image
MAPS = (*TRAINED, "seed", "method")  # the maps of one network, one per image
CELL = (*TRAINED, "method", "metric")  # one number of a table
SCORED = (*MAPS, "metric")  # the scores of one network's maps, one per image
CLASSIFIER, ACCURACY = "classifier", "accuracy"  # method and metric where the classifier itself is scored
BALANCED = "balanced_accuracy"  # its metric where every class counts equally
RECALL = "recall"  # its metric where rows are those of labels that are there, of several
NO_CLASS = -1  # as ``predicted``, where scores have no classes (output="raw") and nothing is right or wrong
BLOCK = 2**17  # rows of a table that are in memory together
LINE_END = "\n"  # alone: names of files may hold a carriage return
# Numbers are read as they were written: pandas 3.0 has to be told so, later ones must not be.
EXACT: dict[str, Any] = {} if Version(pd.__version__) >= Version("3.1") else {"float_precision": "round_trip"}
COMPRESSION = 6  # half the time of level 9, seven percent more bytes
CATEGORY = pd.CategoricalDtype
# A text that a spreadsheet takes for a formula: on disk it has one more quote before it than in memory. So have such
# texts after quotes of their own, and every text comes back as it was.
FORMULA = re.compile(r"'*[=+\-@\t\r]")
TEXTS = ("dataset", "split", "image_id", "photo", "model", "training", "method", "metric", "curve")

MEASURED = ("confidence", "area", "value", "x", "y")  # numbers, whatever a table of one's own has as labels


def per_image(rows: pd.DataFrame, image: Sequence[str] = IMAGE) -> pd.Series:
    """Return the mean of every image's defined values, in order of first appearance; NaN for one that has none.

    Args:
        rows: rows of Results.
        image: columns that together name a line.
    """
    if rows["image_id"].is_unique:  # as nearly always: groups take far longer
        return rows.set_index(list(image))["value"]
    return rows.groupby(list(image), sort=False, observed=True)["value"].mean()


def side_by_side(rows: pd.DataFrame, image: Sequence[str], column: str) -> pd.DataFrame:
    """Return values (images, different entries of ``column``), NaN where there is no row.

    Images are in the order of their names as texts, so that it does not matter where rows come from: draws of a
    bootstrap depend on the order.

    Args:
        rows: rows of Results.
        image: columns that together name a line.
        column: column whose entries stand beside each other.

    Raises:
        ValueError: two rows of the same image and entry, as of results that were put together with themselves.
    """
    named = rows.astype(dict.fromkeys(("image_id", "photo"), str))
    keys = [*image, column]
    twice = named.loc[named.duplicated(keys), [*dict.fromkeys([*SCORED, *keys])]].head(1).to_dict("records")
    require(not twice, "rows", "hold every score of an image once", twice)
    return named.pivot(index=list(image), columns=column, values="value")


def in_order(lines: Mapping[int, Mapping[str, Any]]) -> pd.DataFrame:
    """Return a table of the lines of cells, each known by the place of its first row, in their order."""
    return pd.DataFrame([lines[place] for place in sorted(lines)])


def with_photos(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the column ``photo``; where there was none every image is a photograph of its own."""
    if "photo" in rows:
        unknown = rows["photo"].isna()
        return rows.assign(photo=rows["photo"].mask(unknown, rows["image_id"])) if unknown.any() else rows
    rows = rows.copy()
    rows.insert(list(rows).index("image_id") + 1, "photo", rows["image_id"])
    return rows


def without_gaps(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table where a data set, split, model or training without a name is called "", as it is on disk.

    A cell of which one is missing would belong to no group.
    """
    gaps = {name: table[name].isna() for name in TRAINED if name in table}
    return table.assign(**{name: table[name].astype(object).mask(gap, "") for name, gap in gaps.items() if gap.any()})


def to_csv(table: pd.DataFrame) -> str:
    """Return the lines of a table, without its header; texts that a spreadsheet would run are marked, see FORMULA."""
    marked = _in_texts(table, _mark)
    # A spreadsheet ends a line at a carriage return, too, if it is not quoted; Python's csv does not quote it.
    returns = any("\r" in text for text in _texts(marked))
    quoting: Any = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    return marked.to_csv(index=False, header=False, lineterminator=LINE_END, quoting=quoting)


def _texts(table: pd.DataFrame) -> Iterator[str]:
    """Yield the different texts of every column."""
    for name in table.columns:
        if not is_numeric_dtype(table[name].dtype):
            yield from (text for text in table[name].unique() if isinstance(text, str))


def _mark(text: Any) -> Any:
    return f"'{text}" if isinstance(text, str) and FORMULA.match(text) else text


def _unmark(text: Any) -> Any:
    return text[1:] if isinstance(text, str) and text.startswith("'") and FORMULA.match(text) else text


def _in_texts(table: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    """Change the texts of a table, each different one once."""
    changed = {}
    for name, column in table.items():
        if is_numeric_dtype(column.dtype):
            continue
        different = {text: change(text) for text in column.unique()}
        if any(new is not old for old, new in different.items()):
            kept = object if isinstance(column.dtype, CATEGORY) else column.dtype
            changed[str(name)] = column.astype(object).map(different).astype(kept)
    return table.assign(**changed) if changed else table


def write_table(path: Path, columns: Iterable[str], blocks: Iterable[str]) -> None:
    """Write blocks of lines under a header; the file appears complete or not at all.

    Nothing of the time, the process or the file's name gets into its bytes.
    """
    with atomic_file(path) as file, gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as packed:
        packed.write((",".join(columns) + LINE_END).encode())
        for block in blocks:
            packed.write(block.encode())


def read_blocks(path: Path, size: int | None = None) -> Iterator[pd.DataFrame]:
    """Yield what ``write_table`` wrote in blocks of ``size`` rows, None = ``BLOCK``; an empty number is NaN.

    An empty text is a text. Texts are categories: of millions of rows, a few bytes each. A table with columns of one's
    own is one block, because their types are not known before all is read.

    Raises:
        ValueError: texts where numbers were measured; and a damaged file may raise any error, see ``naming``.
    """
    own = set(pd.read_csv(path, nrows=0)) - {*COLUMNS, *CURVE_COLUMNS}
    empty = {name: [""] for name in {*COLUMNS, *CURVE_COLUMNS} - {*TEXTS}}
    types: dict[Any, Any] = dict.fromkeys(TEXTS, str)  # read as categories, "01" would be the number 1
    size = size or (sys.maxsize if own else BLOCK)
    options: dict[str, Any] = {"keep_default_na": False, "na_values": empty, "lineterminator": LINE_END, **EXACT}
    with pd.read_csv(path, dtype=types, chunksize=size, **options) as blocks:
        for block in blocks:
            texts = [name for name in MEASURED if name in block and not is_numeric_dtype(block[name])]
            require(block.empty or not texts, path.name, f"hold numbers in {', '.join(texts)}", "texts")
            yield _in_texts(block, _unmark).astype({name: "category" for name in TEXTS if name in block})


def join_tables(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables with the same columns below each other; texts that are categories in all of them stay so."""
    shared = [name for name in tables[0].columns if all(isinstance(t[name].dtype, CATEGORY) for t in tables)]
    for name in shared:
        known = union_categoricals([table[name] for table in tables]).categories
        tables = [table.assign(**{name: table[name].cat.set_categories(known)}) for table in tables]
    return stacked(tables)


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables below each other, numbered from 0; those without rows have no say in the types of columns.

    pandas 2 leaves them out with a warning, pandas 3 takes their types in.
    """
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write ``run.json``."""
    text = json.dumps(info, indent=2, sort_keys=True, default=for_json) + "\n"
    write_atomically(folder / INFO_FILE, text.encode())


def read_info(folder: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises:
        ValueError: it is no JSON, or not what ``write_info`` wrote.
    """
    with naming(folder / INFO_FILE):
        info: dict[str, Any] = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
        require(isinstance(info, dict), INFO_FILE, "hold names and values", info)
    return info


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say in an error which file cannot be read: a damaged one may make gzip, pandas or json raise any."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error or type(error).__name__}") from error


def for_json(value: Any) -> Any:
    """Return what JSON holds of a value that it does not know: numbers of NumPy are numbers, all else is its text."""
    return value.item() if isinstance(value, np.generic) else str(value)
