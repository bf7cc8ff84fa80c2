"""Data sets that stay on disk: parts, other masks at a bit per pixel, and what is kept in memory."""

import pytest
import torch

from sibx import SIBConfig, TrainConfig, fine_tune, self_masks
from sibx.datasets import InMemoryDataset, OtherMasks, PackedMasks, SyntheticDataset, collate, hold
from sibx.datasets.holding import GIB, size_of
from sibx.models import TinyCNN
from sibx.objectives import each_self_masks
from tests.helpers.several import Several, several

DATA = SyntheticDataset("train", 16, size=12)


def random_masks(count, *size):
    return torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(0)) > 0.5


class TestPackedMasks:
    @pytest.mark.parametrize("size", [(16, 16), (5, 7), (1, 1)])
    def test_masks_come_back(self, size):
        masks = random_masks(9, *size)
        packed = PackedMasks(masks.split(4))
        assert len(packed) == 9
        assert packed.size == size
        assert torch.equal(packed[:], masks)
        assert torch.equal(packed[2:5], masks[2:5])
        order = torch.randperm(9)
        assert torch.equal(packed.reordered(order)[:], masks[order])

    def test_no_masks(self):
        assert len(PackedMasks([])) == 0
        assert PackedMasks([random_masks(0, 4, 4), random_masks(2, 4, 4)])[:].shape == (2, 1, 4, 4)

    def test_others_are_refused(self):
        with pytest.raises(ValueError, match=r"`batches` must hold bool masks \(n, 1, H, W\)"):
            PackedMasks([torch.zeros(2, 1, 4, 4)])
        with pytest.raises(ValueError, match=r"`batches` must hold masks of one size, \(4, 4\), but got \(5, 4\)"):
            PackedMasks([random_masks(2, 4, 4), random_masks(2, 5, 4)])


class TestOtherMasks:
    @pytest.mark.parametrize("source", [DATA, several(), Several()])
    def test_they_are_those_that_the_same_data_has_in_memory(self, source):
        held = InMemoryDataset.load(source)
        masks = random_masks(len(collate(held.samples).masks), *source[0].image.shape[1:])
        ours, theirs = collate(list(OtherMasks(source, masks))), collate(held.with_masks(masks).samples)
        for name in ("images", "masks", "labels", "groups", "undefined"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), equal_nan=True)
        assert ours.ids == theirs.ids

    def test_labels_and_groups_are_those_of_the_source(self):
        data = OtherMasks(DATA, random_masks(12, 16, 16))
        assert [(data.label_of(i), data.group_of(i)) for i in range(3)] == [(s.label, s.group) for s in list(DATA)[:3]]

    def test_another_number_or_size_is_refused(self):
        with pytest.raises(ValueError, match="`masks` must hold 12 masks, one per image and class present, but got 3"):
            OtherMasks(DATA, random_masks(3, 16, 16))
        with pytest.raises(ValueError, match=r"`masks` must be of the images' size \(16, 16\), but got \(8, 8\)"):
            OtherMasks(DATA, random_masks(12, 8, 8))[0]


class TestHold:
    def test_what_fits_is_kept_in_the_order_of_the_sets(self):
        sets = {"a": DATA, "b": SyntheticDataset("val", 16, size=24), "c": SyntheticDataset("val", 16, size=6)}
        room = (size_of(DATA) + size_of(sets["c"])) / GIB
        held = hold(sets, room)
        assert [isinstance(data, InMemoryDataset) for data in held.values()] == [True, False, True]
        assert held["b"] is sets["b"]
        assert list(hold(sets, 0).values()) == list(sets.values())

    def test_the_size_is_that_of_the_tensors(self):
        assert size_of(DATA) == 12 * 16 * 16 * (3 * 4 + 1 + 1)

    def test_a_negative_limit_is_refused(self):
        with pytest.raises(ValueError, match="`memory` must be at least 0"):
            hold({}, -1)


def test_own_masks_batch_by_batch_are_the_same():
    torch.manual_seed(0)
    model, config = TinyCNN(8, width=4), SIBConfig.recommended("self")
    parts = list(each_self_masks(model, DATA, config=config, batch_size=5, progress=False))
    assert [len(part) for part in parts] == [5, 5, 2]
    assert torch.equal(torch.cat(parts), self_masks(model, DATA, config=config, batch_size=5, progress=False))


def test_fine_tuning_with_own_masks_reads_the_images_from_where_they_are():
    class Counted(SyntheticDataset):
        read = 0

        def __getitem__(self, index):
            Counted.read += 1
            return super().__getitem__(index)

    config = TrainConfig(objective=SIBConfig.recommended("self"), epochs=3, batch_size=4, augmentation="none")
    torch.manual_seed(0)
    model = TinyCNN(8, width=4)
    counted = fine_tune(model, Counted("train", 16, size=12), config=config, progress=False)
    assert Counted.read >= 12 + 3 * 12  # the masks, and every epoch
    held = fine_tune(model, InMemoryDataset.load(DATA), config=config, progress=False)
    assert counted.history == held.history
