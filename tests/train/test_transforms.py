"""Augmentation by any transform of torchvision's v2."""

import copy
import dataclasses
import json
from functools import partial

import pytest
import torch
from torchvision.transforms import v2

from sibx import SIBConfig, TrainConfig, fine_tune
from sibx._files import plain
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.images.geometry import augment
from sibx.models import TinyCNN
from sibx.train.order import epoch_plans, load

ROTATE = v2.Compose([v2.RandomRotation(90), v2.ColorJitter(0.3, 0.3)])


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=24))


def steps(data, config, epoch=0, first=0):
    plan = next(epoch_plans(config, len(data), epoch)).after(first)
    return [batch for (batch,) in load(data, plan, config)]


def config_of(transform, **fields):
    return TrainConfig(**{"batch_size": 8, "augmentation": transform, **fields})


def test_image_and_masks_move_together(data):
    """The mask is written into the picture: wherever the transform puts it, both are the same."""
    rows = [s._replace(image=data.normalization(s.mask.float().expand(3, -1, -1).clone()), undefined=s.mask)
            for s in data.samples]  # fmt: skip
    moved = 0
    for batch in steps(InMemoryDataset(data, rows), config_of(v2.RandomRotation(90))):
        pixels = data.normalization.inverse(batch.images)
        assert torch.equal(pixels[:, :1] > 0.5, batch.masks)
        assert torch.equal(batch.masks, batch.undefined)
        moved += sum(not torch.equal(m, rows[[r.id for r in rows].index(i)].mask)
                     for m, i in zip(batch.masks, batch.ids, strict=True))  # fmt: skip
    assert moved > 12


def test_random_numbers_belong_to_image_and_epoch(data):
    config = config_of(ROTATE)
    before = torch.get_rng_state()
    whole = steps(data, config)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(steps(data, config, first=2)[0].images, whole[2].images)
    workers = steps(data, dataclasses.replace(config, workers=1))
    assert all(torch.equal(a.images, b.images) for a, b in zip(workers, whole, strict=True))
    by_id = {i: image for batch in whole for i, image in zip(batch.ids, batch.images, strict=True)}
    later = steps(data, config, epoch=1)[0]
    assert not torch.equal(torch.stack([by_id[i] for i in later.ids]), later.images)


def test_several_masks_of_an_image(data):
    rows = [s._replace(mask=torch.cat([s.mask, ~s.mask]), undefined=torch.cat([s.mask] * 2),
                       label=torch.tensor([1.0, 1.0, 0.0])) for s in data.samples]  # fmt: skip
    several = InMemoryDataset(data, rows)
    several.several_labels = True
    batch = steps(several, config_of(v2.RandomHorizontalFlip(1.0)))[0]
    sources = [rows[[r.id for r in rows].index(i)] for i in batch.ids]
    assert torch.equal(batch.masks[:, 0], torch.cat([s.mask.flip(-1) for s in sources]))
    torch.testing.assert_close(batch.images, torch.stack([s.image.flip(-1) for s in sources]), atol=1e-5, rtol=0)


def test_a_run_is_resumed_to_the_same_bits(data, tmp_path):
    config = config_of(ROTATE, objective=SIBConfig.recommended("given"), epochs=2, checkpoint_every=2)
    torch.manual_seed(0)
    model = TinyCNN(8, width=8)
    whole = fine_tune(model, data, config=config, out_dir=tmp_path, progress=False)
    (tmp_path / "checkpoint-000000006.pt").unlink()  # as if it had been killed in the second epoch
    again = fine_tune(model, data, config=config, out_dir=tmp_path, resume=True, progress=False)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        (v2.RandomRotation(90), v2.RandomRotation(45), r"augmentation\.degrees = \[-90.0, 90.0\]"),
        (v2.Compose([v2.RandomRotation(90), v2.ColorJitter(0.3)]), ROTATE, r"augmentation\.transforms = .*0\.7, 1\.3"),
        (v2.RandomApply([v2.GaussianNoise(0.0, 0.1)]), v2.RandomApply([v2.GaussianNoise(0.0, 0.2)]), "augmentation"),
        (v2.RandomHorizontalFlip(), "flip", r"augmentation\.kind = 'RandomHorizontalFlip'"),
        (v2.RandomRotation(90, v2.InterpolationMode.BILINEAR), v2.RandomRotation(90), r"augmentation\.interpolation"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(data, tmp_path, before, after, name):
    model, options = TinyCNN(8, width=4), {"out_dir": tmp_path, "progress": False}
    fine_tune(model, data, config=config_of(before, epochs=1), **options)
    again = fine_tune(model, data, config=config_of(copy.deepcopy(before), epochs=1), resume=True, **options)
    assert len(again.history) == 1
    with pytest.raises(ValueError, match=f"`config` must be that of the checkpoint .*, with {name}"):
        fine_tune(model, data, config=config_of(after, epochs=1), resume=True, **options)


def test_other_objects_with_settings_are_told_apart():
    """A loss with weights, a callable of one's own, a partial; not what nothing tells apart."""
    one, two = (torch.nn.CrossEntropyLoss(torch.tensor(w)) for w in ([1.0, 2.0], [1.0, 3.0]))
    assert plain(one) != plain(two)
    assert plain(one) == plain(copy.deepcopy(one))
    assert plain(one)["kind"] == "CrossEntropyLoss"
    assert plain(partial(draw, 1, scale=2)) == {
        "kind": "partial",
        "func": "draw",
        "args": [1],
        "keywords": {"scale": 2},
    }
    mine = Jitter(0.5)
    assert plain([mine]) == [{"kind": "Jitter", "scale": 0.5, "itself": "Jitter"}]
    assert json.loads(json.dumps(plain(mine))) == plain(mine)
    assert [plain(value) for value in (draw, Jitter, mine.__call__, torch.relu)] == [
        "draw",
        "Jitter",
        "Jitter.__call__",
        "_VariableFunctionsClass.relu",
    ]


def draw(*_, scale=1):
    return scale


class Jitter:
    def __init__(self, scale):
        self.scale, self.itself = scale, self

    def __call__(self, *parts):
        return parts


def test_what_is_no_augmentation(data):
    for bad in (v2.Resize(16), lambda image, *_: image):
        with pytest.raises(ValueError, match=r"`augmentation` must return an image and two masks of the shapes"):
            steps(data, config_of(bad))
    with pytest.raises(ValueError, match="`augmentation` must be one of none, flip, flip_crop, but got 'rotate'"):
        config_of("rotate")


def test_rectangles_keep_their_proportions():
    images = torch.rand(8, 3, 24, 40)
    generator = torch.Generator().manual_seed(0)
    found, (masks,) = augment(images, [images[:, :1] > 0.5], "flip_crop", generator)
    assert found.shape == images.shape
    assert masks.shape == (8, 1, 24, 40)
    ramp = torch.linspace(0, 1, 40).expand(8, 1, 24, 40)
    spans = augment(ramp, [], "flip_crop", torch.Generator().manual_seed(0))[0][:, 0, 0]
    assert ((spans[:, -1] - spans[:, 0]).abs() > 0.7).all()  # sqrt(.6) of the width, not of the height
