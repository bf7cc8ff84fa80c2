"""Pictures and tables of results."""

from sibx.report.critical_difference import critical_difference
from sibx.report.figures import curve_panel, heat_table, interval_bars, training_panel
from sibx.report.maps import compare_maps, relative
from sibx.report.overlay import contours, draw_overlay, montage
from sibx.report.tables import metric_table, to_markdown

__all__ = [
    "compare_maps",
    "contours",
    "critical_difference",
    "curve_panel",
    "draw_overlay",
    "heat_table",
    "interval_bars",
    "metric_table",
    "montage",
    "relative",
    "to_markdown",
    "training_panel",
]
