"""Sources as the tables name them, with links: "Simonyan 2013, arXiv 1312.6034" leads to the bibliography."""

import re
from dataclasses import dataclass

from sibx.report import BIBLIOGRAPHY, SOURCE, read_entries

ARXIV = re.compile(r"\barXiv (\d{4}\.\d{4,5})\b")


@dataclass(frozen=True)
class Source:
    """One entry of the bibliography.

    Attributes:
        key: its key in the file.
        authors: names of the authors, as ``Family, Given``.
        year: year of the publication.
        title: title of the publication.
        venue: where it was published.
        eprint: number at arXiv; "" = it is not there.
    """

    key: str
    authors: list[str]
    year: str
    title: str
    venue: str
    eprint: str

    @property
    def family(self) -> str:
        """Family name of the first author."""
        return self.authors[0].split(",")[0]

    @property
    def anchor(self) -> str:
        """Anchor of the entry on the bibliography's page."""
        return f"source-{self.key}"

    def entry(self) -> str:
        """Return the entry in Markdown."""
        names = [" ".join(reversed(name.split(", "))) for name in self.authors]
        where = f"[arXiv {self.eprint}](https://arxiv.org/abs/{self.eprint})" if self.eprint else ""
        venue = "" if where and self.venue == "arXiv" else self.venue
        said = ", ".join(part for part in (venue, self.year, where) if part)
        return f"({self.anchor})=\n{_and(names)}. **{self.title}.** {said}.\n"


def read_sources() -> list[Source]:
    """Read the bibliography that sibx has, sorted by first author and year."""
    found = []
    for _, key, said in read_entries(BIBLIOGRAPHY.read_text(encoding="utf-8")):
        authors = said["author"].split(" and ")
        found.append(Source(key, authors, said["year"], said["title"], said["venue"], said.get("eprint", "")))
    return sorted(found, key=lambda source: (source.family, source.year))


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True)
class Bibliography:
    """All sources, to look up.

    Attributes:
        sources: the entries.
    """

    sources: list[Source]

    def find(self, family: str, year: str) -> Source | None:
        """Return the entry of a first author and a year; None = there is none."""
        return next((s for s in self.sources if (s.family, s.year) == (family, year)), None)

    def linked(self, text: str) -> str:
        """Return the text with links: names to the bibliography, arXiv numbers to arXiv."""
        return SOURCE.sub(self._link, ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text))

    def _link(self, found: re.Match[str]) -> str:
        source = self.find(found[1], found[2])
        return found[0] if source is None else f"[{found[0]}](#{source.anchor})"

    def page(self) -> str:
        """Return the page of the bibliography."""
        text = "The publications that the tables and these pages name."
        return "\n\n".join(["# Bibliography", text, *(source.entry() for source in self.sources)])
