"""Pictures and tables of results."""

from sibx.report.critical_difference import critical_difference
from sibx.report.overlay import contours, draw_overlay, montage
from sibx.report.tables import metric_table, to_markdown

__all__ = ["contours", "critical_difference", "draw_overlay", "metric_table", "montage", "to_markdown"]
