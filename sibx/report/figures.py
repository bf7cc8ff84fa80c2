"""Charts of results, each a matplotlib Figure of its own (not registered with pyplot) in one style."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sibx._checks import require
from sibx.evaluation import Band, Interval
from sibx.report.style import INK, looks, styled

Array = npt.NDArray[np.float64]
PANEL = (3.4, 2.5)  # inches; small enough to be read on a phone, and many stand beside each other on a desk
BAND_OPACITY = 0.18
LEGEND_CHARACTERS = 42  # that fit into the width of a panel
HEAT_COLORS = "Blues"
WHITE_FROM = 0.8  # of the heat table's range: darker cells have white text


def curve_panel(
    x: Array, bands: Mapping[str, Band], *, x_label: str = "", y_label: str = "", legend: bool = True
) -> Figure:
    """Draw mean curves with their intervals as bands.

    Args:
        x: (S,).
        bands: name of the series -> its Band over x; the first is the one that others are compared with. A series
            without any defined curve is left out.
        x_label: what x is.
        y_label: what the curves are.
        legend: whether to name the series, where there are several.

    Raises:
        ValueError: no series, or bands that have not S points.
    """
    require(bool(bands), "bands", "hold at least one series", bands)
    with styled():
        figure = Figure(figsize=PANEL, layout="constrained")
        axes = figure.subplots()
        for (name, band), look in zip(bands.items(), looks(bands).values(), strict=True):
            require(band.mean.shape == x.shape, f"bands[{name!r}]", f"have the {len(x)} points of x", band.mean.shape)
            if band.n:
                axes.fill_between(x, band.low, band.high, color=look.color, alpha=BAND_OPACITY, linewidth=0)
                axes.plot(x, band.mean, color=look.color, linestyle=look.dash, label=name)
        # Curves of probabilities stand on 0; scores of any other kind may lie below it.
        lowest = min((float(band.low.min()) for band in bands.values() if band.n), default=0.0)
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(x.min(), x.max()), ylim=(0, None) if lowest >= 0 else None)
        if legend:
            _add_legend(figure, bands)
    return figure


def interval_bars(intervals: Mapping[str, Mapping[str, Interval]], *, x_label: str = "", legend: bool = True) -> Figure:
    """Draw bars with their intervals: a group per condition, in it a bar per series.

    Args:
        intervals: name of the series -> condition -> Interval. What is undefined or missing has no bar.
        x_label: what the bars measure.
        legend: whether to name the series, where there are several.

    Raises:
        ValueError: no series, or none with a condition.
    """
    conditions = list(dict.fromkeys(c for series in intervals.values() for c in series))
    require(bool(conditions), "intervals", "hold at least one series with a condition", intervals)
    thickness = 0.8 / len(intervals)
    height = 0.7 + len(conditions) * (0.16 + 0.12 * len(intervals))
    with styled():
        figure = Figure(figsize=(PANEL[0] * 1.35, height), layout="constrained")
        axes = figure.subplots()
        for number, ((name, series), look) in enumerate(zip(intervals.items(), looks(intervals).values(), strict=True)):
            places = [p for p, c in enumerate(conditions) if c in series and series[c].n]
            found = [series[conditions[p]] for p in places]
            means = np.array([i.mean for i in found])
            reach = np.abs(np.array([(i.mean - i.low, i.high - i.mean) for i in found]).reshape(-1, 2)).T
            axes.barh(
                np.array(places) + (number + 0.5) * thickness - 0.4,
                means,
                thickness * 0.9,
                xerr=reach,
                label=name,
                color=look.color,
                hatch=look.hatch,
                edgecolor="white",
                linewidth=0.4,
                error_kw={"elinewidth": 0.8, "capsize": 1.5, "ecolor": INK},
            )
        axes.set(xlabel=x_label, yticks=range(len(conditions)), yticklabels=conditions)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        if legend:
            _add_legend(figure, intervals)
    return figure


def training_panel(
    histories: Mapping[str, Sequence[Mapping[str, float]]], quantity: str, *, legend: bool = True
) -> Figure:
    """Draw one quantity over the epochs of several trainings.

    Args:
        histories: training -> one line per epoch, each with ``epoch`` and the quantity, as of FineTuneResult. Epochs
            without it are skipped.
        quantity: which one.
        legend: whether to name the trainings, where there are several.

    Raises:
        ValueError: no training has it.
    """
    found = {name: [h for h in lines if quantity in h] for name, lines in histories.items()}
    found = {name: lines for name, lines in found.items() if lines}
    require(bool(found), "quantity", "be in at least one of the histories", quantity)
    with styled():
        figure = Figure(figsize=PANEL, layout="constrained")
        axes = figure.subplots()
        shared = looks(histories)
        for name, lines in found.items():
            x, y = [h["epoch"] for h in lines], [h[quantity] for h in lines]
            axes.plot(x, y, color=shared[name].color, linestyle=shared[name].dash, marker="o", markersize=3, label=name)
        axes.set(xlabel="epoch", ylabel=quantity.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # of one epoch else its fractions
        _zoom_out(axes)
        if legend:
            _add_legend(figure, found)
    return figure


def _zoom_out(axes: Axes) -> None:
    """Show at least a hundredth of the values' size from bottom to top, so that equal values look equal."""
    low, high = axes.get_ylim()
    middle = (low + high) / 2
    if high - low < abs(middle) / 100:
        axes.set_ylim(middle - abs(middle) / 200, middle + abs(middle) / 200)


def heat_table(values: pd.DataFrame, higher_is_better: Mapping[str, bool]) -> Figure:
    """Draw a table whose cells are darker where a column's value is better.

    Args:
        values: a line per method, a column per metric; NaN means undefined.
        higher_is_better: metric -> its direction; a column without one stays without color.

    Raises:
        ValueError: a table without a cell.
    """
    require(values.size > 0, "values", "have at least one cell", values.shape)
    places = quality(values, higher_is_better).to_numpy(dtype=np.float64)
    rows, columns = values.shape
    with styled():
        figure = Figure(figsize=(1.9 + 0.95 * columns, 0.9 + 0.24 * rows), layout="constrained")
        axes = figure.subplots()
        axes.imshow(places, cmap=colormaps[HEAT_COLORS], vmin=0, vmax=1.15, aspect="auto")
        for (row, column), value in np.ndenumerate(values.to_numpy(dtype=np.float64)):
            text = "undefined" if np.isnan(value) else f"{value:.3f}"
            color = "white" if places[row, column] > WHITE_FROM else INK
            axes.text(column, row, text, ha="center", va="center", color=color)
        axes.set(xticks=range(columns), xticklabels=[_wrapped(c) for c in values.columns])
        axes.set(yticks=range(rows), yticklabels=list(values.index))
        axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
        axes.spines[:].set_visible(False)
        axes.grid(False)
    return figure


def quality(values: pd.DataFrame, higher_is_better: Mapping[str, bool]) -> pd.DataFrame:
    """Return where every value lies between the worst (0) and the best (1) of its column.

    NaN where it is undefined, where the column has no direction, and where all values of the column are equal.
    """
    columns = {}
    for metric, column in values.items():
        low, high, higher = column.min(), column.max(), higher_is_better.get(str(metric))
        place = (column - low) / (high - low) if high > low and higher is not None else column * np.nan
        columns[metric] = place if higher else 1 - place
    return pd.DataFrame(columns)


def _wrapped(name: object) -> str:
    return str(name).replace("_", "\n")


def _add_legend(figure: Figure, names: Collection[str]) -> None:
    if len(names) > 1:
        columns = max(1, min(len(names), LEGEND_CHARACTERS // (6 + max(map(len, names)))))
        figure.legend(loc="outside upper center", ncols=columns, frameon=False, fontsize=8, handlelength=2.6)
