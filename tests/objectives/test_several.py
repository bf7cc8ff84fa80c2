"""S-IB and guidance with several labels per image: every class present with its own mask, labels by their sigmoids."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sibx import GuidanceConfig, GuidanceLoss, SIBConfig, SIBLoss, TrainConfig, build_model, fine_tune, vjp
from sibx.attribution import TopShare
from sibx.datasets import InMemoryDataset, collate
from sibx.models import TinyCNN
from sibx.models.alignment import find_alignment
from sibx.objectives import (
    GUIDANCE,
    Frozen,
    Online,
    SufficientShare,
    class_evidence,
    evidence_masks,
    self_masks,
)
from sibx.objectives.companions import hide_least_salient, shuffle_background
from sibx.objectives.guidance_terms import energy_loss
from sibx.objectives.own_masks.tail import Tail
from sibx.train import accuracy
from tests.helpers.objectives import every_term
from tests.helpers.several import corners, several

GIVEN = every_term()
NO_SWAP = replace(GIVEN, swap=0.0)


@pytest.fixture
def batch():
    return collate(several().samples)


@pytest.fixture
def labeler():
    torch.manual_seed(0)
    return TinyCNN(4, width=8).eval()


def loss_of(config, model, batch, **options):
    return SIBLoss(config, output="sigmoid", **options)(model, batch.images, batch.labels, batch.masks)


def known_loss(logits, labels):
    """Mean binary cross-entropy over what is known, one by one."""
    values = [
        F.binary_cross_entropy_with_logits(z, y)
        for z, y in zip(logits.flatten(), labels.flatten(), strict=True)
        if not y.isnan()
    ]
    return torch.stack(values).mean()


class TestSIB:
    def test_every_label_is_learned_once(self, labeler, batch):
        """Also of an image without any label; an image with three classes does not count three times."""
        terms = loss_of(GIVEN, labeler, batch)
        torch.testing.assert_close(terms.cross_entropy, known_loss(labeler(batch.images), batch.labels).detach())
        torch.testing.assert_close(terms.logits, labeler(batch.images).detach())

    def test_every_class_has_its_own_row(self, labeler, batch):
        """R, mask and background term are those of one call per image and class."""
        terms = loss_of(replace(NO_SWAP, layers={"input": 1.0}, foreground=None), labeler, batch)
        rows, classes = (batch.labels == 1).nonzero(as_tuple=True)
        fractions, maps = [], []
        for row, label, mask in zip(rows, classes, batch.masks, strict=True):
            found = vjp(
                labeler, batch.images[row][None], cotangent="log_probability", target=label[None], output="sigmoid"
            )
            strength = found.map.abs()
            fractions.append((strength * ~mask).sum() / strength.sum())
            maps.append(found.map[0])
        torch.testing.assert_close(terms.background, torch.stack(fractions).mean())
        there = [0, 1, 2, 4, 5, 6, 7, 8, 9]  # the row of the image without a class is the fourth
        torch.testing.assert_close(terms.vjp[there], torch.stack(maps), rtol=1e-3, atol=1e-6)
        assert torch.equal(terms.soft_mask[there].bool(), batch.masks)
        assert not terms.soft_mask[3].any()

    def test_one_class_each_is_the_single_label_case(self, labeler, batch):
        """With one class per image every term is that of the loss of one label, whose logits they are, too."""
        images, classes = batch.images[:4], torch.tensor([1, 3, 0, 2])
        masks, config = corners()[classes].unsqueeze(1), replace(NO_SWAP, cotangent="centered_logit")
        one_each = SIBLoss(config, output="sigmoid")(labeler, images, F.one_hot(classes, 4).float(), masks)
        single = SIBLoss(config)(labeler, images, classes, masks)
        for name in ("foreground", "background", "soft_mask", "vjp", "positive_share"):
            torch.testing.assert_close(getattr(one_each, name), getattr(single, name))

    def test_all_classes_at_once_see_all_objects(self, labeler, batch):
        """v = sigma asks of no class: one R per image, and the union of its masks."""
        terms = loss_of(replace(NO_SWAP, layers={"input": 1.0}, cotangent="probability"), labeler, batch)
        union = torch.stack([corners()[label == 1].any(0) for label in batch.labels])
        assert torch.equal(terms.soft_mask[:, 0].bool(), union)
        torch.testing.assert_close(terms.vjp, vjp(labeler, batch.images, output="sigmoid").map)

    def test_what_swapped_features_are_learned_as(self, labeler, batch):
        """Of the other classes of the image nothing is known once its background is gone."""
        asked = []

        def criterion(logits, labels):
            asked.append(labels)  # once more for logits of zero: how far the labels are fitted
            return known_loss(logits, labels)

        loss_of(GIVEN, labeler, batch, criterion=criterion)
        swapped, clean, blank = sorted(asked, key=len, reverse=True)
        assert blank is clean
        torch.testing.assert_close(clean, batch.labels, equal_nan=True)
        assert swapped.shape == (9, 4)
        assert ((swapped == 1).sum(1) == 1).all()
        assert swapped[0].tolist()[:2] + swapped[0].tolist()[3:] == [1, 0, 0]
        assert swapped[0, 2].isnan()

    def test_gradients_reach_the_network(self, labeler, batch):
        loss_of(GIVEN, labeler, batch).total.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in labeler.parameters())
        assert set(
            SIBLoss(GIVEN, output="sigmoid").gradient_norms(labeler, batch.images, batch.labels, batch.masks)
        ) == {*("cross_entropy", "foreground", "background", "background_swap")}

    def test_online_masks_of_classes(self, labeler, batch):
        config = replace(NO_SWAP, masks=Online(TopShare(0.2), detach=True))
        terms = SIBLoss(config, output="sigmoid")(labeler, batch.images, batch.labels)
        assert len(terms.soft_mask) == 10
        assert terms.total.isfinite()

    def test_class_evidence_of_labels(self, labeler, batch):
        """The energy of all labels' contributions; what speaks for all of them is evidence, too."""
        features = labeler.features(batch.images)
        logits = labeler.classifier(features.mean((2, 3)))
        found = class_evidence(logits, features, output="sigmoid")
        weights = labeler.classifier.weight
        contributions = torch.einsum("kc,bchw->bkhw", weights, features) / features[0, 0].numel()
        expected = (2 * contributions.square().mean(1, keepdim=True)).sqrt()
        torch.testing.assert_close(found, expected.detach())


class TestGuidance:
    @pytest.mark.parametrize("method", GUIDANCE)
    def test_runs(self, method, labeler, batch):
        loss = GuidanceLoss(GuidanceConfig(method, 1.0), output="sigmoid")
        terms = loss(labeler, batch.images, batch.labels, batch.masks)
        terms.total.backward()
        assert terms.total.isfinite()
        torch.testing.assert_close(terms.cross_entropy, known_loss(labeler(batch.images), batch.labels).detach())
        assert terms.logits.shape == (6, 4)

    def test_energy_of_every_class(self, labeler, batch):
        terms = GuidanceLoss(GuidanceConfig("energy", 1.0), output="sigmoid")(
            labeler, batch.images, batch.labels, batch.masks
        )
        values = []
        rows, classes = (batch.labels == 1).nonzero(as_tuple=True)
        for row, label, mask in zip(rows, classes, batch.masks, strict=True):
            image = batch.images[row][None].requires_grad_()
            (gradient,) = torch.autograd.grad(labeler(image)[0, label], image)
            values.append(energy_loss((gradient * image).sum(1, keepdim=True), mask[None].float()))
        torch.testing.assert_close(terms.guidance, torch.cat(values).mean().detach())

    def test_saliency_of_every_class(self, labeler, batch):
        """Each class hides pixels of its own; each label's sigmoid is compared, with both of its sides."""
        loss = GuidanceLoss(GuidanceConfig("saliency-guided", 1.0), output="sigmoid")
        torch.manual_seed(3)
        terms = loss(labeler, batch.images, batch.labels)
        rows, classes = (batch.labels == 1).nonzero(as_tuple=True)
        torch.manual_seed(3)
        hidden = hide_least_salient(labeler, batch.images[rows], classes, "sigmoid")
        p, q = labeler(batch.images[rows]).sigmoid().detach(), labeler(hidden).sigmoid().detach()
        expected = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        torch.testing.assert_close(terms.guidance, expected.sum(1).mean(), rtol=1e-3, atol=1e-7)
        assert terms.guidance > 0

    def test_a_shuffled_background_leaves_every_object(self, labeler, batch):
        config = GuidanceConfig("actdiff", 1.0, align="half_pixel")
        torch.manual_seed(3)
        terms = GuidanceLoss(config, output="sigmoid")(labeler, batch.images, batch.labels, batch.masks)
        union = torch.stack([corners()[label == 1].any(0) for label in batch.labels]).unsqueeze(1)
        there = union.flatten(1).any(1)
        torch.manual_seed(3)
        images = batch.images[there]
        maps = labeler.features(images) - labeler.features(shuffle_background(images, union[there]))
        torch.testing.assert_close(terms.guidance, maps.flatten(1).norm(dim=1).mean().detach())


class TestOwnMasks:
    CONFIG = SIBConfig.recommended("self", layers={"features": 1.0})

    def test_evidence_is_that_of_the_label_alone(self, labeler, batch):
        """For every row sqrt(2) |sum_c dz_k/da_c a_c|; the mean square over all labels is the evidence of them all."""
        a = labeler.features(batch.images)
        logits = labeler.classifier(a.mean((2, 3)))
        each = [class_evidence(logits, a, output="sigmoid", labels=torch.full((6,), k)) for k in range(4)]
        for k, evidence in enumerate(each):
            (gradient,) = torch.autograd.grad(logits[:, k].sum(), a, retain_graph=True)
            torch.testing.assert_close(evidence, 2**0.5 * (gradient * a).sum(1, keepdim=True).abs().detach())
        everything = class_evidence(logits, a, output="sigmoid")
        torch.testing.assert_close(torch.stack(each).square().mean(0).sqrt(), everything)
        mixed = class_evidence(logits, a, output="sigmoid", labels=torch.tensor([3, 0, 2, 1, 1, 0]))
        torch.testing.assert_close(mixed[0], each[3][0])
        torch.testing.assert_close(mixed[2], each[2][2])

    @pytest.mark.parametrize(
        "masks", [Frozen(TopShare(0.2)), Frozen(), Frozen(SufficientShare()), Frozen(TopShare(0.2), reading="vjp")]
    )
    def test_one_for_every_image_and_class_present(self, masks, labeler, batch):
        """Each is the one that the image gets if it is asked of this class alone."""
        config = replace(self.CONFIG, masks=masks)
        found = self_masks(labeler, several(), config=config, output="sigmoid", batch_size=4, progress=False)
        assert found.shape == (9, 1, 32, 32)
        rows, classes = (batch.labels == 1).nonzero(as_tuple=True)
        for i in (0, 4, 8):
            image, label = batch.images[rows[i : i + 1]], classes[i : i + 1]
            alone = evidence_masks(labeler, image, config, output="sigmoid", labels=label)
            assert (alone == found[i : i + 1]).float().mean() > 0.99  # BLAS may round a batch otherwise
        assert torch.equal(several().with_masks(found).samples[0].mask, found[:2, 0])

    def test_sufficient_masks_keep_their_own_label(self, labeler, batch):
        """The label's sign stays, even if that of another one would be the most probable with the same features."""
        config = replace(self.CONFIG, masks=Frozen(SufficientShare((0.3, 0.6, 0.9))))
        labels = torch.tensor([0, 1, 2, 3, 0, 1])
        masks = evidence_masks(labeler, batch.images, config, output="sigmoid", labels=labels)
        tail = Tail(
            labeler, "features", batch.images, find_alignment(labeler, "features", batch.images), "sigmoid", labels
        )
        says = labeler(batch.images).gather(1, labels[:, None])[:, 0] > 0
        kept = tail.predict(masks) == says
        assert (kept | (masks.float().mean((1, 2, 3)) > 0.85)).all()

    def test_of_images_without_any_class(self, labeler):
        nothing = InMemoryDataset.load(several(), [2])
        assert self_masks(labeler, nothing, config=self.CONFIG, output="sigmoid", progress=False).shape == (
            0,
            1,
            32,
            32,
        )

    def test_refused(self, labeler, batch):
        with pytest.raises(ValueError, match="`output` must be 'sigmoid' for several labels per image, but got 'auto'"):
            self_masks(labeler, several(), config=self.CONFIG, progress=False)
        with pytest.raises(ValueError, match="`labels` must be None for classes that exclude each other"):
            evidence_masks(labeler, batch.images, self.CONFIG, labels=torch.zeros(6, dtype=torch.int64))


class TestTraining:
    @pytest.mark.parametrize(
        "objective",
        [None, GIVEN, SIBConfig.recommended("self"), GuidanceConfig("energy", 1.0)],
        ids=["bce", "sib", "own", "energy"],
    )
    def test_learns(self, objective, tmp_path):
        """Every augmentation keeps masks with their images, and every kind of training runs."""
        torch.manual_seed(0)
        data = several()
        config = TrainConfig(
            objective=objective, output="sigmoid", epochs=2, batch_size=6, augmentation="flip_crop", batch_norm="train"
        )
        result = fine_tune(
            build_model("tiny_cnn", 4), data, config=config, val_data=data, out_dir=tmp_path, progress=False
        )
        assert len(result.history) == 2
        assert 0 <= result.history[-1]["val_accuracy"] <= 1
        assert result.history[-1]["val_accuracy"] == pytest.approx(accuracy(result.model, data, output="sigmoid"))

    def test_refused(self, labeler):
        data = several()
        for config, message in (
            (TrainConfig(output="softmax", batch_size=6), "`output` must be 'sigmoid' for several labels per image"),
            (TrainConfig(output="sigmoid", batch_size=6, balanced=True), "`balanced` must be False for several labels"),
        ):
            with pytest.raises(ValueError, match=message):
                fine_tune(labeler, data, config=config, progress=False)


def test_a_mask_too_few(labeler, batch):
    with pytest.raises(
        ValueError, match=r"`masks` must be a bool tensor of shape \(9, 1, 32, 32\), one mask per image and"
    ):
        SIBLoss(GIVEN, output="sigmoid")(labeler, batch.images, batch.labels, batch.masks[:8])


def test_several_processes_would_have_other_numbers_of_rows(labeler, batch, monkeypatch):
    monkeypatch.setattr("sibx.objectives.cases.world_size", lambda: 2)
    with pytest.raises(ValueError, match="`labels` must be of one class per image in several processes"):
        SIBLoss(GIVEN, output="sigmoid")(labeler, batch.images, batch.labels, batch.masks)
