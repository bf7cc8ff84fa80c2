"""What ``recommend`` found: chosen on one half of the images, checked on the other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from sibx._files import write_atomically
from sibx.attribution import is_control
from sibx.evaluation.columns import TRAINED, for_json
from sibx.evaluation.method_ranks import Array, Ranking, rank_methods, scores_by_photograph
from sibx.evaluation.results import Results
from sibx.evaluation.significance import holm
from sibx.evaluation.statistics import Interval
from sibx.evaluation.ties import with_ties

Verdict = Literal["shown", "partly", "none"]
LEVEL = 0.05
TABLE_FILE, CHECK_FILE, ANSWER_FILE = "candidates.csv", "check.csv", "recommendation.json"


class Candidate(NamedTuple):
    """A method, and the layer that it looks at, "" = none."""

    method: str
    layer: str

    @property
    def name(self) -> str:
        """What it is called in tables: ``gradcam@features.13``."""
        return f"{self.method}@{self.layer}" if self.layer else self.method


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Which method, at which layer, and whether it beats the best model-free control.

    Attributes:
        choice: the best method of the half that chooses, as ``method`` or ``method@layer``.
        candidates: name in the tables -> the method and the layer ("" = none) of all that were ranked.
        verdict: whether its gain over the best control was shown on the other half (its interval and Holm's p at 5 %):
            ``shown`` by all metrics, ``partly`` by some, ``none``: by none of them, so that no map may be trusted more
            than one that never looked at the model.
        check: on the half that checks, a line per metric: metric, ``control`` (the best by this metric of the half that
            chooses), higher_is_better; mean, low, high, n, undefined, p_value, p_holm of the choice minus the control;
            ``shown``.
        table: on the half that chooses, a line per candidate and metric: candidate, metric; mean, low, high, n,
            undefined of the score; ``gain``, gain_low, gain_high over ``control``; p_holm over all candidates and
            metrics (NaN of a control); mean_rank and groups of the candidate.
        ranking: the candidates by the mean of their ranks by all metrics, on the half that chooses; who has no score on
            an image is last there.
        left_out: candidate, reason: what does not apply to the model or did not fit into the budget.
        images: photographs that were used; both halves.
        available: images that there were.
        passes: passes through the model that this call took; what ``resume`` found done took it none.
        budget: number of passes that were allowed; None = any.
        results: all scores; candidates are its methods.
    """

    choice: str
    candidates: dict[str, Candidate]
    verdict: Verdict
    check: pd.DataFrame
    table: pd.DataFrame
    ranking: Ranking
    left_out: pd.DataFrame
    images: int
    available: int
    passes: int
    budget: int | None
    results: Results

    @property
    def method(self) -> str:
        """The method of the choice."""
        return self.candidates[self.choice].method

    @property
    def layer(self) -> str | None:
        """The layer of the choice; None = it looks at none."""
        return self.candidates[self.choice].layer or None

    def __str__(self) -> str:
        """Say it in a few lines."""
        head = {
            "shown": f"Use {self.choice}: on images that had no say in the choice it beats the best control.",
            "partly": f"{self.choice} is the best of the methods; it beats the best control by some metrics only.",
            "none": f"None is shown to beat the best control. {self.choice} ranks first of the methods.",
        }
        lines = [head[self.verdict], *(_say_gain(line) for line in self.check.to_dict("records"))]
        before = list(self.ranking.mean_ranks)[: list(self.ranking.mean_ranks).index(self.choice)]
        if before:
            lines.append(f"It ranks behind {', '.join(before)}, which never looked at the model.")
        together = [g for g in self.ranking.groups if self.choice in g]
        others = [c for c in dict.fromkeys(c for g in together for c in g) if c != self.choice]
        if others:
            lines.append(f"Not told apart from it by their ranks: {', '.join(others)}.")
        limit = "" if self.budget is None else f" of {self.budget} allowed"
        halves = f"{self.images} of {self.available} images, half to choose, half to check"
        lines.append(f"{halves}; this call took {self.passes} passes{limit}.")
        lines += [f"left out: {name}: {reason}" for name, reason in self.left_out.to_numpy().tolist()]
        return "\n".join(lines)

    def to_plain(self) -> dict[str, Any]:
        """Return all but ``results`` in what JSON holds; NaN is None."""
        tables = {name: _records(getattr(self, name)) for name in ("check", "table", "left_out")}
        names = ("choice", "method", "layer", "verdict", "images", "available", "passes", "budget")
        said = {name: getattr(self, name) for name in names}
        ranks = {"critical_difference": self.ranking.critical_difference, "ranked": _records(self.ranking.table())}
        return said | tables | {"ranking": ranks}

    def save(self, folder: str | Path) -> Path:
        """Write ``recommendation.json``, ``candidates.csv`` and ``check.csv``; each appears complete or not at all."""
        folder = Path(folder)
        text = json.dumps(self.to_plain(), indent=2, default=for_json) + "\n"
        write_atomically(folder / ANSWER_FILE, text.encode())
        for name, table in ((TABLE_FILE, self.table), (CHECK_FILE, self.check)):
            write_atomically(folder / name, table.to_csv(index=False, lineterminator="\n").encode())
        return folder


def judge(
    results: Results,
    directions: Mapping[str, bool],
    candidates: Sequence[Candidate],
    left_out: Sequence[tuple[str, str]],
    available: int,
    budget: int | None,
) -> Recommendation:
    """Choose on the photographs at even places, and check on the others.

    Args:
        results: scores of all candidates, each under its name.
        directions: metric -> whether higher is better.
        candidates: what was scored.
        left_out: candidate and reason of what was not scored.
        available: images that there were.
        budget: number of passes that were allowed; None = any.
    """
    photos = {photo: place for place, photo in enumerate(dict.fromkeys(results.rows["photo"].astype(str)))}
    odd = results.rows["photo"].astype(str).map(photos) % 2 == 1
    choosing, checking = (Results(results.rows[part], results.curves) for part in (~odd, odd))
    ranking = _rank(choosing, directions)
    controls = {metric: _best_control(choosing, metric, higher) for metric, higher in directions.items()}
    choice = next(name for name in ranking.mean_ranks if not is_control(name))
    check = _compare(checking, directions, controls, [choice])
    shown = int(check["shown"].sum())
    return Recommendation(
        choice=choice,
        candidates={c.name: c for c in candidates},
        verdict="none" if not shown else "shown" if shown == len(check) else "partly",
        check=check.drop(columns="candidate"),
        table=_table(choosing, directions, controls, ranking),
        ranking=ranking,
        left_out=pd.DataFrame(left_out, columns=["candidate", "reason"]),
        images=len(photos),
        available=available,
        passes=int(results.info["passes"]),
        budget=budget,
        results=results,
    )


def _say_gain(line: Mapping[Any, Any]) -> str:
    """Return a line of the check in words."""
    gain, p_value = Interval.of(line), line["p_holm"]
    if not gain.n:
        return f"  {line['metric']}: undefined (no image has a score of both it and {line['control']})"
    worse = not line["shown"] and gain.excludes_zero and p_value < LEVEL
    word = "better" if line["shown"] else "worse" if worse else "not shown"
    return f"  {line['metric']}: {gain:+.2g} over {line['control']} ({word}, p = {p_value:.2g})"


def _rank(results: Results, directions: Mapping[str, bool]) -> Ranking:
    """Rank candidates by the mean over metrics of their ranks on an image."""
    ranks = []
    for metric, higher in directions.items():
        candidates, scores = scores_by_photograph(results.rows[results.rows["metric"] == metric])
        ranks.append(_ranks(scores if higher else -scores))
    together = np.nanmean(np.stack(ranks), axis=0) if len(ranks) > 1 else ranks[0]
    return rank_methods(together, candidates, higher_is_better=False)


def _ranks(scores: Array) -> Array:
    """Ranks of every row (N, k), 1 = the highest; what has no score is last, and a row without any has none."""
    tied = with_ties(scores)
    lowest = np.where(np.isnan(tied), -np.inf, tied)
    ranks = pd.DataFrame(lowest).rank(axis=1, ascending=False).to_numpy(copy=True)
    ranks[np.isnan(scores).all(1)] = np.nan
    return ranks


def _best_control(results: Results, metric: str, higher: bool) -> str:
    rows = results.rows[results.rows["metric"] == metric]
    means = rows.groupby(rows["method"].astype(str), sort=False, observed=True)["value"].mean()
    means = means[[is_control(name) for name in means.index]].fillna(-np.inf if higher else np.inf)
    return str(means.idxmax() if higher else means.idxmin())


def _compare(
    results: Results, directions: Mapping[str, bool], controls: Mapping[str, str], candidates: Sequence[str]
) -> pd.DataFrame:
    """Return the differences of candidates to the best control by every metric, with Holm's p over all of them."""
    tables = []
    for metric, higher in directions.items():
        kept = results.rows["method"].astype(str).isin([*candidates, controls[metric]])
        found = Results(results.rows[kept], results.curves).between_methods(metric, controls[metric])
        tables.append(found.drop(columns=list(TRAINED)).assign(higher_is_better=higher))
    table = pd.concat(tables, ignore_index=True).rename(columns={"method": "candidate", "reference": "control"})
    table["p_holm"] = holm(table["p_value"].to_numpy())
    right = np.where(table["higher_is_better"], table["low"] > 0, table["high"] < 0)
    return table.assign(shown=right & (table["p_holm"].to_numpy() < LEVEL))


def _table(
    results: Results, directions: Mapping[str, bool], controls: Mapping[str, str], ranking: Ranking
) -> pd.DataFrame:
    names = [name for name in ranking.mean_ranks if not is_control(name)]
    gains = _compare(results, directions, controls, names)
    gains = gains.rename(columns={"mean": "gain", "low": "gain_low", "high": "gain_high"})
    gains = gains[["candidate", "metric", "control", "gain", "gain_low", "gain_high", "p_holm"]]
    summary = results.summary(["method", "metric"]).rename(columns={"method": "candidate"})
    summary = summary[["candidate", "metric", *Interval._fields]].astype({"candidate": str, "metric": str})
    ranks = ranking.table().rename(columns={"method": "candidate"})[["candidate", "mean_rank", "groups"]]
    table = ranks.merge(summary, on="candidate").merge(gains, on=["candidate", "metric"], how="left")
    return table[table["metric"].isin(list(directions))].reset_index(drop=True)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the lines of a table, with None for NaN, which JSON does not know."""
    plain = table.astype(object)
    return [{str(k): v for k, v in line.items()} for line in plain.where(plain.notna(), None).to_dict("records")]
