"""The curves of a report: deletion, insertion and others, with bands over images."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from sibx.evaluation import Band, Results, bootstrap_band
from sibx.report.claims import SCOPE, Scope

Array = npt.NDArray[np.float64]
CURVES = ("deletion", "insertion")  # first, then others
CURVE = [*SCOPE, "curve", "method", "training"]  # the points of one curve of a figure
MOST_POINTS = 201  # of a curve; adaptive ones have points of their own for every image


class CurveGroup(NamedTuple):
    """One kind of curve in one scope: method -> training -> mean curve over x."""

    scope: str
    curve: str
    x: Array
    methods: dict[str, dict[str, Band]]


def curve_groups(results: Results, names: Mapping[Scope, str]) -> Iterator[CurveGroup]:
    """Put the curves of every scope together by kind, with their bands over images."""
    kinds: dict[Scope, dict[str, Array]] = {}
    for (*of, kind, _, _), points in results.curve_cells(CURVE):
        of_scope = kinds.setdefault(Scope(*map(str, of)), {})
        of_scope[str(kind)] = _joined(of_scope.get(str(kind), np.empty(0)), points["x"].to_numpy(dtype=np.float64))
    for scope, of_scope in kinds.items():
        photos = _photographs(results, scope)
        for kind in sorted(of_scope, key=lambda c: CURVES.index(c) if c in CURVES else len(CURVES)):
            x = of_scope[kind]
            x = x if len(x) <= MOST_POINTS else np.linspace(x[0], x[-1], MOST_POINTS)
            methods: dict[str, dict[str, Band]] = {}
            for (*_, method, training), points in results.curve_cells(CURVE, **scope._asdict(), curve=kind):
                methods.setdefault(str(method), {})[str(training)] = _band(points, x, photos)
            yield CurveGroup(names[scope], kind, x, methods)


def _joined(x: Array, more: Array) -> Array:
    """The different values of both, in order; of too many the first, the last and some between them."""
    x = np.union1d(x, more)
    return x if len(x) <= MOST_POINTS else np.linspace(x[0], x[-1], MOST_POINTS + 1)


def _photographs(results: Results, scope: Scope) -> pd.Series:
    """Image -> the photograph that it shows, in one scope."""
    hits = results.hits().rows
    images = hits[(hits[SCOPE] == list(scope)).all(axis=1)].drop_duplicates("image_id")
    return images.set_index("image_id")["photo"]


def _band(points: pd.DataFrame, x: Array, photos: pd.Series) -> Band:
    curves = _over_images(points, x)
    return bootstrap_band(curves.to_numpy(), photos=pd.factorize(photos.reindex(curves.index))[0])


def _over_images(points: pd.DataFrame, x: Array) -> pd.DataFrame:
    """The curves over x, (images, S), the mean over seeds where an image has several."""
    y, own = points["y"].to_numpy(dtype=np.float64), points["x"].to_numpy(dtype=np.float64)
    starts = np.flatnonzero(np.r_[True, np.diff(own) <= 0])  # x increases within a curve
    rows = [np.interp(x, *pair) for pair in zip(np.split(own, starts[1:]), np.split(y, starts[1:]), strict=True)]
    by_image = pd.DataFrame(rows, index=points["image_id"].to_numpy()[starts])
    return by_image.groupby(level=0, sort=False, observed=True).mean()
