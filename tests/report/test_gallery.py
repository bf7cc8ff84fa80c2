"""The gallery: explained images, their file, and the cards of a page."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from sibx import METHODS, build_dataset, evaluate
from sibx.datasets import InMemoryDataset, spread
from sibx.models import TinyCNN
from sibx.report import GalleryItem, class_by_class, load_gallery, make_gallery, merge_galleries, save_gallery
from sibx.report.content import gather
from sibx.report.gallery import SIDE, draw_maps, draw_picture, signed_methods
from sibx.report.gallery_page import lay_out
from tests.helpers.reports import draw_gallery, make_results

PLENTY = 10**9  # characters


@pytest.fixture(scope="module")
def data():
    source = build_dataset("synthetic", split="test-id", image_size=32)
    return InMemoryDataset.load(source, spread(len(source), 6))


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {"ce": TinyCNN(8), "sib": TinyCNN(8)}


def decode(jpeg):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


class TestMakeGallery:
    def test_shows_what_evaluate_scores(self, data, networks):
        """Foreground focus of the maps in the gallery is what ``evaluate`` says of the same images."""
        items = make_gallery(networks, data, methods=["sib", "gradcam"], images=4, model="tiny_cnn", batch_size=3)
        assert [i.id for i in items] == [data[n].id for n in class_by_class(data, 4)]
        for training, network in networks.items():
            scored = evaluate(network, data, methods=["sib", "gradcam"], metrics=["foreground_focus"], progress=False)
            values = scored.rows.set_index(["image_id", "method"])["value"]
            for item in items:
                for method in ("sib", "gradcam"):
                    heatmap = item.maps[method][training].astype(np.float64)
                    expected = values[item.id, method]
                    assert heatmap[item.mask].sum() / heatmap.sum() == pytest.approx(expected, abs=1e-5, nan_ok=True)

    def test_knows_its_images(self, data, networks):
        (item,) = make_gallery(networks, data, methods=["sib"], images=1, model="tiny_cnn")
        sample = data[0]
        assert (item.dataset, item.split, item.model, item.id) == ("synthetic", "test-id", "tiny_cnn", sample.id)
        assert item.class_name == data.classes[sample.label]
        assert np.array_equal(item.mask, sample.mask[0])
        pixels = data.normalization.inverse(sample.image[None])[0].permute(1, 2, 0)
        assert np.allclose(item.picture, pixels, atol=1e-6)

    def test_signs_are_shown_when_asked_for(self, data, networks):
        assert METHODS["input_x_gradient"].signed
        assert not METHODS["saliency"].signed
        plain, signed = (
            make_gallery(networks, data, methods=["input_x_gradient", "saliency"], images=2, signed=s)
            for s in (False, True)
        )
        assert signed_methods(plain) == set()
        assert signed_methods(signed) == {"input_x_gradient"}
        values = signed[0].maps["input_x_gradient"]["ce"]
        assert np.array_equal(values.clip(min=0), plain[0].maps["input_x_gradient"]["ce"])

    def test_labels_can_be_explained(self, data, networks):
        def explain(images, targets):
            return targets.view(-1, 1, 1, 1) + torch.ones_like(images[:, :1])

        items = make_gallery({"": networks["ce"]}, data, methods={"mine": explain}, target="label")
        assert [i.maps["mine"][""][0, 0] - 1 for i in items] == data.labels.tolist()

    def test_modules_keep_their_mode_and_functions_do(self, data):
        network = TinyCNN(8).train()
        make_gallery({"ce": network}, data, methods=["saliency"], images=1)
        assert network.training
        (item,) = make_gallery({"ce": lambda x: x.flatten(1)[:, :8]}, data, methods=["control_center"], images=1)
        assert item.maps["control_center"]["ce"].shape == (32, 32)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"models": {}}, "`models` must hold at least one"),
            ({"images": 0}, "`images` must be at least 1"),
            ({"batch_size": 0}, "`batch_size` must be at least 1"),
            ({"target": "true"}, "`target` must be one of predicted, label"),
            ({"methods": ["gradcamm"]}, "`methods` must be one of .*did you mean 'gradcam'"),
            ({"models": {"ce": nn.Conv2d(3, 1, 1)}}, r"`models` must return logits of shape \(B, K\)"),
        ],
    )
    def test_errors(self, options, message, data, networks):
        with pytest.raises(ValueError, match=message):
            make_gallery(**{"models": networks, "dataset": data, "methods": ["saliency"], **options})

    def test_no_image(self, data, networks):
        with pytest.raises(ValueError, match="`dataset` must hold at least one image"):
            make_gallery(networks, InMemoryDataset(data, []), methods=["saliency"])


class TestItem:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"picture": np.zeros((4, 4))}, r"`picture` must have the shape \(H, W, 3\), but got \(4, 4\)"),
            ({"mask": np.zeros((4, 4))}, r"`mask` must be bool, \(4, 4\)"),
            ({"mask": np.zeros((4, 5), dtype=bool)}, r"`mask` must be bool, \(4, 4\)"),
            ({"maps": {"sib": {"ce": np.zeros((2, 2))}}}, r"`maps\['sib'\]\['ce'\]` must have the shape \(4, 4\)"),
        ],
    )
    def test_errors(self, change, message):
        good = {"picture": np.zeros((4, 4, 3)), "mask": np.zeros((4, 4), dtype=bool), "maps": {}}
        with pytest.raises(ValueError, match=message):
            GalleryItem("d", "s", "m", "i", "c", **{**good, **change})


class TestFile:
    def test_round_trip(self, tmp_path):
        items = draw_gallery(signed=("gradcam",))
        items[0].maps["sib"]["ce"][:] = np.nan
        items[1].maps["sib"]["ce"][:] = 0
        path = save_gallery(items, tmp_path / "new")
        assert path == tmp_path / "new" / "gallery.npz"
        for item, kept in zip(items, load_gallery(tmp_path / "new"), strict=True):
            assert kept.maps.keys() == item.maps.keys()
            assert (kept.dataset, kept.split, kept.model, kept.id) == (item.dataset, item.split, item.model, item.id)
            assert kept.class_name == item.class_name
            assert np.array_equal(kept.mask, item.mask)
            assert np.abs(kept.picture - item.picture).max() <= 0.5 / 255 + 1e-6
            for method, by_training in item.maps.items():
                for training, heatmap in by_training.items():
                    with np.errstate(invalid="ignore"):
                        expected = heatmap / np.abs(heatmap).mean()
                    assert np.allclose(kept.maps[method][training], expected, rtol=1e-3, atol=1e-3, equal_nan=True)

    def test_is_drawn_as_before(self, tmp_path):
        """What is lost in the file is less than what a JPEG loses."""
        (item,) = draw_gallery(images=1)
        save_gallery([item], tmp_path)
        (kept,) = load_gallery(tmp_path)
        before, after = (decode(draw_maps(i, "sib", signed=False).pictures["ce"]).astype(int) for i in (item, kept))
        assert np.abs(before - after).mean() < 1

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no", b"text"])
    def test_a_foreign_file(self, content, tmp_path):
        (tmp_path / "gallery.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"`folder` must hold a gallery\.npz of sibx, but got .*gallery\.npz"):
            load_gallery(tmp_path)

    def test_another_archive(self, tmp_path):
        np.savez(tmp_path / "gallery.npz", notes=np.zeros(2))
        with pytest.raises(ValueError, match=r"`folder` must hold a gallery\.npz of sibx"):
            load_gallery(tmp_path)

    def test_no_file(self, tmp_path):
        with pytest.raises(ValueError, match=r"`folder` must hold gallery\.npz"):
            load_gallery(tmp_path)

    def test_merge(self):
        whole = draw_gallery(images=3)
        parts = [draw_gallery(images=n, trainings=(t,)) for n, t in ((3, "ce"), (2, "sib"))]
        merged = merge_galleries(parts)
        assert [i.id for i in merged] == [i.id for i in whole]
        assert [set(i.maps["sib"]) for i in merged] == [{"ce", "sib"}, {"ce", "sib"}, {"ce"}]
        other = replace(whole[0], split="val")
        assert len(merge_galleries([whole, [other]])) == 4
        assert merge_galleries([]) == []

    def test_merge_of_methods(self):
        parts = [draw_gallery(images=1, methods=(m,)) for m in ("sib", "gradcam")]
        (item,) = merge_galleries(parts)
        assert {m: set(by) for m, by in item.maps.items()} == {"sib": {"ce", "sib"}, "gradcam": {"ce", "sib"}}


class TestDrawing:
    @pytest.mark.parametrize(
        ("shape", "size"), [((16, 16), (SIDE, SIDE)), ((10, 20), (SIDE // 2, SIDE)), ((448, 448), (SIDE, SIDE))]
    )
    def test_size(self, shape, size):
        assert decode(draw_picture(np.zeros((*shape, 3)), np.zeros(shape, dtype=bool))).shape == (*size, 3)

    def test_outline_is_white_on_black_and_nowhere_else(self):
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        mask[50:150, 60:180] = True
        drawn = decode(draw_picture(np.full((SIDE, SIDE, 3), 0.5), mask)).astype(int)
        assert drawn[50, 100:120].min() > 200
        assert drawn[48, 100:120].max() < 80
        assert np.abs(drawn[100, 100] - 128).max() < 5
        assert np.abs(drawn[20, 20] - 128).max() < 5

    def test_maps_beside_each_other_share_a_scale(self):
        """In units of their means, 1 is a flat map; the scale reaches to the top of both."""
        (item,) = draw_gallery(images=1, trainings=("flat", "peak"))
        peak = np.ones((16, 16))
        peak[:4, :4] = 9
        item.maps["sib"].update(flat=np.full((16, 16), 7.0), peak=peak)
        drawing = draw_maps(item, "sib", signed=False)
        assert drawing.scale[:2] == (0, pytest.approx(9 / peak.mean()))
        assert drawing.undefined == ()

    def test_signed_maps_diverge_around_zero(self):
        (item,) = draw_gallery(images=1, signed=("sib",))
        drawing = draw_maps(item, "sib", signed=True)
        assert drawing.scale.low == -drawing.scale.high

    def test_undefined_maps_say_so(self):
        (item,) = draw_gallery(images=1)
        item.maps["sib"]["ce"][:] = np.nan
        drawing = draw_maps(item, "sib", signed=False)
        assert drawing.undefined == ("ce",)
        shown = decode(drawing.pictures["ce"]).astype(int)
        assert (shown.max(2) - shown.min(2)).mean() < 3  # the picture, in gray


class TestPage:
    @pytest.fixture
    def content(self):
        return gather(make_results(images=6, hit=lambda training, image: image != 1))

    def test_a_card_has_its_image_and_its_scores(self, content):
        page = lay_out(content, draw_gallery(), PLENTY)
        rows = content.results.rows
        assert len(page.cards) == 4
        for card in page.cards:
            for method in ("sib", "gradcam"):
                for metric in ("foreground_focus", "deletion"):
                    for training in ("ce", "sib"):
                        found = rows[
                            (rows["image_id"] == card.id)
                            & (rows["method"] == method)
                            & (rows["metric"] == metric)
                            & (rows["training"] == training)
                        ]
                        assert card.scores[method][metric][training] == pytest.approx(found["value"].item(), abs=1e-6)

    def test_a_card_says_how_the_image_is_classified(self, content):
        right, wrong = lay_out(content, draw_gallery(images=2), PLENTY).cards
        assert right.rows[0].cells[0].note == "right, p = 0.90"
        assert wrong.rows[0].cells[0].note == "wrong, p = 0.90"

    def test_an_image_that_was_not_scored(self, content):
        (card,) = lay_out(content, draw_gallery(images=1, name="other-{}"), PLENTY).cards
        assert card.scores == {}
        assert card.rows[0].cells[0].note == ""

    def test_undefined_scores_and_maps(self):
        content = gather(make_results(score=lambda *_: np.nan))
        (item,) = draw_gallery(images=1)
        item.maps["sib"]["ce"][:] = 0
        (card,) = lay_out(content, [item], PLENTY).cards
        assert card.scores["sib"]["deletion"] == {"ce": None, "sib": None}
        assert card.rows[0].cells[0].note == "right, p = 0.90, undefined"
        assert card.rows[0].cells[0].alt.endswith(", undefined")

    def test_choices(self, content):
        choices = {key: values for key, _, values in lay_out(content, draw_gallery(), PLENTY).choices}
        assert [v for v, _ in choices["class"]] == ["", "class 0", "class 1", "class 2", "class 3"]
        assert choices["method"] == [("sib", "VJP-IB (R M)"), ("gradcam", "Grad-CAM")]
        assert [v for v, _ in choices["metric"]] == ["foreground_focus", "deletion"]
        assert [v for v, _ in choices["order"]] == ["", "worst", "best", "gain", "loss"]

    def test_without_a_comparison_there_is_no_gain(self):
        content = gather(make_results(trainings=("ce",)))
        choices = {key: values for key, _, values in lay_out(content, draw_gallery(trainings=("ce",)), PLENTY).choices}
        assert [v for v, _ in choices["order"]] == ["", "worst", "best"]

    def test_signs_anywhere_make_all_scales_of_a_method_diverge(self, content):
        items = draw_gallery(images=2)
        items[1].maps["sib"]["ce"][0, 0] = -1
        colors = [[row.colors for row in card.rows] for card in lay_out(content, items, PLENTY).cards]
        assert colors == [["diverging", "sequential"]] * 2

    def test_what_does_not_fit_is_counted(self, content):
        items = draw_gallery()
        first, second, *_ = lay_out(content, items, PLENTY).cards
        page = lay_out(content, items, first.size + second.size)
        assert (len(page.cards), page.left_out) == (2, 2)
        assert lay_out(content, items, 0).cards == []
