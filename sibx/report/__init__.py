"""Pictures and tables of results, and the report that holds them all."""

from sibx.report._critical_difference import critical_difference
from sibx.report.citations import BIBLIOGRAPHY, SOURCE, read_entries, to_bibtex
from sibx.report.exhibits import make_gallery
from sibx.report.figures import curve_panel, heat_table, interval_bars, training_panel
from sibx.report.gallery import GalleryItem, load_gallery, merge_galleries, save_gallery
from sibx.report.gallery_choice import class_by_class, wrong_ones
from sibx.report.maps import compare_maps, relative
from sibx.report.overlay import contours, draw_overlay, montage
from sibx.report.sheet import draw_sheet
from sibx.report.sheet_rows import SheetRow, draw_rows
from sibx.report.showing import show
from sibx.report.tables import metric_table, to_markdown
from sibx.report.training_maps import DrawMaps
from sibx.report.write import write_report

__all__ = [
    "BIBLIOGRAPHY",
    "SOURCE",
    "DrawMaps",
    "GalleryItem",
    "SheetRow",
    "class_by_class",
    "compare_maps",
    "contours",
    "critical_difference",
    "curve_panel",
    "draw_overlay",
    "draw_rows",
    "draw_sheet",
    "heat_table",
    "interval_bars",
    "load_gallery",
    "make_gallery",
    "merge_galleries",
    "metric_table",
    "montage",
    "read_entries",
    "relative",
    "save_gallery",
    "show",
    "to_bibtex",
    "to_markdown",
    "training_panel",
    "write_report",
    "wrong_ones",
]
