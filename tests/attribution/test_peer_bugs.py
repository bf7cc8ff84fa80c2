"""Numerical bugs found in other libraries, one test each: here it is right.

The numbers B1, B2, ... are those of the list of bugs that the tests are about; the docstring names the library, its
version and what it gives. Where the peer is installed (extra ``reference``) a second test shows its value.
"""

from contextlib import nullcontext
from importlib import metadata

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate

from sibx import GradCAM, Results
from sibx.attribution import GradCAMPlusPlus
from sibx.evaluation.columns import COLUMNS
from sibx.images.baselines import make_baseline
from sibx.metrics import (
    METRICS,
    Perturbations,
    attribution_localization,
    average_drop,
    confidence,
    deletion,
    insertion,
    irof,
    pointing_game,
    removal,
    road,
    sensitivity_n,
    sparseness,
    srg,
)
from sibx.models import record
from tests.references import cams


def installed(module, distribution, version):
    """The peer's module in the version that has the bug; else the test is skipped."""
    found = pytest.importorskip(module, reason=f"{distribution} (extra `reference`) is not installed")
    if metadata.version(distribution) != version:
        pytest.skip(f"{distribution} is not {version}")
    return found


class TestGradCAMPlusPlus:
    """B1, torchcam 0.5.0: the denominator is divided into a copy, so that the weights are sum g^2 relu(g)."""

    @pytest.fixture
    def case(self, model, images):
        model.double()
        model.classifier.weight.data *= 1000  # small gradients would leave nothing of the denominator's second term
        with record(model, {"f": model.features}) as outputs:
            score = model(images.double())[0, 2]
        gradients = torch.autograd.grad(score, outputs["f"])[0]
        return model, images.double()[:1], outputs["f"][0].detach().numpy(), gradients[0].numpy()

    @staticmethod
    def undivided(a, g):
        return np.maximum(sum((g[k] ** 2 * np.maximum(g[k], 0)).sum() * a[k] for k in range(len(a))), 0)

    @staticmethod
    def unit(values):
        return (values - values.min()) / (values.max() - values.min())

    def test_the_denominator_counts(self, case):
        model, image, a, g = case
        method = GradCAMPlusPlus(model, model.features)
        method.upsample, method.align = False, "half_pixel"
        ours = method.attribute(image, target=2)[0, 0].numpy()
        assert ours == pytest.approx(cams.gradcam_pp(a, g))
        assert np.abs(self.unit(ours) - self.unit(self.undivided(a, g))).max() > 0.01

    def test_peer(self, case):
        model, image, a, g = case
        methods = installed("torchcam.methods", "torchcam", "0.5.0")
        with methods.GradCAMpp(model, target_layer="features") as peer:
            (theirs,) = peer(2, model(image.clone().requires_grad_()))
        assert theirs[0].numpy() == pytest.approx(self.unit(self.undivided(a, g)), abs=1e-6)


class TestPointingGame:
    @staticmethod
    def case():
        """A 4 x 4 map whose two maxima tie, one on the object."""
        heatmaps = torch.zeros(1, 1, 4, 4)
        heatmaps[..., 0, 0] = heatmaps[..., 3, 3] = 1
        masks = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        masks[..., 0, 0] = True
        return heatmaps, masks

    def test_an_empty_mask_is_undefined(self):
        """B5, Quantus 0.6: NaN is written into an array of bools, which makes it a hit."""
        heatmaps, masks = self.case()
        assert pointing_game(heatmaps, torch.zeros_like(masks)).isnan().all()

    def test_ties_score_their_share(self):
        """B5, Quantus 0.6: a hit as soon as any of the tied maxima is one, so that a constant map always hits."""
        heatmaps, masks = self.case()
        assert pointing_game(heatmaps, masks, tolerance=0).item() == 0.5
        assert pointing_game(torch.ones_like(heatmaps), masks, tolerance=0).item() == 1 / 16

    def test_tolerance(self):
        """B5, Quantus 0.6 has none; TorchRay has one that leaves out the circle itself (distance < 15)."""
        heatmaps, masks = self.case()
        heatmaps[..., 0, 0], heatmaps[..., 3, 3], heatmaps[..., 0, 2] = 0, 0, 1
        assert [pointing_game(heatmaps, masks, tolerance=t).item() for t in (0, 1.9, 2)] == [0, 0, 1]

    def test_the_class_mean_is_over_classes_with_a_score(self):
        """TorchRay counts a class without an image as 0; Quantus has no class mean."""
        rows = pd.DataFrame(dict.fromkeys(COLUMNS, ""), index=range(4))
        rows = rows.assign(image_id=list("abcd"), photo=list("abcd"), label=[0, 0, 0, 7], value=[1.0, 1.0, 0.0, 0.0])
        broken = rows[:1].assign(image_id="e", photo="e", label=3, value=np.nan)
        (line,) = Results(pd.concat([rows, broken]), pd.DataFrame()).summary().to_dict("records")
        assert (line["mean"], line["class_mean"]) == (0.5, pytest.approx((2 / 3 + 0) / 2))
        assert (line["n"], line["undefined"]) == (4, 1)

    def test_a_broken_map_is_no_hit(self):
        """TorchRay counts a map of NaN as a hit (its issue 18)."""
        heatmaps, masks = self.case()
        assert pointing_game(heatmaps * torch.nan, masks).isnan().all()


class TestAttributionLocalization:
    """The object has 4 of 64 pixels and half of the relevance: mu = 1/2 and mu_w = 1/2 * 64/4 = 8."""

    @staticmethod
    def case(batch):
        masks = torch.zeros(batch, 1, 8, 8, dtype=torch.bool)
        masks[..., :2, :2] = True
        return torch.where(masks, 0.125, 0.5 / 60), masks

    @pytest.mark.parametrize("batch", [1, 2, 3, 4])
    def test_the_weighted_form(self, batch):
        """B6, Quantus 0.6: S_in over the size of a slice of the batch (inverted; inf for two images).

        B14, the torchxai on GitHub: the pixels of the whole batch as S_tot (four times too much for four images).
        """
        maps, masks = self.case(batch)
        assert attribution_localization(maps, masks).tolist() == pytest.approx([0.5] * batch)
        assert attribution_localization(maps, masks, weighted=True).tolist() == pytest.approx([8] * batch)

    def test_negative_relevance_inside_is_not_good(self):
        """B6, Quantus 0.6 takes absolute values by default: relevance against the class counts for it."""
        maps, masks = self.case(1)
        assert attribution_localization(maps.where(~masks, -maps), masks).item() == 0


@pytest.mark.parametrize("steps", [4, 8, 28])
def test_areas_need_no_function_that_numpy_dropped(monkeypatch, explained, steps):
    """B7, Quantus 0.6: every area under a curve calls np.trapz, which NumPy 2.4 no longer has."""
    monkeypatch.delattr(np, "trapz", raising=False)
    e = explained
    curves = deletion(lambda x: torch.zeros(len(x), 5), e.images, e.heatmaps, e.targets, steps=steps)
    assert curves.auc.tolist() == pytest.approx([0.2] * 4)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_do_not_write_into_what_they_score(name, explained):
    """B9, Quantus 0.6: Sparseness adds 1e-7 to the caller's array, in place."""
    tensors = {key: getattr(explained, key) for key in ("heatmaps", "masks", "undefined", "images", "targets")}
    before = {key: tensor.clone() for key, tensor in tensors.items()}
    METRICS[name].score(explained)
    for key, tensor in tensors.items():
        assert torch.equal(tensor, before[key]), key


def test_sparseness_of_a_flat_map_is_zero_at_any_scale():
    """B9, Quantus 0.6: the 1e-7 that is added to every value hides differences that are smaller."""
    maps = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    maps[0], maps[1, ..., 0, 0] = 1e-12, 1e-12
    assert sparseness(maps).tolist() == pytest.approx([0, 15 / 16])


class TestGradients:
    """B13, grad-cam 1.5.7."""

    def test_a_cam_leaves_the_users_gradients(self, model, images):
        """There, a CAM calls ``model.zero_grad()`` and ``backward()``: accumulated gradients are lost."""
        model(images).sum().backward()
        before = [p.grad.clone() for p in model.parameters()]
        GradCAM(model).attribute(images, target=[0, 1, 2, 3])
        assert all(torch.equal(p.grad, b) for p, b in zip(model.parameters(), before, strict=True))

    @pytest.mark.parametrize("target", [[0, 1], torch.tensor([0, 1]), [0] * 5, torch.tensor([0] * 5)])
    def test_as_many_targets_as_images(self, model, images, target):
        """There, images without a target get maps of zeros, without a word."""
        with pytest.raises(ValueError, match="`target` must hold 4 entries, one per image"):
            GradCAM(model).attribute(images, target=target)

    def test_peer(self, model, images):
        cam = installed("pytorch_grad_cam", "grad-cam", "1.5.7")
        targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
        model(images).sum().backward()
        before = [p.grad.clone() for p in model.parameters()]
        with cam.GradCAM(model=model, target_layers=[model.features]) as peer:
            maps = peer(images, targets=[targets.ClassifierOutputTarget(1)])
        assert not any(torch.equal(p.grad, b) for p, b in zip(model.parameters(), before, strict=True))
        assert maps[0].any()
        assert not maps[1:].any()


class TestPerturbation:
    @staticmethod
    def frames(score, heatmaps, steps, **options):
        """What the model is shown between the end points, for one image of random values."""
        images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
        shown = []

        def model(x):
            shown.extend(x.clone())
            return torch.zeros(len(x), 2)

        curves = score(model, images, heatmaps, torch.tensor([0]), steps=steps, **options)
        return images[0], torch.stack(shown[2:]), curves

    def test_pixels_go_with_all_their_channels(self):
        """B8, Quantus 0.6: PixelFlipping flips values of single channels, in three times as many steps."""
        heatmaps = torch.rand(1, 1, 8, 8)
        image, frames, _ = self.frames(deletion, heatmaps, 8)
        gone = frames != image
        assert torch.equal(gone, gone[:, :1].expand_as(gone))
        assert gone[:, 0].sum((1, 2)).tolist() == [8, 16, 24, 32, 40, 48, 56]

    def test_the_baseline_does_not_drift(self):
        """B8, Quantus 0.6: the baseline is computed anew from the perturbed image at every step."""
        image, frames, _ = self.frames(deletion, torch.rand(1, 1, 8, 8), 8, baseline="blur")
        blurred = make_baseline(image[None], "blur")[0]
        assert ((frames == image) | (frames == blurred)).all()

    def test_the_clean_image_is_a_point_of_the_curve(self):
        """B8, Quantus 0.6 begins after the first step, and its area grows with their number."""
        for steps in (4, 16):
            *_, curves = self.frames(deletion, torch.rand(1, 1, 8, 8), steps)
            assert curves.fractions.tolist() == pytest.approx(np.linspace(0, 1, steps + 1).tolist())
            assert curves.auc.item() == pytest.approx(0.5)

    @pytest.mark.parametrize("score", [deletion, insertion])
    def test_ties_do_not_change_how_much_goes(self, score):
        """B10, grad-cam 1.5.7: a threshold on a map of 60 % zeros takes all of them at once.

        Of the 64 pixels 25 are above zero; 10 equal shares are asked for.
        """
        heatmaps = torch.zeros(1, 1, 8, 8)
        heatmaps.view(-1)[torch.randperm(64, generator=torch.Generator().manual_seed(1))[:25]] = 1
        image, frames, _ = self.frames(score, heatmaps, 10)
        original = (frames == image).all(1)
        changed = original.sum((1, 2)) if score is insertion else (~original).sum((1, 2))
        assert changed.tolist() == [round(6.4 * k) for k in range(1, 10)]

    def test_ties_go_at_random(self):
        """Torchcam 0.5.0 deletes tied pixels from top to bottom (rank correlation 1.000), Quantus and RISE in part."""
        image, frames, _ = self.frames(deletion, torch.ones(1, 1, 8, 8), 64)
        step = (frames == image).all(1).sum(0).flatten()
        assert abs(np.corrcoef(step, np.arange(64))[0, 1]) < 0.2


class TestConfidence:
    """An image of ones; the probability of class 0 is .2, and .1 when half of the image is masked."""

    IMAGES, TARGETS = torch.ones(1, 3, 4, 4), torch.tensor([0])
    HEATMAPS = torch.zeros(1, 1, 4, 4)
    HEATMAPS[..., :2] = 1

    class Sure(torch.nn.Module):
        def forward(self, images):
            p = torch.where(images.mean((1, 2, 3)) > 0.9, 0.2, 0.1)
            return torch.stack([p, 1 - p], 1).log()

    def test_a_drop_is_a_share_of_the_confidence(self):
        """B12, grad-cam 1.5.7: DropInConfidence is not divided by the confidence, and gives .1."""
        found = confidence(self.Sure(), self.IMAGES, self.HEATMAPS, self.TARGETS)
        assert average_drop(found).item() == pytest.approx(0.5)
        peer = installed("pytorch_grad_cam.metrics.cam_mult_image", "grad-cam", "1.5.7")
        theirs = peer.DropInConfidence()(
            self.IMAGES, self.HEATMAPS[:, 0].numpy(), [lambda y: y.softmax(0)[0]], self.Sure()
        )
        assert theirs.item() == pytest.approx(0.1)

    def test_probabilities_not_logits(self):
        """B16, torchcam 0.5.0: on logits, the default, a logit below 0 that falls further is a negative drop."""
        found = confidence(self.Sure(), self.IMAGES, self.HEATMAPS, self.TARGETS)
        assert average_drop(found).item() == pytest.approx(0.5)
        peer = installed("torchcam.metrics", "torchcam", "0.5.0")

        maps, sure = [self.HEATMAPS[:, 0]], self.Sure()

        class Extractor:
            model, fuse_cams, _hooks_off = sure, staticmethod(lambda cams: cams[0]), nullcontext

            def __call__(self, *_):
                return maps

        theirs = peer.ClassificationMetric(Extractor())
        theirs.update(self.IMAGES, 0)
        assert theirs.summary()["avg_drop"] == pytest.approx((np.log(0.2) - np.log(0.1)) / np.log(0.2))
        assert theirs.summary()["avg_drop"] < 0


class TestFaithfulness:
    """Four images of three channels, and a classifier of their mean."""

    class Mean(torch.nn.Module):
        def forward(self, images):
            mean = images.mean((1, 2, 3))
            return torch.stack([mean, -mean], 1) * 8

    @staticmethod
    def case(channels=3):
        images = torch.rand(4, channels, 16, 16, generator=torch.Generator().manual_seed(0)) + 0.5
        return images, images.mean(1, keepdim=True), torch.tensor([0, 1, 0, 1])

    @staticmethod
    def arrays(images, maps, targets):
        """What Quantus takes."""
        arrays = {"x_batch": images.numpy(), "y_batch": targets.numpy(), "a_batch": maps.numpy()}
        return {**arrays, "device": "cpu", "channel_first": True}

    @pytest.mark.parametrize("batch_size", [1, 3, 64])
    def test_every_image_counts(self, batch_size):
        """B3, Quantus 0.6: SensitivityN forgets all internal batches but the first, and correlates over its images.

        Here every image has a score of its own, over random sets of its pixels: 1 for what they are worth to the class.
        """
        images, maps, targets = self.case()
        signs = torch.tensor([1.0, -1, 1, -1]).view(4, 1, 1, 1)
        signs[3] = 1  # against its class
        found = sensitivity_n(self.Mean(), images, maps * signs, targets, batch_size=batch_size).score
        assert found.tolist() == pytest.approx([1, 1, 1, -1], abs=1e-6)

    def test_every_image_counts_peer(self):
        peer = installed("quantus", "quantus", "0.6.0")
        images, maps, targets = self.case(channels=1)
        broken = maps.clone()
        broken[2:] *= -1
        found = []
        for a in (maps, broken):
            score = peer.SensitivityN(
                features_in_step=16, normalise=False, disable_warnings=True, return_aggregate=False
            )
            found.append(score(model=self.Mean().eval(), batch_size=2, **self.arrays(images, a, targets)))
        assert np.array_equal(found[0], found[1])

    @pytest.mark.parametrize("segments", [1, 4, 9])
    def test_images_of_three_channels_and_any_number_of_segments(self, segments):
        """B4, Quantus 0.6: IROF raises on three channels; a model that never changes scores 1 or less than that.

        There the area is in units of segments, of one fewer than there are, and missing segments of an image are filled
        up with zeros as if the probability had fallen to nothing: what a score is depends on the rest of the batch.
        """
        images, maps, targets = self.case()
        labels = torch.arange(16).view(1, 1, 1, 16).expand(4, 1, 16, 16) % segments
        labels = torch.where(torch.tensor([True, False, False, False]).view(4, 1, 1, 1), 0, labels)
        assert irof(lambda x: torch.zeros(len(x), 2), images, maps, targets, labels).tolist() == pytest.approx([0] * 4)
        found = irof(self.Mean(), images, maps, targets, labels)
        alone = [
            irof(self.Mean(), images[i : i + 1], maps[i : i + 1], targets[i : i + 1], labels[i : i + 1])
            for i in range(4)
        ]
        assert torch.allclose(torch.cat(alone), found)
        assert found[0] > 0 > found[1]

    def test_images_of_three_channels_peer(self):
        peer = installed("quantus", "quantus", "0.6.0")
        images, maps, targets = self.case()
        score = peer.IROF(disable_warnings=True, return_aggregate=False)
        with pytest.raises(AssertionError):
            score(model=self.Mean().eval(), **self.arrays(images, maps, targets))

    def test_areas_need_no_function_that_scipy_dropped(self, monkeypatch, explained):
        """B15, the torchxai on GitHub: the area between MoRF and LeRF calls scipy.integrate.simps, which is gone."""
        monkeypatch.delattr(integrate, "simps", raising=False)
        runs = Perturbations(explained.model, explained.images, explained.heatmaps, explained.targets, steps=4)
        between = runs.lerf().probabilities - runs.deletion().probabilities
        expected = (between[:, :-1] + between[:, 1:]).sum(1) / 8
        assert torch.allclose(srg(runs.lerf(), runs.deletion()), expected)


class TestRoad:
    """An image of 8 x 8 with the values 1 to 64, and a map of which 60 % are zero."""

    IMAGES = (torch.arange(64.0) + 1).view(1, 1, 8, 8)
    HEATMAPS = torch.zeros(1, 1, 8, 8)
    HEATMAPS.view(-1)[torch.randperm(64, generator=torch.Generator().manual_seed(1))[:25]] = torch.linspace(1, 2, 25)

    @classmethod
    def shown(cls, share, **options):
        """Images with the most and with the least relevant pixels imputed, and which pixels these are."""
        seen = []

        def model(x):
            seen.append(x)
            return torch.zeros(len(x), 2)

        removal(model, cls.IMAGES, cls.HEATMAPS, torch.tensor([0]), shares=(share,), **options)
        return seen[0], (seen[0] != cls.IMAGES).squeeze(1)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_color_images(self, channels):
        """B2, Quantus 0.6: an IndexError on every image of three channels."""
        images, heatmaps = self.IMAGES.repeat(2, channels, 1, 1), self.HEATMAPS.repeat(2, 1, 1, 1)
        case = (lambda x: x.mean((2, 3)) @ torch.ones(channels, 2), images, heatmaps, torch.tensor([0, 1]))
        assert road(removal(*case)).isfinite().all()
        peer = installed("quantus", "quantus", "0.6.0")
        score = peer.ROAD(percentages=[50], disable_warnings=True)
        with pytest.raises(IndexError) if channels == 3 else nullcontext():
            score(self.Sure().eval(), images.numpy(), np.zeros(2, int), heatmaps.repeat(1, channels, 1, 1).numpy())

    class Sure(torch.nn.Module):
        """Class 0 where the image is bright, else class 1."""

        def forward(self, images):
            bright = (images.mean((1, 2, 3)) > 10).float()
            return torch.stack([bright, 1 - bright], 1)

    def test_every_image_counts(self):
        """B3, Quantus 0.6: only the first internal batch counts, here four images of eight."""
        images = torch.cat([self.IMAGES + 1000] * 4 + [self.IMAGES - 1000] * 4)
        heatmaps, targets = self.HEATMAPS.repeat(8, 1, 1, 1), torch.zeros(8, dtype=torch.int64)
        for size in (1, 4, 64):
            found = removal(self.Sure(), images, heatmaps, targets, shares=(0.5,), batch_size=size)
            assert (found.morf > 0.5).flatten().tolist() == [True] * 4 + [False] * 4
        peer = installed("quantus", "quantus", "0.6.0").ROAD(percentages=[50], disable_warnings=True)
        batch = (self.Sure().eval(), images.numpy(), targets.numpy(), heatmaps.numpy())
        assert peer(*batch, batch_size=8) == {50: 0.5}
        assert peer(*batch, batch_size=4) == {50: 1.0}

    def test_ties_do_not_change_how_much_goes(self):
        """B10, grad-cam 1.5.7: a threshold on a map of 60 % zeros keeps no pixel at all where 10 % are asked for."""
        for share in (0.1, 0.5, 0.9):
            assert self.shown(share)[1].sum((1, 2)).tolist() == [round(64 * share)] * 2
        peer = installed("pytorch_grad_cam.metrics.perturbation_confidence", "grad-cam", "1.5.7")
        kept = peer.RemoveMostRelevantFirst(10, lambda _, mask: mask)(None, self.HEATMAPS[0, 0])
        assert not kept.any()

    def test_the_most_relevant_pixels_go(self):
        """B11, grad-cam 1.5.7: with its threshold by Otsu, 'auto', the most relevant pixels stay and the others go."""
        relevant = self.HEATMAPS[:, 0] > 0
        morf, lerf = self.shown(25 / 64)[1]
        assert torch.equal(morf, relevant[0])
        assert not (lerf & relevant).any()
        peer = installed("pytorch_grad_cam.metrics.perturbation_confidence", "grad-cam", "1.5.7")
        kept = peer.RemoveMostRelevantFirst("auto", lambda _, mask: mask)(None, relevant[0].float())
        assert torch.equal(kept > 0, relevant[0])

    def test_noise_is_seeded(self):
        """B13, grad-cam 1.5.7: two calls give two scores."""
        first, again, other = (self.shown(0.5, seed=seed)[0] for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
