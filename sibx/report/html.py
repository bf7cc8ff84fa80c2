"""The report as one HTML file that needs nothing else: pictures, style and script are inside, nothing is fetched."""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from math import isnan
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex

from sibx.report.content import Content, ScoreTable
from sibx.report.figures import quality
from sibx.report.gallery import GalleryItem
from sibx.report.gallery_page import GalleryPage, lay_out
from sibx.report.names import (
    badge,
    extent,
    extent_of_means,
    mean_and_bounds,
    means_note,
    method_title,
    metric_title,
    number,
    rates_title,
)
from sibx.report.panels import bar_panels, curve_panels, rank_panel, training_panels
from sibx.report.rankings import RANKS_NOTE
from sibx.report.style import DIVERGING, SEQUENTIAL, Look, looks
from sibx.report.verdicts import explain, in_words

PAGE_BYTES = 15_000_000  # at most
CURVES_SHARE = 0.3  # of a page that curves may take
RESERVE = 20_000  # bytes for the controls around the gallery
STOPS = 9  # of a color bar
WHITE_FROM = 0.68  # of the heat table's range: stronger cells have white text
ARROWS = {True: "\N{NO-BREAK SPACE}↑", False: "\N{NO-BREAK SPACE}↓", None: ""}
SECTIONS = (
    ("summary", "Summary"),
    ("scores", "Scores"),
    ("heat", "At a glance"),
    ("ranks", "Ranks"),
    ("curves", "Curves"),
    ("gallery", "Gallery"),
    ("classifier", "Reliance"),
    ("training", "Training"),
    ("cards", "Data, models and sources"),
    ("config", "Configuration"),
)


class HeatCell(NamedTuple):
    """A cell of the heat table: its text, and its place between the worst (0) and the best (1), None without one."""

    text: str
    place: float | None


def to_html(content: Content, gallery: Sequence[GalleryItem] = ()) -> str:
    """Return the page, at most 15 MB of it: curves and pictures that would make it larger are left out, and counted.

    Every name is escaped, whatever characters it has, and the page's own policy forbids other scripts and the network.
    """
    script, style = (_read(f"template.{kind}") for kind in ("js", "css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values: dict[str, Any] = {
        "content": content,
        "panels": curve_panels(content, int(CURVES_SHARE * PAGE_BYTES)),
        "rank_panels": [rank_panel(table) for table in content.ranks],
        "bars": [bar_panels(table) for table in content.classifier],
        "training_panels": training_panels(content),
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
        "style": Markup(style + _color_bars()),
        "info": json.dumps(content.results.info, indent=2, sort_keys=True, default=str),
    }
    template = _environment(content).get_template("template.html.j2")
    nothing = GalleryPage([], [], [], False, 0)
    bare = template.render(values, gallery=nothing, sections=_sections(values, nothing))
    page = lay_out(content, gallery, PAGE_BYTES - RESERVE - len(bare.encode()))
    return template.render(values, gallery=page, sections=_sections(values, page))


def _environment(content: Content) -> Environment:
    environment = Environment(
        loader=PackageLoader("sibx.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "arrow": lambda metric: ARROWS[content.directions.get(metric)],
        "badge_text": badge,
        "dashes": _dashes,
        "explanation": explain(content.claims),
        "extent": extent(content.seeds),
        "extent_of_means": extent_of_means(content.seeds),
        "heat": lambda table: _heat(content, table),
        "in_words": in_words,
        "means_note": means_note(content.seeds),
        "looks": looks,
        "mean_and_bounds": mean_and_bounds,
        "method_title": method_title,
        "ranks_note": RANKS_NOTE,
        "metric_title": metric_title,
        "rates_title": rates_title,
        "white_from": WHITE_FROM,
    }
    return environment


def _sections(values: dict[str, Any], gallery: GalleryPage) -> list[tuple[str, str]]:
    """The sections that have data."""
    content: Content = values["content"]
    there = {
        "summary": content.verdicts,
        "scores": content.scores,
        "heat": content.scores,
        "ranks": content.ranks,
        "curves": values["panels"],
        "gallery": gallery.cards,
        "classifier": content.classifier,
        "training": values["training_panels"],
        "cards": True,
        "config": content.results.info,
    }
    return [section for section in SECTIONS if there[section[0]]]


def _heat(content: Content, table: ScoreTable) -> dict[tuple[str, str, str], HeatCell]:
    """The cells of a heat table by method, metric and training."""
    everything = pd.MultiIndex.from_product([table.trainings, table.methods])
    means = table.means().reindex(everything)
    places = quality(means, content.directions)
    cells = {}
    for metric in table.metrics:
        for (training, method), mean, place in zip(everything, means[metric], places[metric], strict=True):
            cells[method, metric, training] = HeatCell(number(mean, 2), None if isnan(place) else place)
    return cells


def _dashes(look: Look) -> str:
    """A line style of matplotlib in SVG's terms, at a width of 2."""
    return "none" if look.dash == "solid" else " ".join(str(2 * length) for length in look.dash[1])


def _color_bars() -> str:
    """The colors of the maps' scales, as style."""
    rules = []
    for name, colormap in (("sequential", SEQUENTIAL), ("diverging", DIVERGING)):
        stops = ", ".join(to_hex(colormaps[colormap](i / (STOPS - 1))) for i in range(STOPS))
        rules.append(f".bar > .{name} {{ background: linear-gradient(to right, {stops}); }}")
    return "\n".join(rules)


def _read(name: str) -> str:
    return files("sibx.report").joinpath(name).read_text(encoding="utf-8")
