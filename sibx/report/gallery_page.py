"""The gallery of a page: cards with pictures inside, their scores, and what one may choose."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from sibx.evaluation import Results
from sibx.evaluation.classified import is_right
from sibx.evaluation.columns import MAPS
from sibx.report.claims import SCOPE, Scope, pick_headline
from sibx.report.content import Content
from sibx.report.gallery import GalleryItem, draw_maps, draw_picture, signed_methods
from sibx.report.names import MINUS, method_title, metric_title, number
from sibx.report.style import DIVERGING

VERDICTS = {1.0: "right, p =", 0.0: "wrong, p ="}  # scores without classes are neither
MARKUP = 400  # characters of a picture's tags
ITEM = [*SCOPE, "image_id"]  # the columns that GalleryItem.key has the values of
CardScores = dict[
    str, dict[str, dict[str, float | None]]
]  # method -> metric -> training -> score, None where undefined
ORDERS = (("", "as they come"), ("worst", "worst first"), ("best", "best first"))
GAIN_ORDERS = (("gain", "largest gain first"), ("loss", "largest loss first"))


class GalleryMap(NamedTuple):
    """One map: its training, the picture as a data URI, what it is in words, and how the image was classified."""

    training: str
    source: str
    alt: str
    note: str


class GalleryRow(NamedTuple):
    """The maps of one method, and the ends and the colors of the scale that they share."""

    method: str
    title: str
    cells: list[GalleryMap]
    low: str
    high: str
    colors: str


class GalleryCard(NamedTuple):
    """One image."""

    id: str
    class_name: str
    scope: str
    picture: str
    rows: list[GalleryRow]
    scores: CardScores

    @property
    def size(self) -> int:
        """About how many characters the card takes: its pictures and names, its scores with quotes escaped."""
        cells = [cell for row in self.rows for cell in row.cells]
        texts = len(self.picture) + sum(len(cell.source) + len(cell.alt) for cell in cells)
        return texts + len(json.dumps(self.scores).replace('"', "&#34;")) + MARKUP * (1 + len(cells))


class GalleryPage(NamedTuple):
    """All cards, what one may choose (key, label, values with their texts), and how many cards did not fit."""

    cards: list[GalleryCard]
    choices: list[tuple[str, str, list[tuple[str, str]]]]
    trainings: list[str]
    several: bool  # scopes
    left_out: int


def lay_out(content: Content, items: Sequence[GalleryItem], budget: int) -> GalleryPage:
    """Draw as many items, in their order, as fit into so many characters."""
    signed = signed_methods(items)
    rows = _rows_of(content.results, {item.id for item in items})
    by_image = dict(list(rows.groupby(ITEM, sort=False, observed=True)))
    cards: list[GalleryCard] = []
    for item in items:
        scored = by_image.get(item.key, rows.iloc[:0])
        card = _card(content, item, scored, signed)
        budget -= card.size
        if budget < 0:
            break
        cards.append(card)
    scopes = list(dict.fromkeys(c.scope for c in cards))
    trainings = list(dict.fromkeys(cell.training for c in cards for row in c.rows for cell in row.cells))
    return GalleryPage(cards, _choices(cards, scopes, trainings), trainings, len(scopes) > 1, len(items) - len(cards))


def _rows_of(results: Results, ids: set[str]) -> pd.DataFrame:
    """The rows of some images, in their order."""
    parts = [cell[cell["image_id"].isin(ids)] for _, cell in results.cells(MAPS)]
    return pd.concat(parts).sort_index()


def _card(content: Content, item: GalleryItem, scored: pd.DataFrame, signed: set[str]) -> GalleryCard:
    scope = content.scopes.get(Scope(item.dataset, item.split, item.model), item.split)
    notes = _classified(scored)
    return GalleryCard(
        id=item.id,
        class_name=item.class_name,
        scope=scope,
        picture=_uri(draw_picture(item.picture, item.mask)),
        rows=[_row(item, method, notes, signed=method in signed) for method in item.maps],
        scores=_scores(scored, set(item.maps)),
    )


def _row(item: GalleryItem, method: str, notes: Mapping[str, str], *, signed: bool) -> GalleryRow:
    drawing, title = draw_maps(item, method, signed=signed), method_title(method)
    cells = []
    for training, picture in drawing.pictures.items():
        undefined = training in drawing.undefined
        alt = f"{title} {training}".strip() + f" for {item.class_name} ({item.id})" + ", undefined" * undefined
        note = ", ".join(filter(None, (notes.get(training, ""), "undefined" * undefined)))
        cells.append(GalleryMap(training, _uri(picture), alt, note))
    scale = drawing.scale
    return GalleryRow(
        method=method,
        title=title,
        cells=cells,
        low=f"{scale.low:.3g}".replace("-", MINUS),
        high=f"{scale.high:.3g}",
        colors="diverging" if scale.colormap == DIVERGING else "sequential",
    )


def _scores(scored: pd.DataFrame, methods: set[str]) -> CardScores:
    found: CardScores = {}
    keys = ["method", "metric", "training"]
    means = (
        scored[scored["method"].isin(methods)].groupby(keys, sort=False, observed=True)["value"].mean().reset_index()
    )
    for method, metric, training, value in means.itertuples(index=False):
        shown = None if pd.isna(value) else round(float(value), 6)
        found.setdefault(method, {}).setdefault(metric, {})[training] = shown
    return found


def _classified(scored: pd.DataFrame) -> dict[str, str]:
    """How each training classifies the image."""
    first = scored.drop_duplicates("training")
    words = zip(first["training"], is_right(first), first["confidence"], strict=True)
    return {str(t): f"{VERDICTS.get(r, 'score')} {number(c, 2)}" for t, r, c in words}


def _choices(
    cards: Sequence[GalleryCard], scopes: Sequence[str], trainings: Sequence[str]
) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """What one may choose; a choice of one is none."""
    classes = sorted({c.class_name for c in cards})
    methods = list(dict.fromkeys((row.method, row.title) for c in cards for row in c.rows))
    metrics = list(dict.fromkeys(m for c in cards for scores in c.scores.values() for m in scores))
    headline = pick_headline(metrics)
    metrics.sort(key=lambda m: m != headline)
    orders = [*ORDERS, *(GAIN_ORDERS if len(trainings) > 1 else ())]
    return [
        ("class", "Class", [("", "all"), *((c, c) for c in classes)]),
        ("scope", "Images of", [("", "all"), *((s, s) for s in scopes)]),
        ("method", "Method", methods),
        ("metric", "Score", [(m, metric_title(m)) for m in metrics]),
        ("order", "Order", orders if metrics else []),
    ]


def _uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
