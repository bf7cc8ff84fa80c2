"""ROAD: against the slow form, its properties, undefined maps, what it costs, grad-cam's where that is right."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx.images.normalization import IMAGENET
from sibx.metrics import METRICS, removal, road, road_lerf, road_morf
from sibx.metrics.faithfulness._road import SHARES
from tests.attribution.test_peer_bugs import installed
from tests.metrics.curves.test_curves import places
from tests.references import TWINS, curves

SIDE, CLASSES = 8, 3
WEIGHTS = torch.randn(3 * SIDE * SIDE, CLASSES, generator=torch.Generator().manual_seed(7), dtype=torch.float64) / 4
NAMES = ("road", "road_morf", "road_lerf")


def model(images):
    """A linear classifier, on which every pixel counts."""
    return images.flatten(1).double() @ WEIGHTS


def random_case(seed, levels=None, batch=3):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    heatmaps = torch.rand(batch, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    if levels:
        heatmaps = (heatmaps * levels).ceil()
    return images, heatmaps, torch.arange(batch) % CLASSES


def scores(*case, **options):
    r = removal(*case, **options)
    return torch.stack([road(r), road_morf(r), road_lerf(r)], 1)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([None, 1, 3]), normalized=st.booleans())
def test_removal_is_the_definition(seed, levels, normalized):
    images, heatmaps, targets = random_case(seed, levels)
    normalization = IMAGENET if normalized else None
    shares = (0.1, 0.45, 0.9)
    found = removal(model, images, heatmaps, targets, shares=shares, normalization=normalization, seed=seed)
    noise = 0.01 * torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)).double().numpy()
    if normalized:
        noise /= np.array(IMAGENET.std)[:, None, None]
    for i, (image, heatmap) in enumerate(zip(images.numpy(), heatmaps[:, 0].numpy(), strict=True)):

        def probability(x, target=targets[i]):
            return model(torch.from_numpy(x)[None]).softmax(1)[0, target].item()

        order = curves.ordered(heatmap, places(seed, SIDE * SIDE))
        morf, lerf = (TWINS[removal](probability, image, o, shares, noise) for o in (order, order[::-1]))
        assert found.shares.tolist() == [6 / 64, 29 / 64, 58 / 64]
        assert found.morf[i].tolist() == pytest.approx(morf, abs=1e-6)
        assert found.lerf[i].tolist() == pytest.approx(lerf, abs=1e-6)
        assert road(found)[i].item() == pytest.approx(TWINS[road](morf, lerf), abs=1e-6)
        assert road_morf(found)[i].item() == pytest.approx(TWINS[road_morf](morf), abs=1e-6)
        assert road_lerf(found)[i].item() == pytest.approx(TWINS[road_lerf](lerf), abs=1e-6)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-20, 1e20))
def test_properties(seed, scale):
    images, heatmaps, targets = random_case(seed, 20)
    values = scores(model, images, heatmaps, targets)
    assert values.dtype == torch.float64
    assert ((values >= -1) & (values <= 1)).all()
    assert (values[:, 1:] >= 0).all()
    assert torch.equal(scores(model, images, heatmaps * scale, targets), values)
    assert torch.allclose(scores(model, images.flip(0), heatmaps.flip(0), targets.flip(0)), values.flip(0))
    for size in (5, 20):
        assert torch.allclose(scores(model, images, heatmaps, targets, batch_size=size), values)


def test_a_map_and_its_reverse_score_opposite_values():
    images, heatmaps, targets = random_case(0)
    values = scores(model, images, heatmaps, targets)
    reverse = scores(model, images, 1 - heatmaps, targets)
    assert torch.allclose(reverse, values * torch.tensor([-1, 1, 1]) @ torch.eye(3).double()[[0, 2, 1]])


def test_a_map_of_the_evidence_scores_above_its_reverse():
    """The class is the brightness of the left half; with half of the image gone, all of it is left or nothing."""

    def bright(images):
        return torch.stack([images[..., : SIDE // 2].mean((1, 2, 3)) * 10, torch.zeros(len(images))], 1).double()

    images = torch.zeros(2, 3, SIDE, SIDE)
    images[..., : SIDE // 2] = 1
    heatmaps = torch.ones(2, 1, SIDE, SIDE)
    heatmaps[0, ..., : SIDE // 2], heatmaps[1, ..., SIDE // 2 :] = 2, 2
    r = removal(bright, images, heatmaps, torch.tensor([0, 0]), shares=(0.5,), noise=0)
    sure = 1 / (1 + np.exp(-10))
    assert r.morf.flatten().tolist() == pytest.approx([0.5, sure])
    assert r.lerf.flatten().tolist() == pytest.approx([sure, 0.5])
    assert road(r).tolist() == pytest.approx([sure - 0.5, 0.5 - sure])


def test_random_and_flat_maps_are_at_chance():
    """0 on average over maps, or over the order of the ties of a flat one."""
    images, _, targets = random_case(0, batch=1)
    heatmaps = random_case(1, batch=100)[1]
    case = (images.expand(100, -1, -1, -1), heatmaps, targets.expand(100))
    found = road(removal(model, *case))
    assert abs(found.mean()) < 3 * found.std() / 10
    flat = torch.stack([road(removal(model, images, heatmaps[:1] * 0 + 1, targets, seed=s))[0] for s in range(40)])
    assert abs(flat.mean()) < 3 * flat.std() / 40**0.5


def test_undefined_maps_are_nan():
    images, heatmaps, targets = random_case(0, batch=5)
    heatmaps[0] = 0
    heatmaps[1, ..., 0, 0], heatmaps[2, ..., 3, 3] = torch.nan, torch.inf
    images[3, 0, 0, 0] = torch.nan
    assert scores(model, images, heatmaps, targets).isnan().all(1).tolist() == [True] * 4 + [False]


def test_noise_is_on_imputed_pixels_only_and_seeded():
    images, heatmaps, targets = random_case(0, batch=2)
    seen = []

    def watching(x):
        seen.append(x)
        return model(x)

    options = [{"noise": 0}, {}, {}, {"seed": 1}, {"noise": 0.5}]
    for option in options:
        removal(watching, images, heatmaps, targets, shares=(0.25,), **option)
    clean, noisy, again, other, loud = seen
    assert torch.equal(noisy, again)
    assert not torch.equal(noisy, other)
    known = (clean == images.repeat_interleave(2, 0)).all(1, keepdim=True)
    assert known.sum((1, 2, 3)).tolist() == [48] * 4
    added = noisy - clean
    assert not added.masked_fill(~known, 0).any()
    assert added.masked_select(~known).std().item() == pytest.approx(0.01, rel=0.2)
    assert torch.allclose(loud - clean, added * 50)


def test_gradients_are_not_kept():
    images, heatmaps, targets = random_case(0)
    values = scores(model, images.requires_grad_(), heatmaps.requires_grad_(), targets)
    assert not values.requires_grad
    assert not values.is_inference()


def test_the_metrics_of_a_method_share_their_passes(explained):
    """18 images per heatmap in full passes."""
    passes = []

    def counting(images):
        passes.append(len(images))
        return explained.model(images)

    shared = replace(explained, model=counting, batch_size=50)
    values = {name: METRICS[name].score(shared) for name in NAMES}
    assert passes == [50, 22]
    assert torch.equal(values["road"], values["road_lerf"] - values["road_morf"])
    for name in ("road_morf", "road_lerf"):
        x, y = shared.curves[name]
        assert x.tolist() == pytest.approx(SHARES, abs=1e-3)
        assert torch.allclose(y.mean(1), values[name])


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # in the peer
def test_oracle(explained):
    """grad-cam 1.5.7, whose combined score is half of the difference, without its noise and on maps without ties."""
    peer = installed("pytorch_grad_cam.metrics.road", "grad-cam", "1.5.7")
    softmax = pytest.importorskip("pytorch_grad_cam.utils.model_targets").ClassifierOutputSoftmaxTarget
    perturbed = pytest.importorskip("pytorch_grad_cam.metrics.perturbation_confidence")
    images, targets = explained.images[:2], explained.targets[:2]
    heatmaps = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    ours = removal(explained.model, images, heatmaps, targets, noise=0)
    for order, found in (("Most", ours.morf), ("Least", ours.lerf)):
        for share, column in zip(SHARES, found.T, strict=True):
            remove = getattr(perturbed, f"Remove{order}RelevantFirst")(100 * (1 - share), peer.NoisyLinearImputer(0))
            metric = perturbed.PerturbationConfidenceMetric(remove)
            callables = [softmax(int(t)) for t in targets]
            theirs = metric(images, heatmaps[:, 0].numpy(), callables, explained.model, return_diff=False)
            assert column.tolist() == pytest.approx(theirs.tolist(), abs=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(3, SIDE, SIDE)}, r"`images` must be a floating-point tensor of shape \(B, C, H, W\)"),
        ({"heatmaps": torch.zeros(3, 3, SIDE, SIDE)}, "`heatmaps` must be a floating-point tensor of shape"),
        ({"heatmaps": torch.zeros(2, 1, SIDE, SIDE)}, "`heatmaps` must have 3 rows, one per image"),
        ({"targets": torch.zeros(2, dtype=torch.int64)}, "`targets` must have 3 rows, one per image"),
        ({"targets": torch.full((3,), CLASSES)}, r"`targets` must lie in 0..2, the model's classes"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, but got 0"),
        ({"noise": -1}, "`noise` must be at least 0, but got -1"),
        ({"shares": ()}, r"`shares` must hold values in \(0, 1\), but got \(\)"),
        ({"shares": (0.5, 1)}, r"`shares` must hold values in \(0, 1\), but got \(0.5, 1\)"),
        ({"model": lambda x: x}, "`model` must return logits of shape"),
    ],
)
def test_errors(change, message):
    images, heatmaps, targets = random_case(0)
    case = {"model": model, "images": images, "heatmaps": heatmaps, "targets": targets}
    with pytest.raises(ValueError, match=message):
        removal(**{**case, **change})
