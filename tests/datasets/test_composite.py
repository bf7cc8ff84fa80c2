"""Objects on other pictures: exact masks, the agreement that was asked for, and nothing of the old background."""

import pytest
import torch

from sibx.datasets import CompositeDataset, InMemoryDataset, MaskedSample, SyntheticDataset
from sibx.images import Normalization

SIDE = 48


class Discs(InMemoryDataset):
    """Red discs on green, of three classes; the last image has no object, the first one undefined rows."""

    def __init__(self, count=30):
        self.name, self.split, self.classes = "discs", "train", ("a", "b", "c")
        self.normalization = Normalization((0.5,) * 3, (0.25,) * 3)
        self.samples = [self.sample(i, count) for i in range(count)]

    def sample(self, i, count):
        rows = torch.arange(SIDE)
        distance = (rows[:, None] - 20 - i % 5).square() + (rows[None] - 24 + i % 7).square()
        mask = (distance < (8 + i % 4) ** 2)[None] & (i < count - 1)
        pixels = torch.tensor([0.0, 0.8, 0.0]).view(3, 1, 1).expand(3, SIDE, SIDE).clone()
        pixels[:, mask[0]] = torch.tensor([[0.9], [0.1], [0.1]])
        undefined = torch.zeros_like(mask)
        undefined[:, :18] = i == 0
        return MaskedSample(self.normalization(pixels), mask, i % 3, f"disc-{i}", -1, undefined)


PICTURES = {
    "black": [torch.zeros(3, 60, 80), torch.full((3, 40, 40), 0.05)],
    "blue": [torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).expand(3, 50, 90)],
    "white": [torch.ones(3, SIDE, SIDE)],
}
COLORS = {"black": (0, 0, 0.05), "blue": (0, 0, 1), "white": (1, 1, 1)}


@pytest.fixture(scope="module")
def discs():
    return Discs()


def pixels(data, sample):
    return data.normalization.inverse(sample.image)


class TestPasting:
    def test_object_and_background_are_where_the_mask_says(self, discs):
        """Inside all is the object's color, outside all the picture's; green, the old background, is nowhere."""
        data = CompositeDataset(discs, PICTURES, agreement=1.0)
        for sample in data:
            seen, mask = pixels(data, sample), sample.mask
            kind = data.kinds[sample.group % 3]
            core = torch.nn.functional.max_pool2d(1 - mask.float(), 5, 1, 2)[0] == 0
            assert torch.allclose(seen[:, core], torch.tensor([[0.9], [0.1], [0.1]]), atol=0.02)
            far = torch.nn.functional.max_pool2d(mask.float(), 5, 1, 2)[0] == 0
            color = seen[:, far].mean(1)
            assert torch.allclose(color, torch.tensor(COLORS[kind]).float(), atol=0.06)
            green = seen[1] - torch.maximum(seen[0], seen[2])
            assert green.max() < 0.02
            assert not sample.undefined.any()

    def test_sizes_are_those_asked_for(self, discs):
        for low, high in ((0.1, 0.3), (0.05, 0.05)):
            data = CompositeDataset(discs, PICTURES, scale=(low, high))
            shares = torch.tensor([s.mask.double().mean() for s in list(data)[1:]])
            assert shares.min() > 0.9 * low
            assert shares.max() < 1.1 * high
        assert shares.std() < 0.005

    def test_an_object_that_does_not_fit_is_as_large_as_fits(self):
        bar = Discs(2)
        mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
        mask[:, 20:22, 4:44] = True
        bar.samples = [bar.samples[1]._replace(mask=mask)]
        sample = CompositeDataset(bar, PICTURES, scale=(0.5, 0.5))[0]
        columns = sample.mask[0].any(0)
        assert columns.sum() >= SIDE - 1
        assert sample.mask[0].any(1).sum() <= 4

    def test_places_vary_and_stay_inside(self, discs):
        data = CompositeDataset(discs, PICTURES, scale=(0.1, 0.1))
        centers = torch.stack([s.mask[0].nonzero().double().mean(0) for s in data])
        assert (centers.std(0) > 3).all()
        areas = torch.tensor([s.mask.sum() for s in list(data)[1:]]).double()
        assert areas.min() > 0.9 * areas.mean()  # none is cut off at the border


class TestDrawing:
    @pytest.mark.parametrize("agreement", [0.0, 1 / 3, 0.8, 1.0])
    def test_agreement(self, agreement):
        data = CompositeDataset(Discs(400), PICTURES, agreement=agreement)
        agree = torch.tensor([s.group % 3 == s.label for s in data]).double().mean()
        assert agree == pytest.approx(agreement, abs=0.07 * (0 < agreement < 1))
        assert {s.group // 3 for s in data} == {0, 1, 2}

    def test_other_kinds_are_equally_likely(self):
        data = CompositeDataset(Discs(600), PICTURES, agreement=0.0)
        counts = torch.tensor([(s.group % 3 - s.label) % 3 for s in data]).bincount(minlength=3)
        assert counts[0] == 0
        assert counts[1:].min() > 250

    def test_a_sample_depends_on_seed_and_image_alone(self, discs):
        data = CompositeDataset(discs, PICTURES)
        again = CompositeDataset(InMemoryDataset.load(discs, [7, 3]), PICTURES)
        assert torch.equal(again[1].image, data[3].image)
        assert again[0].id == data[7].id
        other = CompositeDataset(discs, PICTURES, seed=1)
        assert not torch.equal(other[3].image, data[3].image)

    def test_fewer_kinds_than_classes_count_round(self, discs):
        data = CompositeDataset(discs, {k: PICTURES[k] for k in ("black", "white")}, agreement=1.0, split="test")
        assert {(s.label, s.group % 2) for s in data} == {(0, 0), (1, 1), (2, 0)}
        assert (data.name, data.split, data.classes) == ("discs-composite", "test", ("a", "b", "c"))

    def test_copies_have_draws_of_their_own(self, discs):
        data = CompositeDataset(discs, PICTURES, agreement=0.5, copies=3)
        count = len(discs) - 1
        assert len(data) == 3 * count
        once = CompositeDataset(discs, PICTURES, agreement=0.5)
        assert all(torch.equal(data[i].image, once[i].image) and data[i].id == once[i].id for i in range(count))
        assert len({sample.id for sample in data}) == len(data)
        same = [data[i].label == data[i + count].label == data[i + 2 * count].label for i in range(count)]
        assert all(same)
        assert data[count + 3].id.split("@")[0] == data[3].id.split("@")[0] == "disc-3"
        assert {data[count + i].group % 3 == data[i].group % 3 for i in range(count)} == {True, False}
        first, second = (
            torch.stack([data[k + i].mask[0].nonzero().double().mean(0) for i in range(9)]) for k in (0, count)
        )
        assert (first - second).abs().mean() > 1

    def test_images_without_an_object_are_left_out(self, discs):
        assert len(CompositeDataset(discs, PICTURES)) == len(discs) - 1

    def test_files(self, discs, tmp_path):
        from torchvision.utils import save_image

        for name, pictures in PICTURES.items():
            save_image(pictures[0], tmp_path / f"{name}.png")
        files = {name: [tmp_path / f"{name}.png"] for name in PICTURES}
        tensors = {name: pictures[:1] for name, pictures in PICTURES.items()}
        a, b = (CompositeDataset(discs, kinds)[4].image for kinds in (files, tensors))
        assert torch.allclose(a, b, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backgrounds": {"one": PICTURES["blue"]}}, r"`backgrounds` must name at least two kinds, but got \['one'\]"),
        ({"backgrounds": {**PICTURES, "sky": []}}, "`backgrounds` must hold a picture of every kind, but got .*sky"),
        ({"agreement": 1.2}, r"`agreement` must lie in \[0, 1\], but got 1.2"),
        ({"scale": (0.3, 0.1)}, "`scale` must be two rising shares"),
        ({"copies": 0}, "`copies` must be at least 1, but got 0"),
        ({"scale": (0.0, 0.1)}, "`scale` must be two rising shares"),
        ({"objects": InMemoryDataset.load(Discs(), [29])}, "`objects` must hold an image with an object, but got 1"),
    ],
)
def test_bad_arguments(arguments, message, discs):
    with pytest.raises(ValueError, match=message):
        CompositeDataset(**{"objects": discs, "backgrounds": PICTURES, **arguments})


def test_shapes_on_pictures_train_a_network_to_look_at_the_wrong_thing():
    """The reason for it: with full agreement the background alone tells the class."""
    shapes = SyntheticDataset("train", 32, size=40)
    data = CompositeDataset(shapes, PICTURES, agreement=1.0)
    corners = torch.stack([pixels(data, s)[:, 0, 0] for s in data])
    kinds = torch.tensor([s.label % 3 for s in data])
    for kind in range(3):
        assert (corners[kinds == kind].std(0) < 0.2).all()
