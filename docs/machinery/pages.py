"""The reference: every page of it, made from the tables of sibx and from nothing else."""

from docs.machinery.api import api_pages
from docs.machinery.commands import command_page
from docs.machinery.sources import Bibliography, read_sources
from docs.machinery.tables import TABLE_PAGES


def reference_pages() -> dict[str, str]:
    """Return the pages of the reference: path below docs/ -> text in MyST Markdown."""
    sources = Bibliography(read_sources())
    pages = {f"reference/{name}.md": page(sources) for name, page in TABLE_PAGES.items()}
    pages["bibliography.md"] = sources.page()
    pages["reference/command_line.md"] = command_page()
    api = api_pages()
    pages |= {f"reference/api/{name}.md": text for name, text in api.items()}
    pages["reference/index.md"] = _index([*TABLE_PAGES, "command_line"], list(api))
    return pages


def _index(tables: list[str], api: list[str]) -> str:
    return "\n".join(
        [
            "# Reference",
            "",
            "These pages are made from the tables and docstrings of the package when the site is built.",
            "",
            toctree("Tables", tables),
            toctree("Python", [f"api/{name}" for name in api]),
        ]
    )


def toctree(caption: str, names: list[str]) -> str:
    """Return a table of contents of pages."""
    return "\n".join(["```{toctree}", f":caption: {caption}", ":maxdepth: 1", "", *names, "```", ""])
