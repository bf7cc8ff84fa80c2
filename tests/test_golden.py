"""Drift: maps of all methods, scores of all metrics and losses are what they were, whatever versions are installed."""

from math import nan

from sibx.attribution import METHODS
from sibx.metrics import METRICS
from tests.helpers.golden import FILE, Line, computed, moved, read, write


def test_nothing_moved():
    before = read(FILE.read_text())
    names = {(line.kind, line.name) for line in before}
    assert {("map", name) for name in METHODS} | {("score", name) for name in METRICS} <= names
    assert moved(computed(), before) == []


def test_what_moves_is_named():
    large, small, gone, new = (Line("score", name, "mean") for name in ("iou", "road", "lerf", "srg"))
    before = {large: 1.0, small: 0.001, gone: 0.5}
    assert moved({large: 1.00009, small: 0.0010009, gone: 0.5}, before) == []
    assert moved({large: 1.0002, small: 0.0010009, gone: nan, new: 0.1}, before) == [
        "score iou mean: 1.0 -> 1.0002",
        "score lerf mean: 0.5 -> nan",
        "score srg mean: None -> 0.1",
    ]
    assert read(write(before)) == before
