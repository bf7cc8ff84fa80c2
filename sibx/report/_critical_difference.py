"""The critical-difference diagram: mean ranks on a line, with a bar over methods that do not differ."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sibx._checks import require
from sibx.evaluation.method_ranks import Ranking
from sibx.report.style import INK, styled

BAR, LINE = "#0072B2", INK  # blue and black: told apart by every kind of color vision, and in gray
LINE_INCHES, WIDTH_INCHES = 0.24, 7.5
TICKS = 12  # at most


class _Scale(NamedTuple):
    """The ranks that the line spans, whole numbers."""

    low: int
    high: int

    @property
    def width(self) -> int:
        return self.high - self.low


def critical_difference(ranking: Ranking, titles: Mapping[str, str] | None = None) -> Figure:
    """Draw Demsar's diagram: the best method on the left, blue bars join methods whose mean ranks do not differ.

    Args:
        ranking: a Ranking, from ``Results.ranking`` or ``rank_methods``.
        titles: method -> its name in the picture; by default the method's key.

    Returns:
        A matplotlib Figure (not registered with pyplot); ``figure.savefig(path)`` writes it.

    Raises:
        ValueError: a ranking without any image.

    Source: Demsar 2006, JMLR 7, figure 1, there with the best on the right.
    """
    require(ranking.n > 0, "ranking", "be of at least one image", ranking.n)
    with styled():
        return _draw(ranking, titles or {})


def _draw(ranking: Ranking, titles: Mapping[str, str]) -> Figure:
    methods, ranks = list(ranking.mean_ranks), list(ranking.mean_ranks.values())
    low = math.floor(ranks[0])
    scale = _Scale(low, math.ceil(max(ranks[-1], low + 1, low + ranking.critical_difference)))
    bars = [group for group in ranking.groups if len(group) > 1]
    left, first = math.ceil(len(methods) / 2), len(bars) + 1.5  # labels on the left, and where they begin
    figure = Figure(figsize=(WIDTH_INCHES, LINE_INCHES * (first + left + 3.5)), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(scale.low - 0.55 * scale.width, scale.high + 0.55 * scale.width)
    axes.set_ylim(first + left, -3.5)
    axes.axis("off")
    _draw_scale(axes, scale, ranking)
    for line, group in enumerate(bars, start=1):
        ends = ranking.mean_ranks[group[0]], ranking.mean_ranks[group[-1]]
        margin = 0.006 * scale.width
        axes.plot([ends[0] - margin, ends[1] + margin], [line, line], color=BAR, lw=4, solid_capstyle="butt")
    for place, (method, rank) in enumerate(zip(methods, ranks, strict=True)):
        height = first + min(place, len(methods) - 1 - place)
        _draw_label(axes, scale, titles.get(method, method), rank, height, place < left)
    return figure


def _draw_scale(axes: Axes, scale: _Scale, ranking: Ranking) -> None:
    axes.plot([scale.low, scale.high], [0, 0], color=LINE, lw=1)
    for tick in range(scale.low, scale.high + 1, math.ceil(scale.width / TICKS)):
        axes.plot([tick, tick], [0, -0.3], color=LINE, lw=1)
        axes.text(tick, -0.45, str(tick), ha="center", va="bottom", fontsize=8)
    axes.text(scale.high + 0.03 * scale.width, 0, "mean rank, 1 = best", va="center", fontsize=8)
    reach = ranking.critical_difference
    axes.plot([scale.low, scale.low + reach], [-2, -2], color=LINE, lw=1, marker="|", markersize=6)
    undefined = f", {ranking.undefined} undefined" if ranking.undefined else ""
    note = f"critical difference {reach:.2f} (level {ranking.level:g}); Friedman p = {ranking.p_value:.2g}; "
    axes.text(scale.low, -2.4, f"{note}{ranking.n} images{undefined}", ha="left", va="bottom", fontsize=8)


def _draw_label(axes: Axes, scale: _Scale, title: str, rank: float, line: float, on_left: bool) -> None:
    """A line from the scale down to the label at its side."""
    away = (-1 if on_left else 1) * 0.04 * scale.width
    edge = (scale.low if on_left else scale.high) + away
    axes.plot([rank, rank, edge], [0, line, line], color=LINE, lw=0.8)
    text = f"{title}  {rank:.2f}" if on_left else f"{rank:.2f}  {title}"
    axes.text(edge + away / 4, line, text, ha="right" if on_left else "left", va="center", fontsize=9)
