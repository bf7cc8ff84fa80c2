"""Sources as the tables name them, found in ``references.bib``, and as BibTeX for a paper."""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from sibx.attribution import METHODS
from sibx.datasets import DATASETS
from sibx.evaluation import Results
from sibx.metrics import METRICS
from sibx.models import MODELS

BIBLIOGRAPHY = files("sibx.report").joinpath("references.bib")
ENTRY = re.compile(r"^@(\w+)\{(\w+),$(.*?)^\}$", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", re.MULTILINE)
# A name, perhaps those of others, perhaps a venue, and a year that is no part of a number: "Wah et al., CNS-TR 2011".
SOURCE = re.compile(r"\b([A-Z][\w-]+)(?: et al\.,| and [A-Z][\w-]+,)?[^;:()]*?(?<![-.\d])((?:19|20)\d\d)(?![-.\d])")
# What BibTeX calls the place of a publication, by the kind of its entry.
VENUES = {
    "article": "journal",
    "inproceedings": "booktitle",
    "book": "publisher",
    "techreport": "institution",
    "misc": "howpublished",
}
TABLES: dict[str, Mapping[str, Any]] = {"method": METHODS, "metric": METRICS, "dataset": DATASETS, "model": MODELS}


def read_entries(text: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    r"""Yield kind, key and fields of the entries of a .bib file that has one field per line.

    Args:
        text: content of the file.

    Example:
        >>> list(read_entries("@book{conover1999,\n  author = {Conover, William},\n  year = {1999},\n}"))
        [('book', 'conover1999', {'author': 'Conover, William', 'year': '1999'})]
    """
    for kind, key, fields in ENTRY.findall(text):
        yield kind, key, dict(FIELD.findall(fields))


def to_bibtex(results: Results) -> str:
    """Return the sources of the methods, metrics, data sets and models of the rows as BibTeX, as far as tables know.

    Args:
        results: results of any kind.
    """
    named = set[tuple[str, str]]()
    for column, table in TABLES.items():
        keys = results.distinct(column)[column].astype(str)
        named.update(source for key in keys if key in table for source in SOURCE.findall(table[key].reference))
    entries = []
    for kind, key, said in read_entries(BIBLIOGRAPHY.read_text(encoding="utf-8")):
        if (said["author"].partition(",")[0], said["year"]) in named:
            venue = said.pop("venue")
            said |= {VENUES[kind]: f"arXiv preprint arXiv:{said['eprint']}" if venue == "arXiv" else venue}
            said |= {"archivePrefix": "arXiv"} if "eprint" in said else {}
            fields = "".join(f"  {name} = {{{value}}},\n" for name, value in said.items())
            entries.append(f"@{kind}{{{key},\n{fields}}}\n")
    return "\n".join(entries)
