"""Undefined pixels (trimap boundary, void) are neither object nor background in any term that uses masks."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from sibx import GuidanceConfig, GuidanceLoss, SIBConfig, SIBLoss, TrainConfig, fine_tune
from sibx.datasets import InMemoryDataset, OtherMasks, SyntheticDataset, collate
from sibx.models import TinyCNN
from sibx.models.alignment import HalfPixel
from sibx.objectives import CKA, GUIDANCE, HSIC, Contrast, Fraction, Given, GradNorm, Shuffled, Variance
from sibx.objectives.swap import BackgroundSwap
from sibx.studies.lessons import lesson, precision, shuffled_order
from sibx.train import TRAININGS
from sibx.train.losses import build_loss
from sibx.train.order import epoch_plans, load
from tests.helpers.objectives import every_term
from tests.helpers.several import several
from tests.references import sib as reference

PENALTIES = ("energy", "l1", "rrr")  # those at the image, where R belongs to a pixel


@pytest.fixture
def undefined(batch):
    """A border of three pixels around the object, and a corner far away."""
    masks = batch[2]
    masks[:3, :, 8:12] = False  # objects of two heights
    ring = (F.max_pool2d(masks.double(), 7, 1, 3) > 0) & ~masks
    ring[2:, :, 27:, 27:] = True
    return ring


def loss_of(method):
    return GuidanceLoss(GuidanceConfig(method, 1.0))


def terms_of(config, net, batch, undefined):
    return SIBLoss(config)(net, *batch, undefined=undefined)


class TestFormulas:
    @pytest.mark.parametrize("layers", ["input", "features"])
    def test_background(self, layers, batch, net, undefined):
        images, _, masks = batch
        config = SIBConfig({layers: 1.0}, Given(), None, Fraction(), cotangent="logit", align="half_pixel")
        for background in (Fraction(), Variance(), Contrast()):
            terms = terms_of(replace(config, background=background), net, batch, undefined)
            r = terms.vjp
            regions = list(zip(*reference.regions(masks, undefined, r.shape[2]), strict=True))
            if isinstance(background, Variance):
                expected = [reference.background_variance(row, n) for row, (_, n) in zip(r, regions, strict=True)]
            else:
                s = r.abs().sum(1) if layers == "input" else (r * net.features(images)).sum(1).abs()
                expected = [reference.background_fraction(row, *region) for row, region in zip(s, regions, strict=True)]
                if isinstance(background, Contrast):
                    expected = reference.background_contrast(s, *zip(*regions, strict=True))
            assert torch.isclose(terms.background, sum(expected) / len(expected))
            assert not torch.isclose(terms.background, terms_of(config, net, batch, None).background)

    def test_foreground_and_swap(self, batch, net, undefined):
        images, labels, masks = batch
        config = SIBConfig("auto", Given(), HSIC(), None, swap=0.5, cotangent="logit", align="half_pixel")
        terms = terms_of(config, net, batch, undefined)
        inside, outside = reference.regions(masks, undefined, 8)
        rows = [(t * inside[:, None]).flatten(1) for t in (terms.vjp, F.avg_pool2d(images, 4))]
        a, b = (t / t.norm(dim=1, keepdim=True) for t in rows)
        assert torch.isclose(terms.foreground, reference.hsic(a, b))
        mixed = reference.swapped_features(net.features(images), outside)
        assert torch.isclose(terms.background_swap, F.cross_entropy(net.classifier(mixed.mean((2, 3))), labels))


class TestContract:
    @pytest.fixture
    def pair(self, batch, undefined):
        """Two linear networks with the same logits of every image; R differs only where it is undefined."""
        images = batch[0]
        images[undefined.expand_as(images)] = 1.0  # what one pixel gains, another one loses
        net = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 5)).double()
        other = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 5)).double()
        other.load_state_dict(net.state_dict())
        everywhere = undefined.all(0, keepdim=True).expand(1, 3, -1, -1).flatten().nonzero().flatten()
        change = torch.randn(5, len(everywhere), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        other[1].weight.data[:, everywhere] += change - change.mean(1, keepdim=True)
        return net, other

    def same(self, loss, pair, batch, undefined):
        """Whether both networks have the same terms, with these undefined pixels."""
        one, two = (loss(net, *batch, undefined=undefined) for net in pair)
        assert torch.allclose(one.logits, two.logits)
        names = {"total", "foreground", "background", "guidance"} & set(one._fields)
        return all(torch.isclose(getattr(one, name), getattr(two, name), atol=0) for name in names)

    @pytest.mark.parametrize("background", [Variance(), Fraction(), Contrast()])
    @pytest.mark.parametrize("cotangent", ["probability", "logit"])
    def test_r_in_undefined_pixels_changes_no_term(self, background, cotangent, pair, batch, undefined):
        loss = SIBLoss(SIBConfig({"input": 1.0}, Given(), CKA(), background, cotangent=cotangent))
        assert self.same(loss, pair, batch, undefined)
        assert not self.same(loss, pair, batch, None)

    @pytest.mark.parametrize("method", PENALTIES)
    def test_nor_a_guidance_term(self, method, pair, batch, undefined):
        loss = GuidanceLoss(GuidanceConfig(method, 1.0))
        assert self.same(loss, pair, batch, undefined)
        assert not self.same(loss, pair, batch, None)

    def test_without_undefined_pixels_every_bit_is_as_before(self, batch, net):
        losses = [SIBLoss(every_term(layers={"input": 1.0, "features": 1.0})), SIBLoss(SIBConfig.recommended())]
        losses += [GuidanceLoss(GuidanceConfig(name, 1.0)) for name, spec in GUIDANCE.items() if spec.needs_masks]
        for loss in losses:
            totals, weight = [], net.float().features[0].weight
            for undefined in (None, batch[2] & False):
                torch.manual_seed(0)
                total = loss(net, batch[0].float(), *batch[1:], undefined=undefined).total
                totals.append((total, torch.autograd.grad(total, weight)[0]))
            assert all(torch.equal(a, b) for a, b in zip(*totals, strict=True))

    def test_what_a_mask_claims_is_object(self, batch, net, undefined):
        """Where a network may look, and nobody knows whether it should, mask and undefined pixels overlap."""
        loss = SIBLoss(every_term())
        one, two = (loss(net, *batch, undefined=u) for u in (undefined | batch[2], undefined))
        assert all(torch.equal(a, b) for a, b in zip(one[:5], two[:5], strict=True))

    def test_images_without_a_mask_take_no_part(self, batch, net, undefined):
        """Whatever is undefined there; nor do they lend background."""
        images, labels, masks = batch
        masks[3:], known = False, undefined.clone()
        known[3:] = False
        loss = SIBLoss(every_term())
        one, two = (loss(net, images, labels, masks, undefined=u) for u in (undefined, known))
        assert all(torch.equal(a, b) for a, b in zip(one[:5], two[:5], strict=True))

    def test_what_rounding_leaves_of_no_background_is_not_lent(self):
        class Rounded(HalfPixel):
            def pool(self, maps, grid_size):
                return super().pool(maps, grid_size) * (1 - 1e-7)

        masks = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
        masks[..., :4], whole = True, (torch.arange(3) == 1).view(3, 1, 1, 1) & ~masks
        swap = BackgroundSwap(masks, {"layer": nn.Identity()}, Rounded(), whole)
        features = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 2, 2)
        mixed = swap._mix(features)
        assert torch.allclose(mixed[2, 0], torch.tensor([2.0, 0.0]))  # not of the one before, which has none
        assert torch.allclose(mixed[1], features[1])

    @pytest.mark.parametrize("whole", [False, True], ids=["all else is undefined", "all is object"])
    def test_nor_does_it_train(self, whole, batch):
        """As of pictures on which only the object was drawn; ``balance`` would give the noise a full pull."""
        images, labels, masks = batch[0].float(), *batch[1:]
        config = SIBConfig("auto", Given(), None, Fraction(), cotangent="log_probability", balance=GradNorm())
        regions = (masks | True, None) if whole else (masks, ~masks)
        loss, net = SIBLoss(config), TinyCNN(5, width=8)
        loss(net, images, labels, regions[0], undefined=regions[1])  # measures
        assert loss.gradient_norms(net, images, labels, regions[0], undefined=regions[1])["background"] == 0
        regions[0][0, ..., :3, :3] = False  # a pixel is enough
        assert loss.gradient_norms(net, images, labels, regions[0])["background"] > 0

    @pytest.mark.parametrize("loss", [SIBLoss(every_term()), *(loss_of(name) for name in GUIDANCE)])
    def test_tensors_of_inference_mode(self, loss, batch, undefined, net):
        """Read by a loop that predicts as well; autograd does not accept them."""
        with torch.inference_mode():
            made = [t.clone() for t in (*batch, undefined)]
        totals = []
        for *arguments, known in ([*batch, undefined], made):
            torch.manual_seed(0)
            totals.append(loss(net, *arguments, undefined=known).total)
        assert torch.equal(*totals)
        totals[1].backward()

    def test_shuffled_masks_take_them_along(self, batch, net, undefined):
        images, labels, masks = batch
        masks = masks & (torch.arange(32) < torch.arange(12, 24, 2).view(6, 1, 1, 1))
        shuffled = SIBLoss(replace(every_term(), masks=Shuffled(Given())))
        one = shuffled(net, images, labels, masks, undefined=undefined)
        two = SIBLoss(every_term())(net, images, labels, masks.roll(1, 0), undefined=undefined.roll(1, 0))
        assert all(torch.equal(a, b) for a, b in zip(one[:5], two[:5], strict=True))


class TestSeveralLabels:
    @pytest.fixture
    def batch(self):
        """Six images with several labels, and a border of three pixels around every object."""
        found = collate(several().samples)
        return replace(found, undefined=(F.max_pool2d(found.masks.float(), 7, 1, 3) > 0) & ~found.masks)

    @pytest.mark.parametrize("cotangent", ["log_probability", "probability"])
    def test_every_row_has_its_own(self, cotangent, batch):
        """The background term asks of each class with its own mask, or of all with the union of masks."""
        net = TinyCNN(4, width=8).eval()
        config = SIBConfig({"input": 1.0}, Given(), None, Fraction(), cotangent=cotangent)
        terms = SIBLoss(config, output="sigmoid")(
            net, batch.images, batch.labels, batch.masks, undefined=batch.undefined
        )
        owners = (batch.labels == 1).nonzero()[:, 0]
        masks, undefined = batch.masks, batch.undefined
        if cotangent == "probability":
            masks, undefined = (torch.stack([m[owners == i].any(0) for i in range(6)]) for m in (masks, undefined))
            undefined = undefined & ~masks  # the object of one class lies in the border of another one
        assert torch.equal(terms.soft_mask.bool()[terms.soft_mask.flatten(1).any(1)], masks[masks.flatten(1).any(1)])
        s = terms.vjp.abs().sum(1, keepdim=True)[terms.soft_mask.flatten(1).any(1)]
        masks, undefined = masks[masks.flatten(1).any(1)], undefined[masks.flatten(1).any(1)]
        expected = (s * (~masks & ~undefined)).flatten(1).sum(1) / (s * ~undefined).flatten(1).sum(1)
        torch.testing.assert_close(terms.background, expected.mean())

    @pytest.mark.parametrize("argument", ["masks", "undefined"])
    def test_another_number_or_no_tensors(self, argument, batch):
        rule = r"must be a bool tensor of shape \(9, 1, 32, 32\), one mask per image and class present, but got a"
        for wrong in (batch.masks[:6], batch.masks.numpy(), batch.masks.tolist()):
            regions = {"masks": batch.masks, "undefined": batch.undefined, argument: wrong}
            with pytest.raises(ValueError, match=f"`{argument}` {rule}"):
                SIBLoss(every_term(), output="sigmoid")(TinyCNN(4), batch.images, batch.labels, **regions)


class TestTraining:
    @pytest.fixture(scope="class")
    @staticmethod
    def data():
        """Images whose object has an undefined upper half, in the picture too: red there, green below."""
        shapes = InMemoryDataset.load(SyntheticDataset("train", 32, size=16))
        rows = []
        for s in shapes.samples:
            undefined = s.mask & (torch.arange(32).unsqueeze(1) < s.mask[0].any(1).nonzero().median())
            lower = s.mask & ~undefined
            image = shapes.normalization(torch.cat([undefined, lower, s.mask & False]).float())
            rows.append(s._replace(image=image, mask=lower, undefined=undefined))
        return InMemoryDataset(shapes, rows)

    @pytest.mark.parametrize("augmentation", ["flip_crop", v2.RandomRotation(90)], ids=["named", "transform"])
    def test_they_move_with_the_picture_and_reach_the_loss(self, augmentation, data):
        objective = every_term(layers={"input": 1.0, "features": 1.0})
        net, config = TinyCNN(8, width=8), TrainConfig(batch_size=16, augmentation=augmentation, objective=objective)
        ((batch,),) = load(data, next(epoch_plans(config, len(data))), config)
        red, green, _ = (data.normalization.inverse(batch.images) > 0.5).split(1, 1)
        assert (red ^ batch.undefined).float().mean() < 0.02  # crops are drawn smoothly, masks are not
        assert (green ^ batch.masks).float().mean() < 0.02
        found = build_loss(net, objective, data)(net, batch, 1.0)
        arguments = (net, batch.images, batch.labels, batch.masks)
        assert torch.equal(found["total"], SIBLoss(objective)(*arguments, undefined=batch.undefined).total)
        assert not torch.equal(found["total"], SIBLoss(objective)(*arguments).total)

    def test_an_objective_of_the_caller_asks_for_them_by_name(self, data):
        config, net, batch = every_term(), TinyCNN(8, width=8), collate(data.samples)
        loss = SIBLoss(config)

        def only_by_name(model, images, labels, masks, *, undefined):
            return loss(model, images, labels, masks, undefined=undefined)

        expected = build_loss(net, config, data)(net, batch, 1.0)["total"]

        def does_not(model, images, labels, masks, **named):
            return loss(model, images, labels, masks, **named)

        asks = {"function": only_by_name, "module": loss, "part": partial(loss.forward, ramp=1.0)}
        for name, objective in asks.items():
            assert torch.equal(build_loss(net, objective, data)(net, batch, 1.0)["total"], expected), name
        without = loss(net, batch.images, batch.labels, batch.masks).total
        assert torch.equal(build_loss(net, does_not, data)(net, batch, 1.0)["total"], without)
        assert not torch.equal(without, expected)

    def test_logged_gradients_are_those_of_the_loss(self, data):
        objective, net, batch = every_term(), TinyCNN(8, width=8, norm="group"), collate(data.samples)
        config = TrainConfig(batch_size=16, epochs=1, augmentation="none", objective=objective, log_gradient_norms=True)
        (line,) = fine_tune(net, data, config=config, progress=False).history
        arguments = (net, batch.images, batch.labels, batch.masks)
        found = SIBLoss(objective).gradient_norms(*arguments, undefined=batch.undefined)["background"]
        assert line["norm_background"] == pytest.approx(found, rel=1e-4)

    @pytest.mark.parametrize("name", ["sib", "energy"])
    def test_a_control_gets_them_with_the_masks(self, name, data):
        learned, _ = lesson(TRAININGS[f"{name}-shuffled"].at(), data, None, 0)
        order = shuffled_order(data.labels, 0).tolist()
        for i, j in enumerate(order):
            assert torch.equal(learned[i].mask, data[j].mask)
            assert torch.equal(learned[i].undefined, data[j].undefined)
            assert torch.equal(learned[i].image, data[i].image)

    def test_they_are_no_mistake_of_own_masks(self, data):
        """The share of a mask's pixels that lie on objects is one of the pixels that are known."""
        batch = collate(data.samples)
        masked = OtherMasks(data, batch.masks | batch.undefined)
        assert precision(masked, data) == 1
        assert precision(masked, OtherMasks(data, batch.masks)) < 1

    def test_other_masks_with_their_own(self, data):
        batch = collate(data.samples)
        changed = OtherMasks(data, batch.masks, batch.undefined)
        assert torch.equal(changed[2].undefined, data[2].undefined)
        assert torch.equal(changed.origin_of(2)["undefined"], data[2].undefined)
        assert not OtherMasks(data, batch.masks)[2].undefined.any()
        with pytest.raises(ValueError, match=r"`undefined` must hold 16 masks, .* but got 3"):
            OtherMasks(data, batch.masks, batch.undefined[:3])
