"""What a report says, as plain data: the same for HTML, Markdown and LaTeX."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sibx._checks import require
from sibx.attribution import is_control
from sibx.datasets import DATASETS
from sibx.evaluation import Interval, Results
from sibx.evaluation.classifier_rates import MAJORITY
from sibx.evaluation.columns import ACCURACY, CELL, CLASSIFIER, IMAGE
from sibx.evaluation.summaries import class_means
from sibx.evaluation.summaries import summarize as summarize_cells
from sibx.models import MODELS
from sibx.report.cards import Card, data_cards, find_versions, model_cards, source_cards
from sibx.report.claims import (
    MARGIN,
    SCOPE,
    Claim,
    Comparison,
    Scope,
    known_directions,
    make_claims,
)
from sibx.report.curve_bands import CurveGroup, curve_groups
from sibx.report.names import method_title, metric_title, scope_names
from sibx.report.rankings import RankTable, over_seeds, rank_tables
from sibx.report.unequal import are_unequal
from sibx.report.verdicts import Verdict, summarize

Histories = Mapping[str, Sequence[Mapping[str, float]]]
LOSSES = ("val_accuracy", "accuracy", "total", "cross_entropy", "foreground", "background")  # first, then others


MARK = "\N{DAGGER}"  # of a method with a remark
NO_QUANTITIES = ("epoch", "seconds", "learning_rate", "kept", "masked")  # of a line of a log: nothing that is learned


class ScoreLine(NamedTuple):
    """One method of one training with its scores by metric."""

    training: str
    method: str
    scores: dict[str, Interval]


class ScoreTable(NamedTuple):
    """All scores of one scope; ``what`` the values are, where that is not what the metrics are called."""

    scope: str
    metrics: list[str]
    lines: list[ScoreLine]
    what: str = ""

    @property
    def trainings(self) -> list[str]:
        """In the order of the lines."""
        return list(dict.fromkeys(line.training for line in self.lines))

    @property
    def methods(self) -> list[str]:
        """In the order of the lines."""
        return list(dict.fromkeys(line.method for line in self.lines))

    def means(self) -> pd.DataFrame:
        """Return the means: a line per training and method, a column per metric."""
        index = pd.MultiIndex.from_tuples([line[:2] for line in self.lines], names=["training", "method"])
        rows = [[line.scores[m].mean if m in line.scores else np.nan for m in self.metrics] for line in self.lines]
        return pd.DataFrame(rows, index, self.metrics, dtype=float)


@dataclass(frozen=True)
class Content:
    """Everything that a report says; an empty part is one without data.

    Attributes:
        title: title of the report.
        claims: all claims, made by ``make_claims``.
        verdicts: the claims that matter most, over all scopes.
        accuracies: training -> scope -> share of the images that are classified right; not of several labels.
        rates: what is beside the accuracy, by scope; of several labels per image the scores of labels.
        scores: scores of the explanations, by scope.
        classifier: scores of the classifier: accuracy with other backgrounds, attacked, corrupted; by scope, where
            classes are unequal first as means over classes.
        ranks: the methods' mean ranks, by scope and training.
        remarks: method and what has to be known of it to read the tables, see ``Results.remarks``.
        curves: mean curves, by scope and kind.
        histories: training -> one line per epoch.
        directions: metric -> whether higher is better.
        data_cards: one card per data set.
        model_cards: one card per model.
        source_cards: where the methods and the metrics come from.
        versions: package -> version.
        scopes: names of the scopes.
        results: the results that it is a report of.
    """

    title: str
    claims: list[Claim]
    verdicts: list[Verdict]
    accuracies: dict[str, dict[str, Interval]]
    rates: list[ScoreTable]
    scores: list[ScoreTable]
    classifier: list[ScoreTable]
    ranks: list[RankTable]
    remarks: list[tuple[str, str]]
    curves: list[CurveGroup]
    histories: dict[str, list[dict[str, float]]]
    directions: dict[str, bool]
    data_cards: list[Card]
    model_cards: list[Card]
    source_cards: list[Card]
    versions: dict[str, str]
    scopes: dict[Scope, str]
    results: Results

    @property
    def majorities(self) -> dict[str, Interval]:
        """Scope -> the accuracy of always giving the commonest label; not of several labels."""
        found = {table.scope: table.lines[0].scores.get(MAJORITY) for table in self.rates if table.lines}
        scopes = {scope for of_training in self.accuracies.values() for scope in of_training}
        return {scope: usual for scope, usual in found.items() if usual and scope in scopes}

    @property
    def trainings(self) -> list[str]:
        """In the order of the rows."""
        return [str(t) for t in self.results.distinct("training")["training"]]

    def title_of(self, method: str) -> str:
        """Return a method's name for people, with a mark if there is a remark on it."""
        return method_title(method) + (f" {MARK}" if method in dict(self.remarks) else "")

    @property
    def seeds(self) -> list[int]:
        """How many seeds trainings have, each number once, in any scope."""
        trained = self.results.distinct(*SCOPE, "training", "seed")
        return sorted(trained.groupby([*SCOPE, "training"], observed=True).size().unique().tolist())

    @property
    def counts(self) -> list[tuple[int, str]]:
        """What there is how many of: images, their rows if some have several, methods, controls, metrics, trainings."""
        rows = self.results.hits().distinct(*IMAGE)
        images = rows.drop_duplicates(["dataset", "split", "photo"])
        methods = {line.method for table in self.scores for line in table.lines}
        controls = {m for m in methods if is_control(m)}
        metrics = {metric for table in self.scores for metric in table.metrics}
        numbers = {
            "image": len(images),
            "row": len(rows) if len(rows) > len(images) else 0,
            "method": len(methods - controls),
            "control": len(controls),
            "metric": len(metrics),
            "training": len(self.trainings),
        }
        return [(count, name if count == 1 else f"{name}s") for name, count in numbers.items() if count]

    @property
    def left_out(self) -> list[str]:
        """What could not be computed, a line for each with its reason."""
        lines = self.results.skipped.to_dict("records")
        parts = [(method_title(s["method"]), metric_title(s["metric"]) if s["metric"] else "") for s in lines]
        return [f"{', '.join(filter(None, p))}: {s['reason']}" for p, s in zip(parts, lines, strict=True)]

    @property
    def subjects(self) -> dict[str, list[Verdict]]:
        """The verdicts by who is compared with whom."""
        found: dict[str, list[Verdict]] = {}
        for verdict in self.verdicts:
            found.setdefault(verdict.subject, []).append(verdict)
        return found

    @property
    def quantities(self) -> list[str]:
        """What changes over the epochs of any training, most important first."""
        found = dict.fromkeys(q for lines in self.histories.values() for line in lines for q in line)
        shown = [q for q in found if q not in NO_QUANTITIES and "recall[" not in q]
        return sorted(shown, key=lambda q: LOSSES.index(q) if q in LOSSES else len(LOSSES))


def gather(
    results: Results,
    *,
    histories: Histories | None = None,
    comparisons: Sequence[Comparison] | None = None,
    directions: Mapping[str, bool] | None = None,
    margin: float = MARGIN,
    title: str = "",
) -> Content:
    """Compute everything that a report says, from the arguments of ``write_report``."""
    _check_rows(results)
    claims = make_claims(results, comparisons, directions=directions, margin=margin)
    found = [Scope(*map(str, key)) for key in results.distinct(*SCOPE).to_numpy()]
    names, directions_known = scope_names(found), known_directions(directions)
    if histories is None:
        histories = histories_of(results.info)
    summary = summarize_cells(((key, over_seeds(cell)) for key, cell in results.cells(CELL)), CELL)
    rates = results.rates().query("metric != 'accuracy' and n > 0")
    is_classifier = summary["method"] == CLASSIFIER
    return Content(
        title=title or _title(found),
        claims=claims,
        verdicts=summarize(claims, names, margin),
        accuracies=_accuracies(results, names),
        rates=list(_score_tables(rates, names)),
        scores=list(_score_tables(summary[~is_classifier], names)),
        classifier=list(_classifier_tables(results, summary[is_classifier], rates, names)),
        ranks=list(rank_tables(results, names, directions_known)),
        remarks=list(_remarks(results, names)),
        curves=list(curve_groups(results, names)),
        histories=_in_order(histories, results.distinct("training")["training"]),
        directions=directions_known,
        data_cards=data_cards(results),
        model_cards=model_cards(results),
        source_cards=source_cards(results),
        versions=find_versions(results.info),
        scopes=names,
        results=results,
    )


def histories_of(info: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Return the epochs that ``run.json`` holds under ``training_log``, {} where it does not."""
    log = info.get("training_log", {})
    entries = log.items() if isinstance(log, Mapping) else ()
    return {str(name): entry["history"] for name, entry in entries if isinstance(entry, Mapping) and "history" in entry}


def _in_order(histories: Histories, trainings: Iterable[str]) -> dict[str, list[dict[str, float]]]:
    """The trainings of the rows first and in their order, so that each looks the same in all charts."""
    names = [*(t for t in trainings if t in histories), *histories]
    return {name: [dict(line) for line in histories[name]] for name in dict.fromkeys(names)}


def _check_rows(results: Results) -> None:
    """Without this, runs that nothing tells apart would be averaged as if they were seeds."""
    require(len(results.distinct(*CELL)) > 0, "results", "have at least one row", 0)
    keys = [*CELL, "seed", "image_id", "label"]
    rule = "have every score once; runs are told apart by the columns model, training and seed"
    for _, cell in results.cells([*CELL, "seed"]):
        if not cell["image_id"].is_unique:
            twice = cell[cell.duplicated(["image_id", "label"])]
            require(twice.empty, "results", rule, twice[keys].head(1).to_dict("records"))


def _remarks(results: Results, names: Mapping[Scope, str]) -> Iterator[tuple[str, str]]:
    """Yield every remark once, with the places that it holds for, unless these are all that there are."""
    found = results.remarks()
    everywhere = len(results.distinct(*SCOPE, "training"))
    for (method, same, remark), lines in found.groupby(["method", "same_as", "remark"], sort=False, observed=True):
        keys = lines[[*SCOPE, "training"]].astype(str).to_numpy().tolist()
        places = [", ".join(filter(None, (names.get(Scope(*key[:3]), ""), key[3]))) for key in keys]
        where = f" ({'; '.join(places)})" if any(places) and len(places) < everywhere else ""
        said = f"has the same scores as {method_title(str(same))} on every image" if same else str(remark)
        yield str(method), f"{said}{where}"


def _title(scopes: Sequence[Scope]) -> str:
    names = [dict.fromkeys(DATASETS[d].title if d in DATASETS else d for d, _, _ in scopes)]
    names.append(dict.fromkeys(MODELS[m].title if m in MODELS else m for _, _, m in scopes))
    return " \N{MIDDLE DOT} ".join(", ".join(filter(None, part)) for part in names if any(part))


def _accuracies(results: Results, names: Mapping[Scope, str]) -> dict[str, dict[str, Interval]]:
    found: dict[str, dict[str, Interval]] = {}
    for line in results.accuracy().to_dict("records"):
        scope = Scope(*(str(line[name]) for name in SCOPE))
        if line["n"] and line["metric"] == ACCURACY:  # scores without classes have none, labels that are there a recall
            found.setdefault(str(line["training"]), {})[names[scope]] = Interval.of(line)
    return found


def _classifier_tables(
    results: Results, summary: pd.DataFrame, rates: pd.DataFrame, names: Mapping[Scope, str]
) -> Iterator[ScoreTable]:
    """Yield the scores of the classifier, by scope: means over classes if they are unequal, and means over images.

    Beside an accuracy stands that of always giving the commonest answer, and for means over classes what they are of a
    classifier that always says the same one.
    """
    hits = results.hits().rows
    for key, lines in summary.groupby(SCOPE, sort=False, observed=True):
        of_scope = hits[(hits[SCOPE] == list(key)).all(axis=1)]
        right, place = str(of_scope["metric"].iloc[0]), dict(zip(SCOPE, key, strict=True))
        if are_unequal(of_scope):
            what = f"mean {right} of the classes"
            if right == ACCURACY:
                what += f"; of one class always {1 / of_scope['label'].nunique():.3f}"
            cells = ((k, over_seeds(cell)) for k, cell in results.cells(CELL, method=CLASSIFIER, **place))
            yield from (table._replace(what=what) for table in _score_tables(class_means(cells, CELL), names))
        if right == ACCURACY:
            usual = rates[(rates[SCOPE] == list(key)).all(axis=1) & (rates["metric"] == MAJORITY)]
            lines = pd.concat([lines, usual])
        yield from (table._replace(what=right) for table in _score_tables(lines, names))


def _score_tables(summary: pd.DataFrame, names: Mapping[Scope, str]) -> Iterator[ScoreTable]:
    for key, part in summary.groupby(SCOPE, sort=False, observed=True):
        lines: dict[tuple[str, str], ScoreLine] = {}
        for row in part.to_dict("records"):
            place = str(row["training"]), str(row["method"])
            line = lines.setdefault(place, ScoreLine(*place, {}))
            line.scores[str(row["metric"])] = Interval.of(row)
        metrics = [str(m) for m in part["metric"].unique()]
        yield ScoreTable(names[Scope(*map(str, key))], metrics, list(lines.values()))
