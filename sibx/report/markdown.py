"""The report as Markdown: verdicts, tables and cards, without pictures."""

import re
from collections.abc import Iterator

import pandas as pd

from sibx.report.content import Content
from sibx.report.names import METHOD_HEAD, badge, mean_and_bounds, means_note, metric_title
from sibx.report.paper import Cell, PaperTable, accuracy_table, classifier_tables, rate_tables, score_tables
from sibx.report.rankings import RANKS_NOTE
from sibx.report.tables import to_markdown
from sibx.report.verdicts import explain

SPECIAL = re.compile(r"[\\`*<>|~&$]|(?<!\w)_|_(?!\w)|(?<=\])\(")  # _ within a word and [ without ( mean nothing


def to_report(content: Content) -> str:
    """Return the report as GitHub Markdown; names are escaped."""
    counts = ", ".join(f"{count} {name}" for count, name in content.counts)
    chunks = [f"# {escape(content.title or 'Results')}", counts]
    chunks += _summary(content)
    chunks += [f"## {'Accuracy' if content.accuracies else 'Rates'}", f"{means_note(content.seeds)}."]
    chunks += [_table(accuracy_table(content))] if content.accuracies else []
    for table in rate_tables(content):
        chunks += [f"### {escape(table.title)}", _table(table)]
    for title, tables in (("Scores", score_tables(content)), ("Classifier", classifier_tables(content))):
        parts = [chunk for table in tables for chunk in (f"### {escape(table.title)}", _table(table))]
        chunks += [f"## {title}", *parts] if parts else []
    chunks += _ranks(content)
    if content.remarks:
        chunks += ["## To be read with care"]
        chunks += ["\n".join(f"- {escape(content.title_of(m))} {escape(remark)}" for m, remark in content.remarks)]
    if content.left_out:
        chunks += ["## Left out", "\n".join(f"- {escape(line)}" for line in content.left_out)]
    chunks += ["## Data, models and sources", *_cards(content)]
    if content.versions:
        versions = pd.DataFrame({"version": {escape(p): escape(v) for p, v in content.versions.items()}})
        chunks += ["## Versions", to_markdown(versions, "package")]
    return "\n\n".join(chunks) + "\n"


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def _summary(content: Content) -> Iterator[str]:
    if content.verdicts:
        yield "## Summary"
    for subject, verdicts in content.subjects.items():
        yield f"### {escape(subject)}"
        if verdicts[0].about:
            yield escape(verdicts[0].about)
        lines = []
        for verdict in verdicts:
            lines.append(f"- **{badge(verdict.status, verdict.count)}**: {escape(verdict.claim)}")
            lines += [f"  - {escape(p.scope)}: {badge(p.status, p.count)}, {escape(p.words)}" for p in verdict.parts]
        yield "\n".join(lines)
    if content.verdicts:
        yield explain(content.claims)


def _ranks(content: Content) -> Iterator[str]:
    if content.ranks:
        yield f"## Mean ranks\n\n{RANKS_NOTE}"
    for table in content.ranks:
        columns = [f"{metric_title(m)} (CD {r.critical_difference:.2f})" for m, r in table.rankings.items()]
        lines = {escape(content.title_of(method)): table.cells(method) for method in table.methods}
        yield f"### {escape(', '.join(filter(None, (table.scope, table.training))) or 'all')}"
        yield to_markdown(pd.DataFrame.from_dict(lines, "index", columns=[escape(c) for c in columns]), METHOD_HEAD)


def _table(table: PaperTable) -> str:
    lines = [
        [_cell(cell, (row, column) in table.best) for column, cell in enumerate(line[1])]
        for row, line in enumerate(table.lines)
    ]
    names = [escape(name) for name, _ in table.lines]
    return to_markdown(pd.DataFrame(lines, names, [escape(c) for c in table.columns]), table.corner)


def _cell(cell: Cell, best: bool) -> str:
    if cell is None or not cell.n:
        return "undefined" if cell else ""
    undefined = f" ({cell.undefined} undefined)" if cell.undefined else ""
    mean, bounds = mean_and_bounds(cell)
    return f"{f'**{mean}**' if best else mean} {bounds}{undefined}"


def _cards(content: Content) -> Iterator[str]:
    for card in content.data_cards + content.model_cards + content.source_cards:
        yield f"### {escape(card.title)}"
        yield "\n".join(f"- {escape(name)}: {escape('; '.join(lines))}" for name, lines in card.facts)
