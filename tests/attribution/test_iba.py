"""IBA: against its slow form, bits that add up, statistics and their file, and how tables fit it."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from sibx import METHODS, evaluate, explain
from sibx.attribution import IBA, LayerStatistics, explain_many
from sibx.datasets import InMemoryDataset, Part
from sibx.models import TinyCNN
from tests.helpers.methods import quick_table
from tests.references.iba import iba

IMAGES = torch.rand(10, 3, 20, 24, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    head = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.SiLU(), nn.BatchNorm2d(6))
    return nn.Sequential(
        head, nn.Conv2d(6, 8, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)
    ).eval()


def test_is_the_papers(net):
    found = IBA(net, "0", steps=4, copies=3, upsample=False, beta=5, seed=7).fit(IMAGES)
    maps = found.attribute(IMAGES[:2], target=[1, 3])
    features = net[0](IMAGES).detach()
    assert torch.allclose(found.statistics.mean, features.mean(0), atol=1e-6)
    deviation = features.std(0)
    assert torch.allclose(found.statistics.deviation, deviation, atol=1e-6)
    generator = torch.Generator().manual_seed(7)
    noises = torch.stack([torch.randn(3, *features.shape[1:], generator=generator) for _ in range(4)])
    for row, target in enumerate((1, 3)):
        expected = iba(features[row], net[1:], target, features.mean(0), deviation.clamp(min=0.01), noises, beta=5)
        assert torch.allclose(maps[row, 0], expected, rtol=1e-3)


@pytest.mark.parametrize("align", ["receptive_field", "half_pixel"])
def test_bits_add_up_and_cost(net, align):
    """Drawn at the image's size the map holds the layer's bits; a higher price lets less pass, for every image."""
    totals = []
    for beta in (1, 10, 100):
        drawn, coarse = (
            IBA(net, "0", steps=3, copies=2, beta=beta, align=align, upsample=up).fit(IMAGES).attribute(IMAGES, 0)
            for up in (True, False)
        )
        assert (drawn.shape, coarse.shape) == ((10, 1, 20, 24), (10, 1, 9, 11))
        assert torch.allclose(drawn.sum((1, 2, 3)), coarse.sum((1, 2, 3)), rtol=1e-4)
        totals.append(coarse.sum((1, 2, 3)))
    assert (totals[0] > totals[1]).all()
    assert (totals[1] > totals[2]).all()


def test_dead_units_pass_nothing():
    """A unit that is zero for every image has no bits, and does not divide by its deviation."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    net[0].bias.data[:3] = -100
    found = IBA(net, "1", steps=2, copies=1).fit(IMAGES)
    assert found.statistics.active.amax((1, 2))[:3].tolist() == [0, 0, 0]
    assert found.attribute(IMAGES, 1).sum() > 0
    assert found.statistics.active[3].amax() > 0
    net[0].bias.data[3] = -100
    assert IBA(net, "1", steps=1).fit(IMAGES).attribute(IMAGES[:1], 1).sum() == 0


def test_tokens_and_one_value_per_row():
    torch.manual_seed(0)
    vit = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5).eval()
    images = torch.rand(3, 3, 32, 32)
    maps = (
        IBA(vit, "encoder.layers.encoder_layer_0", steps=2, copies=2, upsample=False).fit(images).attribute(images, 2)
    )
    assert maps.shape == (3, 1, 4, 4)
    assert (maps > 0).all()
    cnn = TinyCNN(1, width=4).eval()
    binary = {t: IBA(cnn, steps=2, copies=2).fit(images).attribute(images, t) for t in (None, 0, 1)}
    assert not torch.equal(binary[0], binary[1])  # classes of one logit
    assert not torch.equal(binary[None], binary[1])  # the logit itself, which is no log-probability


def test_statistics_of_every_form_and_their_file(net, tmp_path):
    whole = IBA(net, "0").fit(IMAGES).statistics
    forms = (IMAGES.split(3), [(b, 0) for b in IMAGES.split(4)], [{"x": b, "y": 1} for b in IMAGES.split(5)])
    for data in forms:
        other = IBA(net, "0").fit(data).statistics
        assert other.seen == 10
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole[:3], other[:3], strict=True))
    whole.save(tmp_path / "deep" / "layer.pt")
    read = IBA(net, "0", steps=1, copies=1).load(tmp_path / "deep" / "layer.pt")
    assert all(torch.equal(a, b) for a, b in zip(whole[:3], read.statistics[:3], strict=True))
    assert read.attribute(IMAGES[:1], 0).isfinite().all()
    torch.save({"mean": 1}, tmp_path / "other.pt")
    (tmp_path / "broken.pt").write_bytes(b"no")
    for name, rule in (("none", "be a file"), ("other", "be a file of the format"), ("broken", "be a file that can")):
        with pytest.raises(ValueError, match=f"`path` must {rule}"):
            LayerStatistics.load(tmp_path / f"{name}.pt")


def test_data_of_which_one_image_is_broken(net):
    """It is named, wherever it lies; statistics from elsewhere are looked at, too."""
    for value in (torch.nan, torch.inf):
        images = IMAGES.clone()
        images[7, 0, 3, 3] = value
        for data in (images, images.split(3)):
            with pytest.raises(ValueError, match="which the layer is finite, but got 'image 7,"):
                IBA(net, "0").fit(data)
    known = IBA(net, "0").fit(IMAGES).statistics
    with pytest.raises(ValueError, match="`data` must hold a finite mean"):
        IBA(net, "0").fit(known._replace(mean=known.mean / 0))


def test_data_that_are_empty_or_of_another_form(net):
    whole = IBA(net, "0").fit(IMAGES).statistics
    with_empty = IBA(net, "0").fit([IMAGES[:0], IMAGES, IMAGES[:0]]).statistics
    assert all(torch.equal(a, b) for a, b in zip(whole[:3], with_empty[:3], strict=True))
    for data in (IMAGES[:0], [IMAGES[:0]]):
        with pytest.raises(ValueError, match="`data` must hold at least 2 images, but got 0"):
            IBA(net, "0").fit(data)
    for data in (None, 5, torch.tensor(1.0)):
        with pytest.raises(ValueError, match="`data` must be images, batches"):
            IBA(net, "0").fit(data)


def test_errors(net):
    for name in ("beta", "rate", "sigma"):
        with pytest.raises(ValueError, match=f"`{name}` must be finite"):
            IBA(net, "0", **{name: float("inf")})
    with pytest.raises(ValueError, match=r"`IBA` must know .* call IBA\(model, layer\).fit\(images\) first"):
        explain(net, IMAGES, "iba", layer="0")
    with pytest.raises(
        ValueError, match=r"`inputs` must have features of the shape .* \(6, 9, 11\), but got \(6, 9, 9\)"
    ):
        IBA(net, "0").fit(IMAGES).attribute(IMAGES[..., :20], 0)
    for data in (IMAGES[:1], []):
        with pytest.raises(ValueError, match="`data` must hold at least 2 images"):
            IBA(net, "0").fit(data)
    with pytest.raises(ValueError, match="`data` must hold images of one size"):
        IBA(net, "0").fit([IMAGES, IMAGES[..., :20]])
    with pytest.raises(ValueError, match="`data` must be a floating-point tensor"):
        IBA(net, "0").fit([()])
    with pytest.raises(ValueError, match="`layer` must be one layer"):
        IBA(net, ["0", "1"])


class TestTables:
    def test_an_evaluation_fits_it_to_its_data(self, shapes):
        """The same maps as by hand; for a copy of the model with other weights it is fitted again."""
        torch.manual_seed(0)
        net, few = TinyCNN(8, width=4).eval(), InMemoryDataset.load(shapes, range(3))
        images = torch.stack([s.image for s in few.samples])
        quick = replace(METHODS["iba"], build=lambda model, layer: IBA(model, layer, steps=2, copies=1))
        metrics = ["foreground_focus", "random_logit"]
        by_hand = quick.fitted_to(lambda: images)
        rows, expected = (evaluate(net, few, methods={"iba": m}, metrics=metrics).rows for m in (quick, by_hand))
        assert rows["value"].notna().all()
        assert rows["value"].tolist() == expected["value"].tolist()
        assert METHODS["sib"].fitted_to(lambda: images) is METHODS["sib"]

    def test_where_nothing_can_be_fitted_it_is_left_out(self, net, shapes):
        one = Part(shapes, range(1))
        with pytest.raises(ValueError, match=r"`methods` must apply .*iba \(it has to see at least 2 images"):
            evaluate(TinyCNN(8, width=4).eval(), one, methods=["iba", "sib"], metrics=["iou"])
        message = r"left out: .*iba \(it has to see at least 2 images of the data first"
        with quick_table(), pytest.warns(UserWarning, match=message):
            assert "iba" not in explain_many(net, IMAGES[:1], 0, "all", "0")
