"""Group DRO: the paper's algorithm, what its weights do, and training with it."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN
from sibx.objectives import GroupDROConfig, GroupDROLoss
from sibx.train import TRAININGS, TrainConfig, fine_tune
from tests.references import group_dro as reference

COUNTS = torch.tensor([40, 5, 0, 12])


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()


def batches(count):
    generator = torch.Generator().manual_seed(1)
    for groups in ([0, 1, 3, 0, 0, 1], [0, 0, 0, 0, 3, 3], [1, 1, 1, 1, 1, 1])[:count]:
        images = torch.randn(6, 3, 2, 2, generator=generator, dtype=torch.float64)
        yield images, torch.randint(3, (6,), generator=generator), torch.tensor(groups)


class TestFormula:
    @pytest.mark.parametrize(("step_size", "adjustment"), [(0.0, 0.0), (0.5, 0.0), (0.5, 3.0)])
    def test_equals_the_paper(self, net, step_size, adjustment):
        loss = GroupDROLoss(GroupDROConfig(step_size, adjustment), COUNTS)
        weights = [1 / 3, 1 / 3, 0.0, 1 / 3]
        for images, labels, groups in batches(3):
            terms = loss(net, images, labels, groups)
            logits = net(images)
            expected, weights = reference.step(weights, COUNTS.tolist(), logits, labels, groups, step_size, adjustment)
            assert terms.total.item() == pytest.approx(expected.item(), rel=1e-5)
            assert loss.weights.tolist() == pytest.approx(weights, rel=1e-5)
            ours, theirs = (torch.autograd.grad(t, net.parameters()) for t in (terms.total, expected))
            assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))
            assert terms.cross_entropy.item() == pytest.approx(F.cross_entropy(logits, labels).item())
            assert terms.largest_weight == max(loss.weights)
            assert torch.equal(terms.logits, logits)

    def test_the_group_with_the_largest_loss_gets_all_weight(self, net):
        (images, labels, _), *_ = batches(1)
        labels = net(images).argmax(1)
        labels[3:] = (labels[3:] + 1) % 3  # the second half is wrong
        groups = torch.tensor([0, 0, 0, 1, 1, 1])
        loss = GroupDROLoss(GroupDROConfig(step_size=1.0), torch.tensor([30, 3]))
        for _ in range(60):
            terms = loss(net, images, labels, groups)
        assert loss.weights[1] > 0.999
        assert terms.total.item() == pytest.approx(F.cross_entropy(net(images[3:]), labels[3:]).item(), rel=1e-2)

    def test_a_large_loss_does_not_overflow(self, net):
        (images, labels, groups), *_ = batches(1)
        loss = GroupDROLoss(GroupDROConfig(step_size=1.0), COUNTS)
        assert loss(net, images * 1e4, labels, groups).total.isfinite()
        assert loss.weights.sum() == pytest.approx(1)

    def test_only_training_moves_the_weights(self, net):
        batch = next(batches(1))
        loss = GroupDROLoss(GroupDROConfig(step_size=1.0), COUNTS)
        start = loss.weights.clone()
        with torch.no_grad():
            loss(net, *batch)
        loss.eval()(net, *batch)
        assert torch.equal(loss.weights, start)
        total = loss.train()(net, *batch).total
        loss(net, *batch)  # moves them before the first call's backward pass
        total.backward()
        assert not torch.equal(loss.weights, start)

    def test_state(self, net):
        loss, other = (GroupDROLoss(GroupDROConfig(step_size=1.0), COUNTS) for _ in range(2))
        loss(net, *next(batches(1)))
        other.load_state_dict(loss.state_dict())
        assert torch.equal(other.weights, loss.weights)


class TestOutputs:
    def test_one_logit_learns_as_its_twin_with_two(self):
        images, labels, groups = next(batches(1))
        one, two = (nn.Sequential(nn.Flatten(), nn.Linear(12, k)).double() for k in (1, 2))
        two.load_state_dict({k: torch.cat([-v, v]) / 2 for k, v in one.state_dict().items()})
        losses = [GroupDROLoss(GroupDROConfig(step_size=1.0), COUNTS) for _ in range(2)]
        terms = [loss(network, images, labels % 2, groups) for loss, network in zip(losses, (one, two), strict=True)]
        for mine, twin in zip(*(t[:3] for t in terms), strict=True):
            torch.testing.assert_close(mine, twin)

    def test_a_criterion_is_that_of_every_group(self, net):
        """Its mean within a group is its own: here one by class weights."""
        images, labels, groups = next(batches(1))
        weighted = partial(F.cross_entropy, weight=torch.tensor([1.0, 5.0, 2.0], dtype=torch.float64))
        loss = GroupDROLoss(GroupDROConfig(step_size=0.0), COUNTS, criterion=weighted)
        terms = loss(net, images, labels, groups)
        logits = net(images)
        expected = sum(weighted(logits[groups == g], labels[groups == g]) for g in (0, 1, 3)) / 3
        assert terms.total.item() == pytest.approx(expected.item())
        assert terms.cross_entropy.item() == pytest.approx(weighted(logits, labels).item())

    def test_several_labels(self, net):
        images, _, groups = next(batches(1))
        labels = torch.tensor([[1.0, 0.0, torch.nan], [0.0, 1.0, 1.0]]).double().repeat(3, 1)
        terms = GroupDROLoss(GroupDROConfig(step_size=0.0), COUNTS, output="sigmoid")(net, images, labels, groups)
        losses = F.binary_cross_entropy_with_logits(net(images), labels.nan_to_num(), reduction="none")
        expected = sum(losses[groups == g][~labels[groups == g].isnan()].mean() for g in (0, 1, 3)) / 3
        assert terms.total.item() == pytest.approx(expected.item())

    def test_a_training_minimizes_the_criterion(self):
        data = InMemoryDataset.load(SyntheticDataset("train", 32, size=32))
        config = TrainConfig(objective=GroupDROConfig(), epochs=1, batch_size=16, learning_rate=0.0)
        doubled = replace(config, criterion=lambda z, y: 2 * F.cross_entropy(z, y))
        torch.manual_seed(0)
        net = TinyCNN(8, width=4)
        one, two = (fine_tune(net, data, config=c, progress=False).history[0] for c in (config, doubled))
        assert two["cross_entropy"] == pytest.approx(2 * one["cross_entropy"])


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"images": torch.zeros(6, 12)}, "`images` must be a floating-point tensor"),
            ({"labels": torch.tensor([0, 1])}, "`labels` must have 6 rows"),
            ({"labels": torch.tensor([0, 1, 2, 3, 0, 0])}, r"`labels` must lie in 0..2"),
            ({"groups": torch.tensor([0, 1])}, "`groups` must have 6 rows"),
            (
                {"groups": torch.tensor([0, 1, 3, 4, 0, 0])},
                r"`groups` must be groups in 0..3 .* but got \[0, 1, 3, 4\]",
            ),
            ({"groups": torch.tensor([0, -1, 3, 0, 0, 0])}, r"`groups` must be groups in 0..3 .* but got \[-1, 0, 3\]"),
            ({"groups": torch.tensor([0, 2, 3, 0, 0, 0])}, "`groups` must be groups .* that `counts` has images of"),
            ({"labels": torch.zeros(6, 3)}, "`output` must be 'sigmoid' for several labels per image"),
            ({"model": nn.Flatten(0)}, r"`model` must return logits of shape \(B, K\)"),
        ],
    )
    def test_batches(self, net, change, message):
        images, labels, groups = next(batches(1))
        with pytest.raises(ValueError, match=message):
            GroupDROLoss(GroupDROConfig(), COUNTS)(
                **{"model": net, "images": images, "labels": labels, "groups": groups, **change}
            )

    @pytest.mark.parametrize("counts", [torch.ones(3), torch.zeros(3, dtype=torch.int64), torch.ones(2, 2).long()])
    def test_counts(self, counts):
        with pytest.raises(ValueError, match=r"`counts` must be an integer tensor of shape \(G,\)"):
            GroupDROLoss(GroupDROConfig(), counts)

    def test_raw_needs_a_criterion(self):
        with pytest.raises(ValueError, match="`criterion` must be given for output='raw'"):
            GroupDROLoss(GroupDROConfig(), COUNTS, output="raw")

    @pytest.mark.parametrize("field", ["step_size", "adjustment"])
    def test_settings(self, field):
        with pytest.raises(ValueError, match=f"`{field}` must be at least 0, but got -1"):
            GroupDROConfig(**{field: -1})
        with pytest.raises(ValueError, match=r"`warm_up` must be 0 for a function.* and for GroupDROConfig"):
            TrainConfig(objective=GroupDROConfig(), warm_up=1)
        with pytest.raises(ValueError, match=r"`balanced` must be False for GroupDROConfig, .*, but got True"):
            TrainConfig(objective=GroupDROConfig(), balanced=True)


class TestTraining:
    @pytest.fixture(scope="class")
    @staticmethod
    def data():
        return InMemoryDataset.load(SyntheticDataset("train", 32, size=64, rho=0.8))

    config = TrainConfig(
        objective=replace(TRAININGS["group-dro"].at().objective, step_size=1.0),
        epochs=4,
        batch_size=8,
        augmentation="none",
    )

    def tune(self, data, **options):
        torch.manual_seed(0)
        return fine_tune(TinyCNN(8, width=4), data, progress=False, **{"config": self.config, **options})

    def test_groups_are_drawn_equally_often(self, data, monkeypatch):
        seen = []
        compute = GroupDROLoss.forward

        def spy(loss, model, images, labels, groups):
            seen.append(groups)
            return compute(loss, model, images, labels, groups)

        monkeypatch.setattr(GroupDROLoss, "forward", spy)
        history = self.tune(data).history
        counts, drawn = data.groups.bincount(minlength=16), torch.cat(seen).bincount(minlength=16)
        there = counts > 0
        assert drawn.sum() == 4 * 64
        assert drawn[~there].sum() == 0
        expected = drawn.sum() / there.sum()
        assert (drawn[there] - expected).abs().max() < 4 * expected**0.5
        assert counts.max() / counts[there].min() > 3  # they are not, in the data
        assert set(history[0]) >= {"total", "cross_entropy", "largest_weight", "accuracy"}

    def test_resumed_to_the_same_bits(self, data, tmp_path):
        whole = self.tune(data)
        self.tune(data, config=replace(self.config, checkpoint_every=3), out_dir=tmp_path)
        files = sorted(tmp_path.glob("checkpoint-*.pt"))
        files[-1].unlink()
        resumed = self.tune(data, out_dir=tmp_path, resume=True)
        assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))

    def test_data_without_groups(self, data):
        nameless = InMemoryDataset(data, (s._replace(group=-1 if i % 2 else s.group) for i, s in enumerate(data)))
        with pytest.raises(
            ValueError, match="`train_data` must say the group of every image, but got '32 images of syn"
        ):
            self.tune(nameless)
        streamed = SyntheticDataset("train", 32, size=64, rho=0.8)
        assert all(
            torch.equal(a, b)
            for a, b in zip(self.tune(data).model.parameters(), self.tune(streamed).model.parameters(), strict=True)
        )
