"""Charts of a page: small figures as SVG inside data URIs, each with its numbers in words."""

import base64
import io
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from sibx.attribution import is_control
from sibx.evaluation import Band, Interval
from sibx.evaluation.classifier_rates import MAJORITY
from sibx.report._critical_difference import critical_difference
from sibx.report.content import Content, ScoreTable
from sibx.report.curve_bands import CurveGroup
from sibx.report.figures import curve_panel, interval_bars, training_panel
from sibx.report.names import CLASSIFIER_TITLES, curve_title, interval, method_title, metric_title, number
from sibx.report.rankings import RankTable
from sibx.report.style import FAINT, INK

X_LABELS = {
    "deletion": "share of pixels removed, most relevant first",
    "insertion": "share of pixels shown, most relevant first",
    "lerf": "share of pixels removed, least relevant first",
    "sic": "share of the bytes of the picture",
    "aic": "share of the bytes of the picture",
    "iou_over_thresholds": "threshold of the scaled map",
}
Y_LABELS = {
    "sic": "probability, scaled",
    "aic": "share predicted",
    "iou_over_thresholds": "intersection over union",
}
DARK_INK, DARK_FAINT = "#e5e8ec", "#39424d"
THEME = (
    f"<style>svg{{--ink:{INK};--faint:{FAINT}}}"
    f"@media(prefers-color-scheme:dark){{svg{{--ink:{DARK_INK};--faint:{DARK_FAINT}}}}}</style>"
)
MOST_TOGETHER, TOGETHER = 7, (5.0, 3.6)  # curves over each other, as many as there are looks; inches
POINTS_TO_PIXELS = 4 / 3


class Panel(NamedTuple):
    """One chart: its title, the picture as a data URI, its size in pixels, and what it shows in words."""

    title: str
    source: str
    width: int
    height: int
    alt: str


class PanelGroup(NamedTuple):
    """Charts under one title, the number of those that did not fit, and the curves over each other."""

    title: str
    panels: list[Panel]
    left_out: int
    together: Panel | None = None


def curve_panels(content: Content, budget: int) -> dict[str, list[PanelGroup]]:
    """Draw the curves of every scope, a panel per method, as long as the data URIs fit into so many characters."""
    groups: dict[str, list[PanelGroup]] = {}
    for group in content.curves:
        panels, left_out = [], 0
        for method, bands in group.methods.items():
            panel = _curve_panel(group, method, bands) if budget > 0 else None
            budget -= len(panel.source) if panel else 0
            if panel and budget > 0:
                panels.append(panel)
            else:
                left_out += 1
        comparable = len(content.trainings) == 1 and len(group.methods) > 1 and budget > 0
        together = _together(group, content.directions.get(group.curve)) if comparable else None
        groups.setdefault(group.scope, []).append(PanelGroup(curve_title(group.curve), panels, left_out, together))
    return groups


def bar_panels(table: ScoreTable) -> list[Panel]:
    """Draw the classifier's scores of one scope: with other backgrounds, the background gap, attacked or corrupted.

    Beside accuracies stands that of always giving the commonest answer.
    """
    scores = [m for m in table.metrics if m != MAJORITY]
    kinds = {
        "With other backgrounds": [m for m in scores if m in CLASSIFIER_TITLES and m != "bg_gap"],
        "How much a background of the right class helps": [m for m in scores if m == "bg_gap"],
        "Attacked and corrupted": [m for m in scores if m not in CLASSIFIER_TITLES],
    }
    panels = []
    for title, metrics in kinds.items():
        gap = metrics == ["bg_gap"]
        shown = metrics if gap else [*metrics, MAJORITY]
        chosen = {
            line.training: {metric_title(m): line.scores[m] for m in shown if m in line.scores} for line in table.lines
        }
        if metrics:
            figure = interval_bars(chosen, x_label="difference" if gap else table.what, legend=False)
            panels.append(to_panel(figure, title, _bars_in_words(chosen)))
    return panels


def training_panels(content: Content) -> list[Panel]:
    """Draw every quantity that changes over the epochs."""
    panels = []
    for quantity in content.quantities:
        figure = training_panel(content.histories, quantity, legend=False)
        last = {t: [h[quantity] for h in lines if quantity in h][-1:] for t, lines in content.histories.items()}
        words = ", ".join(f"{t} {number(values[0])}" for t, values in last.items() if values)
        title = quantity.replace("_", " ")
        panels.append(to_panel(figure, title, f"{title} by epoch; at the end: {words}"))
    return panels


def rank_panel(table: RankTable) -> Panel:
    """Draw which methods rank differently by the headline metric."""
    ranking, metric = table.rankings[table.headline], metric_title(table.headline)
    titles = {method: method_title(method) for method in ranking.mean_ranks}
    words = ", ".join(f"{titles[method]} {rank:.2f}" for method, rank in ranking.mean_ranks.items())
    note = f"mean ranks by {metric}: {words}; critical difference {ranking.critical_difference:.2f}"
    return to_panel(critical_difference(ranking, titles), f"By {metric}", note)


def to_panel(figure: Figure, title: str, alt: str) -> Panel:
    """Return a figure as an SVG in a data URI; text and grid follow the viewer's light or dark colors."""
    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sibx"}):  # text stays text; the same bytes every time
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Hundredths of a point are finer than any screen; numbers that are read stay as they are.
    svg = re.sub(r"(<text\b.*?</text>)|(\d\.\d\d)\d+", lambda found: found[1] or found[2], svg, flags=re.DOTALL)
    svg = svg.replace("'DejaVu Sans'", "system-ui").replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
    head, _, body = svg.partition(">")
    source = base64.b64encode(f"{head}>{THEME}{body}".encode()).decode()
    width, height = (round(72 * POINTS_TO_PIXELS * inches) for inches in figure.get_size_inches())
    return Panel(title, f"data:image/svg+xml;base64,{source}", width, height, alt)


def _curve_panel(group: CurveGroup, method: str, bands: Mapping[str, Band]) -> Panel:
    x_label, probable = X_LABELS.get(group.curve, "share of pixels"), all(_within(b) for b in bands.values() if b.n)
    y_label = Y_LABELS.get(group.curve, "probability" if probable else "score")  # a score of output="raw"
    figure = curve_panel(group.x, bands, x_label=x_label, y_label=y_label, legend=False)
    areas = {t: float(np.trapezoid(band.mean, group.x)) for t, band in bands.items() if band.n}
    words = ", ".join(f"{t} {number(area)}".strip() for t, area in areas.items())
    title = method_title(method)
    return to_panel(figure, title, f"{curve_title(group.curve)} curves of {title}; areas under the means: {words}")


def _together(group: CurveGroup, higher: bool | None) -> Panel:
    """Draw the methods of a single training over each other, the best first; of many the best and the best control."""
    (training,) = {training for bands in group.methods.values() for training in bands}
    found = {method: bands[training] for method, bands in group.methods.items() if bands[training].n}
    areas = {method: float(np.trapezoid(band.mean, group.x)) for method, band in found.items()}
    order = sorted(areas, key=areas.__getitem__, reverse=higher is not False)
    control = [m for m in order if is_control(m)][:1]  # in gray, which the others are compared with
    shown = [*control, *[m for m in order if m not in control][: MOST_TOGETHER - len(control)]]
    title = "All methods" if len(shown) == len(order) else f"The best {len(shown)} of {len(order)}"
    words = ", ".join(f"{method_title(m)} {number(areas[m])}" for m in order)
    x_label = X_LABELS.get(group.curve, "share of pixels")
    figure = curve_panel(group.x, {method_title(m): found[m] for m in shown}, x_label=x_label, y_label="mean")
    figure.set_size_inches(*TOGETHER)
    return to_panel(figure, title, f"{curve_title(group.curve)} curves; areas under the means: {words}")


def _within(band: Band) -> bool:
    return bool((band.mean >= 0).all() and (band.mean <= 1).all())


def _bars_in_words(intervals: Mapping[str, Mapping[str, Interval]]) -> str:
    series = (
        f"{training}: ".lstrip(": ") + ", ".join(f"{name} {interval(found)}" for name, found in chosen.items())
        for training, chosen in intervals.items()
    )
    return "; ".join(series)
