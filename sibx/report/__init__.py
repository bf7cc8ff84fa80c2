"""Pictures and tables of results."""

from sibx.report.overlay import contours, draw_overlay, montage
from sibx.report.tables import metric_table, to_markdown

__all__ = ["contours", "draw_overlay", "metric_table", "montage", "to_markdown"]
