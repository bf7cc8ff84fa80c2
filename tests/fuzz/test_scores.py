"""Scores of the worst heatmaps and masks: those of the slow forms where they are defined, NaN elsewhere."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sibx import metrics
from sibx.images import IMAGENET
from sibx.metrics import METRICS, Explained, Perturbations
from sibx.metrics.localization import LOCALIZATION
from sibx.models import TinyCNN
from tests.conftest import explain_with
from tests.helpers.fuzzing import cases
from tests.helpers.strategies import heatmaps, masks, seeds
from tests.references import TWINS
from tests.references import curves as reference

SCORES = [getattr(metrics, name) for name in LOCALIZATION]
APPROX = {"rel": 1e-9, "nan_ok": True}


def says_something(row):
    """Whether a map (H, W) has a score: finite, and not zero everywhere."""
    return bool(np.isfinite(row).all() and (row > 0).any())


def in_range(row):
    """The map times a power of two, which changes no score: slow forms know no numbers near the limits of doubles."""
    return np.ldexp(row, -np.frexp(row.max())[1])


def to_numpy(batch):
    """(B, 1, H, W) of any type -> B arrays (H, W)."""
    return [row.double().numpy() if row.is_floating_point() else row.numpy() for row in batch[:, 0]]


@cases(150)
@given(st.data())
def test_localization(data):
    maps = data.draw(heatmaps())
    objects = data.draw(masks(maps.shape))
    tolerance, k = data.draw(st.sampled_from([0, 1, 1.5, 9])), data.draw(st.integers(1, 30))
    chosen = {"pointing_game": {"tolerance": tolerance}, "topk_intersection": {"k": k}}

    def slow(score, a, s):
        if not (says_something(a) and s.any() and not s.all()):
            return math.nan
        if score is metrics.iou:  # its slow form takes a set, which ties leave open
            rank = TWINS[metrics.relevance_rank](a, s)
            return rank / (2 - rank)
        return TWINS[score](in_range(a), s, **chosen.get(score.__name__, {}))

    for score in SCORES:
        found = score(maps, objects, **chosen.get(score.__name__, {}))
        expected = [slow(score, a, s) for a, s in zip(to_numpy(maps), to_numpy(objects), strict=True)]
        assert found.tolist() == pytest.approx(expected, **APPROX), score.__name__


@cases(80)
@given(st.data())
def test_undefined_pixels(data):
    """What lies there changes nothing: as if the line of pixels were shorter."""
    maps = data.draw(heatmaps(rows=1, sizes=((1, 9), (1, 4))))
    objects, undefined = (data.draw(masks(maps.shape)) for _ in range(2))
    kept = [tensor[~undefined].view(1, 1, 1, -1) for tensor in (maps, objects)]
    for score in SCORES:
        options = {"k": 2} if score is metrics.topk_intersection else {}
        if score is not metrics.pointing_game:  # whose distances would be shorter too
            found = score(maps, objects, undefined=undefined, **options)
            expected = score(*kept, **options) if kept[0].numel() else torch.full((1,), math.nan)
            assert found.tolist() == pytest.approx(expected.tolist(), **APPROX), score.__name__


@cases(120)
@given(maps=heatmaps(), sign=st.sampled_from([1, -1]), tolerance=st.sampled_from([0, 0.1, 0.5]))
def test_complexity(maps, sign, tolerance):
    for score, options in (
        (metrics.sparseness, ()),
        (metrics.entropy, ()),
        (metrics.effective_complexity, (tolerance,)),
    ):
        expected = [
            TWINS[score](in_range(a).flatten().tolist(), *options) if says_something(a) else math.nan
            for a in to_numpy(maps)
        ]
        assert score(sign * maps, *options).tolist() == pytest.approx(expected, abs=1e-12, **APPROX), score.__name__


@cases(100)
@given(st.data())
def test_spearman(data):
    maps = data.draw(heatmaps())
    others = data.draw(heatmaps(sizes=(tuple(maps.shape[2:]),)))

    def slow(a, b):
        if not (says_something(a) and np.isfinite(b).all()) or (a == a.flat[0]).all():
            return math.nan
        return 0.0 if (b == b.flat[0]).all() else TWINS[metrics.spearman](a.flatten().tolist(), b.flatten().tolist())

    expected = [slow(a, b) for a, b in zip(to_numpy(maps), to_numpy(others), strict=True)]
    assert metrics.spearman(maps, others).tolist() == pytest.approx(expected, abs=1e-12, **APPROX)


@cases(60)
@given(maps=heatmaps(rows=2), steps=st.integers(1, 6), seed=seeds)
def test_curves(maps, steps, seed):
    size, pixels = maps.shape[2:], maps.shape[2:].numel()
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 1, *size, generator=generator, dtype=torch.float64)
    weights = torch.randn(pixels, 3, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 2])

    def model(x):
        return x.flatten(1) @ weights

    steps = min(steps, pixels)
    runs = Perturbations(model, images, maps, targets, steps=steps)
    found = {"deletion": metrics.deletion(model, images, maps, targets, steps=steps).auc}
    found |= {name: getattr(metrics, name)(runs.deletion()) for name in ("aopc", "normalized_deletion")}
    if not any(2 * pixels * k / steps % 2 == 1 for k in range(steps)):  # half pixels are rounded the other way
        found |= {"lerf": runs.lerf().auc}
    places = torch.randperm(pixels, generator=torch.Generator().manual_seed(0)).argsort().tolist()
    for row, (image, a, target) in enumerate(zip(images.numpy(), to_numpy(maps), targets.tolist(), strict=True)):

        def p(frame, target=target):
            return model(torch.from_numpy(frame)[None]).softmax(1)[0, target].item()

        for name, values in found.items():
            expected = math.nan
            if says_something(a):
                order = reference.ordered(a, places)
                expected = TWINS[getattr(metrics, name)](p, image, np.zeros_like(image), order, steps)
            assert values[row].item() == pytest.approx(expected, **APPROX), name


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return TinyCNN(num_classes=3, width=4).eval()


@cases(8)
@given(st.data())
def test_the_whole_table(network, data):
    """Every metric gives a number within its bounds or NaN, and none for a map that is not finite."""
    maps = data.draw(heatmaps(rows=2, sizes=((16, 16), (12, 19)), dtypes=(torch.float32,)))
    shape = (2, 3, *maps.shape[2:])
    images = torch.randn(shape, generator=torch.Generator().manual_seed(data.draw(seeds)))
    explained = Explained(
        heatmaps=maps,
        masks=data.draw(masks(maps.shape)),
        undefined=data.draw(masks(maps.shape, kinds=("any", "empty", "one pixel"))),
        images=images,
        targets=torch.tensor([0, 2]),
        model=network,
        normalization=IMAGENET,
        baseline=torch.zeros_like,
        explain=explain_with(network),
        explain_with=explain_with,
    )
    rows = zip(to_numpy(maps), to_numpy(explained.undefined), strict=True)
    broken = [not says_something(a) and not says_something(a[~u]) for a, u in rows]  # NaN may lie where nothing counts
    for name, spec in METRICS.items():
        values = spec.score(explained)
        assert values.shape == (2,), name
        assert values.dtype == torch.float64, name
        low, high = spec.bounds
        assert ((values >= low) & (values <= high) | values.isnan()).all(), (name, values)
        assert all(value.isnan() for value, bad in zip(values, broken, strict=True) if bad), (name, values)
