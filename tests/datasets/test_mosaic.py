"""Boxes as masks, mosaics, and the Focus score over them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx import evaluate
from sibx.datasets import InMemoryDataset, MosaicDataset, draw_boxes
from sibx.evaluation import focus
from sibx.models import TinyCNN
from tests.references import TWINS


class TestBoxes:
    def test_whole_numbers_are_edges_of_pixels(self):
        (mask,) = draw_boxes([torch.tensor([[1, 0, 3, 2]])], (3, 4))
        assert torch.equal(draw_boxes([[(1, 0, 3, 2)]], (3, 4))[0], mask)
        assert torch.equal(draw_boxes([(1, 0, 3, 2)], (3, 4))[0], mask)
        assert mask.int().tolist() == [[[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]]
        assert draw_boxes([torch.tensor([[0, 0, 4, 3]])], (3, 4)).all()

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10_000), count=st.integers(0, 3))
    def test_a_pixel_is_in_where_its_center_is(self, seed, count):
        corners = torch.rand(2, count, 2, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([6.0, 5.0])
        boxes = corners.sort(2).values.transpose(2, 3).permute(0, 1, 3, 2).flatten(2)
        masks = draw_boxes(list(boxes), (5, 6))
        assert masks.shape == (2, 1, 5, 6)
        for i, y, x in np.ndindex(2, 5, 6):
            inside = [x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1 for x0, y0, x1, y1 in boxes[i].tolist()]
            assert masks[i, 0, y, x].item() == any(inside)

    @pytest.mark.parametrize(
        ("boxes", "message"),
        [
            (
                [torch.zeros(5)],
                r"`boxes` must be tensors of shape \(N, 4\), or rows of four numbers, but got a float32 tensor",
            ),
            (
                [[0, 0, 1]],
                r"`boxes` must be tensors of shape \(N, 4\), or rows of four numbers, but got \[0, 0, 1\]",
            ),
            (
                [torch.tensor([[0, 0, 2, 2], [1, 1, 5, 2]])],
                r"within images of size \(3, 4\), but got \[\[1, 1, 5, 2\]\]",
            ),
            ([torch.tensor([[2.0, 0, 2, 2]])], "`boxes` must lie within"),
            ([torch.tensor([[0, -1, 2, 2]])], "`boxes` must lie within"),
            ([torch.tensor([[0, torch.nan, 2, 2]])], "`boxes` must lie within"),
            ([], r"`boxes` must hold one tensor per image, but got \[\]"),
        ],
    )
    def test_errors(self, boxes, message):
        with pytest.raises(ValueError, match=message):
            draw_boxes(boxes, (3, 4))


class TestMosaics:
    def test_two_quadrants_are_the_target(self, shapes):
        mosaics = MosaicDataset(shapes, count=20, seed=3)
        assert len(mosaics) == 20
        places = set()
        for mosaic in (mosaics[i] for i in range(20)):
            assert mosaic.image.shape == (3, 64, 64)
            assert mosaic.mask.shape == mosaic.undefined.shape == (1, 64, 64)
            assert mosaic.mask.double().mean() == 0.5
            assert not mosaic.undefined.any()
            quadrants = [(slice(y, y + 32), slice(x, x + 32)) for y in (0, 32) for x in (0, 32)]
            sources = [
                next(s for s in shapes.samples if torch.equal(s.image, mosaic.image[:, *quadrant]))
                for quadrant in quadrants
            ]
            assert len({s.id for s in sources}) == 4
            assert mosaic.id.endswith("+".join(s.id for s in sources))
            assert [bool(mosaic.mask[0, *q].all()) for q in quadrants] == [s.label == mosaic.label for s in sources]
            places.add(tuple(s.label == mosaic.label for s in sources))
        assert len(places) > 3

    def test_classes_take_turns(self, shapes):
        labels = [MosaicDataset(shapes, count=24)[i].label for i in range(24)]
        several = [c for c in range(8) if (shapes.labels == c).sum() > 1]
        assert labels == (several * 24)[:24]

    def test_the_first_ones_do_not_depend_on_the_number(self, shapes):
        few, many, other = MosaicDataset(shapes, 3), MosaicDataset(shapes, 5), MosaicDataset(shapes, 3, seed=1)
        assert [few[i].id for i in range(3)] == [many[i].id for i in range(3)]
        assert [few[i].id for i in range(3)] != [other[i].id for i in range(3)]
        with pytest.raises(IndexError):
            few[3]

    def test_errors(self, shapes):
        with pytest.raises(ValueError, match="`count` must be at least 1"):
            MosaicDataset(shapes, 0)
        lonely = InMemoryDataset(shapes, [s._replace(label=min(i, 1)) for i, s in enumerate(shapes.samples[:3])])
        with pytest.raises(ValueError, match=r"`source` must hold a class with two .* but got \[0, 1, 1\]"):
            MosaicDataset(lonely)


class TestFocus:
    @staticmethod
    def explain(images, targets):
        """A map that depends on the image and on the class."""
        return (images.sum(1, keepdim=True) * (1 + targets.view(-1, 1, 1, 1))).sin().abs().double()

    @pytest.mark.parametrize("batch_size", [1, 4, 32])
    def test_is_the_definition(self, shapes, batch_size):
        mosaics = MosaicDataset(shapes, count=6)
        label_of = {s.id: s.label for s in shapes.samples}
        expected = []
        for mosaic in (mosaics[i] for i in range(6)):
            labels = [label_of[name] for name in mosaic.id.split(":")[1].split("+")]
            heatmap = self.explain(mosaic.image[None], torch.tensor([mosaic.label]))[0, 0].numpy()
            expected.append(TWINS[focus](heatmap, labels, mosaic.label))
        assert focus(self.explain, mosaics, batch_size).tolist() == pytest.approx(expected)

    def test_extremes(self, shapes):
        mosaics = MosaicDataset(shapes, count=4)
        masks = iter([mosaics[i].mask[None].float() for i in range(4)])
        assert focus(lambda *_: next(masks), mosaics, 1).tolist() == [1] * 4
        assert focus(lambda x, _: torch.ones_like(x[:, :1]), mosaics).tolist() == [0.5] * 4
        assert focus(lambda x, _: torch.zeros_like(x[:, :1]), mosaics).isnan().all()
        assert focus(lambda x, _: x[:, :1].abs() * torch.nan, mosaics).isnan().all()

    def test_is_the_foreground_focus_of_an_evaluation(self, shapes):
        torch.manual_seed(0)
        net, mosaics = TinyCNN(8, width=4).eval(), MosaicDataset(shapes, count=3)
        rows = evaluate(net, mosaics, methods=["saliency"], metrics=["foreground_focus"], target="label").rows

        def explain(images, targets):
            images.requires_grad_()
            scores = net(images).gather(1, targets[:, None]).sum()
            return torch.autograd.grad(scores, images)[0].norm(dim=1, keepdim=True)

        assert focus(explain, mosaics).tolist() == pytest.approx(rows["value"].tolist(), rel=1e-5)
        assert set(rows["dataset"]) == {"synthetic-mosaic"}

    def test_errors(self, shapes):
        mosaics = MosaicDataset(shapes, count=2)
        with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
            focus(self.explain, mosaics, 0)
        with pytest.raises(
            ValueError, match=r"`explain` must return .* shape \(2, 1, 64, 64\), but got a float32 tensor"
        ):
            focus(lambda x, _: x, mosaics)
        with pytest.raises(ValueError, match=r"`explain` must return .* but got a NoneType"):
            focus(lambda *_: None, mosaics)
        with pytest.raises(ValueError, match="`heatmaps` must be at least 0"):
            focus(lambda x, _: -x[:, :1].abs(), mosaics)
