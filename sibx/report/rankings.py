"""Methods ranked over the images of a report, for every trained model and metric."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from sibx.evaluation import Results
from sibx.evaluation.columns import CLASSIFIER, CURVE_COLUMNS, TRAINED
from sibx.evaluation.method_ranks import Ranking
from sibx.report.claims import Scope, pick_headline

RANKS_NOTE = (
    "On every image the best of the methods has rank 1; of several seeds, scores are means over them. Methods that "
    "share a bar, or a letter, do not differ: their mean ranks are closer than Nemenyi's critical difference, with "
    "which the chance of any false difference among all pairs of one ranking is 5 %. Where a method is the best on a "
    "quarter of the images or more and the worst on as many, its mean rank says little: both shares stand beside it."
)


def over_seeds(cell: pd.DataFrame) -> pd.DataFrame:
    """Every score once per image, the mean over seeds: rows of the same image say less than rows of other images."""
    if cell["image_id"].is_unique:
        return cell
    keys = ["image_id", "label"]
    means = cell.groupby(keys, sort=False, observed=True)["value"].transform("mean")
    return cell.assign(value=means).drop_duplicates(keys)


class RankTable(NamedTuple):
    """The rankings of one trained model in one scope, by metric; every one is of at least one image."""

    scope: str
    training: str
    rankings: dict[str, Ranking]

    @property
    def headline(self) -> str:
        """The metric whose ranking is drawn."""
        return pick_headline(list(self.rankings)) or next(iter(self.rankings))

    @property
    def methods(self) -> list[str]:
        """All methods, in the order of the headline's ranks."""
        ordered = (self.rankings[self.headline], *self.rankings.values())
        return list(dict.fromkeys(method for ranking in ordered for method in ranking.mean_ranks))

    def cells(self, method: str) -> list[str]:
        """Return a method's mean rank by every metric with the letters of its groups, "" where it has none."""
        return [_cell(ranking, method) if method in ranking.mean_ranks else "" for ranking in self.rankings.values()]


def _cell(ranking: Ranking, method: str) -> str:
    first, last = ranking.first[method], ranking.last[method]
    shares = f" (first {first:.0%}, last {last:.0%})" if method in ranking.divided else ""
    return f"{ranking.mean_ranks[method]:.2f} {ranking.letters(method)}{shares}"


def rank_tables(results: Results, names: Mapping[Scope, str], directions: Mapping[str, bool]) -> Iterator[RankTable]:
    """Rank the methods of every trained model by every metric whose direction is known.

    Args:
        results: the results; of several seeds an image's score is the mean over them.
        names: names of the scopes.
        directions: metric -> whether higher is better.
    """
    scored = results.distinct(*TRAINED, "metric", "method")
    scored = scored[(scored["method"] != CLASSIFIER) & scored["metric"].isin(list(directions))]
    for key, lines in scored.astype(str).groupby(list(TRAINED), sort=False, observed=True):
        dataset, split, model, training = map(str, key)
        several = lines.groupby("metric", sort=False, observed=True)["method"].size() >= 2
        rankings: dict[str, Ranking] = {}
        for metric in map(str, several[several].index):
            where = dict(zip(TRAINED, (dataset, split, model, training), strict=True))
            cells = [over_seeds(cell) for _, cell in results.cells(["method"], metric=metric, **where)]
            rows = pd.concat([cell.astype({"method": str}) for cell in cells]).assign(seed=0)
            found = Results(rows, pd.DataFrame(columns=list(CURVE_COLUMNS))).ranking(
                metric, higher_is_better=directions[metric]
            )
            rankings |= {metric: found} if found.n else {}
        if rankings:
            yield RankTable(names[Scope(dataset, split, model)], training, rankings)
