"""Tables for a paper, of which Markdown and LaTeX are two forms."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sibx.evaluation import Interval
from sibx.evaluation.classifier_rates import MAJORITY
from sibx.report.content import Content, ScoreTable
from sibx.report.names import METHOD_HEAD, TRAINING_HEAD, metric_title, rates_title

Cell = Interval | None  # None: not measured


class PaperTable(NamedTuple):
    """A table of intervals: what it shows, its heads, a name and the cells of every line, and which cells are best."""

    title: str
    corner: str
    columns: list[str]
    lines: list[tuple[str, list[Cell]]]
    best: frozenset[tuple[int, int]]


def accuracy_table(content: Content) -> PaperTable:
    """A line per training, and one of always the commonest answer; a column per scope; the best of every column."""
    scopes = list(dict.fromkeys(s for line in content.accuracies.values() for s in line))
    lines = [(t or "all", [found.get(s) for s in scopes]) for t, found in content.accuracies.items()]
    best = _best_of_columns(lines, [True] * len(scopes))
    if content.majorities:
        lines.append((metric_title(MAJORITY), [content.majorities.get(s) for s in scopes]))
    return PaperTable("Accuracy", TRAINING_HEAD, scopes, lines, best)


def rate_tables(content: Content) -> Iterator[PaperTable]:
    """What is beside the accuracy, or of several labels the scores of labels, by scope: a line per training."""
    for table in content.rates:
        yield _metrics(content, table, rates_title(table.metrics), TRAINING_HEAD, lambda line: line[0] or "all")


def score_tables(content: Content) -> Iterator[PaperTable]:
    """Scores of explanations by scope: of several trainings a table per metric, of a single one a table of metrics."""
    for table in content.scores:
        if len(table.trainings) > 1:
            yield from (_trainings(content, table, metric) for metric in table.metrics)
        else:
            yield _metrics(content, table, "Explanations", METHOD_HEAD, lambda line: content.title_of(line[1]))


def classifier_tables(content: Content) -> Iterator[PaperTable]:
    """Scores of the classifier by scope: a line per training, a column per condition."""
    for table in content.classifier:
        yield _metrics(content, table, f"The classifier, {table.what}", TRAINING_HEAD, lambda line: line[0] or "all")


def _trainings(content: Content, table: ScoreTable, metric: str) -> PaperTable:
    """One metric: a line per method, a column per training; the best of every line."""
    scores = {line[:2]: line.scores.get(metric) for line in table.lines}
    lines = [(content.title_of(m), [scores.get((t, m)) for t in table.trainings]) for m in table.methods]
    higher = content.directions.get(metric)
    best = frozenset((row, column) for row, line in enumerate(lines) for column in _best(line[1], higher))
    title = f"{metric_title(metric)}, {table.scope}{_better(higher)}"
    return PaperTable(title, METHOD_HEAD, [t or "all" for t in table.trainings], lines, best)


def _metrics(
    content: Content, table: ScoreTable, kind: str, corner: str, name: Callable[[tuple[str, str]], str]
) -> PaperTable:
    """A line per line, a column per metric; the best of every column."""
    lines = [(name(line[:2]), [line.scores.get(m) for m in table.metrics]) for line in table.lines]
    directions = [content.directions.get(m) for m in table.metrics]
    columns = [metric_title(m) + _better(d) for m, d in zip(table.metrics, directions, strict=True)]
    return PaperTable(
        f"{kind}, {table.scope}".rstrip(", "), corner, columns, lines, _best_of_columns(lines, directions)
    )


def _best_of_columns(
    lines: Sequence[tuple[str, list[Cell]]], directions: Sequence[bool | None]
) -> frozenset[tuple[int, int]]:
    cells = [cells for _, cells in lines]
    return frozenset(
        (row, column)
        for column, higher in enumerate(directions)
        for row in _best([line[column] for line in cells], higher)
    )


def _best(cells: Sequence[Cell], higher: bool | None) -> list[int]:
    """The places of the best mean, several where they tie; none without a direction, or where all are the same."""
    means = {place: cell.mean for place, cell in enumerate(cells) if cell and cell.n}
    if higher is None or len(set(means.values())) < 2:
        return []
    best = (max if higher else min)(means.values())
    return [place for place, mean in means.items() if mean == best]


def _better(higher: bool | None) -> str:
    return {True: " (higher is better)", False: " (lower is better)", None: ""}[higher]
