"""What the workbench answers, without a browser."""

import base64
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import sibx
from sibx.app import build_app
from sibx.app._cells import predictions_html
from sibx.app._desk import Desk
from sibx.app._eraser import FILLS, draw_strokes, erase, read_strokes
from sibx.app._opinions import ask, explain, layers_of, offered_methods
from sibx.app._picked import picture_of, read_dropped
from sibx.models import contrast
from tests.helpers.benches import CLASSES, PICTURES, SIDE, WRONG, Colors, Squares, bench, network

OBJECT = json.dumps([{"size": 0.45, "points": [[0.32, 0.56], [0.32, 0.57]], "of": 1}])  # over the red or green square
BLUE = json.dumps([{"size": 0.4, "points": [[0.7, 0.1]], "of": 1}])


@pytest.fixture
def desk(tmp_path):
    return Desk(bench(tmp_path))


class TestWorkbench:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"networks": ()}, "`networks` must be one or two of different names"),
            ({"networks": (network("a", 0), network("a", 1))}, "of different names"),
            ({"networks": tuple(network(n, 0) for n in "abc")}, "be one, or two that are compared"),
            ({"methods": ("nothing",)}, "nothing"),
            ({"data": [1]}, "`data` must be a data set of sibx"),
        ],
    )
    def test_bad_input(self, changes, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            bench(tmp_path, **changes)

    def test_without_gradio_it_is_said_how_to_get_it(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "gradio", None)
        with pytest.raises(ImportError, match=r"pip install 'sibx\[app\]'"):
            build_app(bench(tmp_path))


class TestExplaining:
    def test_maps_are_those_of_explain_in_units_of_a_flat_map(self):
        picture, net = picture_of(Squares(), 0), network("before", 0.5)
        opinion = ask(net, picture.pixels)
        images = Squares()[0].image[None]
        assert torch.allclose(opinion.rates, Colors(0.5)(images).softmax(1)[0].double(), atol=1e-6)
        for rival, model in ((None, net.eye.model), (1, contrast(net.eye.model, 1))):
            (why,) = explain(opinion, ["saliency"], 0, rival)
            expected = sibx.explain(model, images, "saliency", 0)[0, 0].detach()
            assert np.allclose(why.values, (expected / expected.mean()).numpy(), atol=1e-5)

    def test_a_method_that_does_not_apply_leaves_the_others(self):
        opinion = ask(network("before", 0.5), picture_of(Squares(), 0).pixels)
        transformer, cam = explain(opinion, ["rollout", "gradcam"], 0)
        assert transformer.values is None
        assert transformer.problem
        assert cam.values.shape == (SIDE, SIDE)

    @pytest.mark.parametrize(("target", "rival", "word"), [(2, None, "target"), (0, -1, "rival"), (0, 0, "rival")])
    def test_bad_classes(self, target, rival, word):
        opinion = ask(network("before", 0.5), picture_of(Squares(), 0).pixels)
        with pytest.raises(ValueError, match=f"`{word}` must be"):
            explain(opinion, ["saliency"], target, rival)

    def test_a_picture_of_another_shape_is_seen_whole(self):
        pixels = torch.rand(3, 40, 90, generator=torch.Generator().manual_seed(0))
        opinion = ask(network("before", 0.5), pixels)
        assert explain(opinion, ["gradcam"], 0)[0].values.shape == (SIDE, 144)
        assert layers_of(opinion.network, opinion.look.images) == ["features:relu"]

    def test_what_has_to_see_a_data_set_first_is_not_offered(self):
        assert not {"iba"} & set(offered_methods().values())
        assert "sib" in offered_methods().values()


class TestEraser:
    def test_strokes_are_round_and_where_they_were_drawn(self):
        (stroke,) = read_strokes('[{"size": 0.25, "points": [[0.25, 0.5], [0.75, 0.5]], "of": 1}]')
        drawn = draw_strokes([stroke], 80, 80)
        y, x = np.mgrid[:80, :80] + 0.5
        away = np.hypot(x - x.clip(20, 60), y - 40)  # from the line
        assert drawn[away < 9].all()
        assert not drawn[away > 11.5].any()

    @pytest.mark.parametrize("fill", FILLS)
    def test_without_the_object_the_class_is_less_probable(self, fill, desk):
        for opinion in desk.see(0).opinions:
            part, rates = erase(opinion, read_strokes(OBJECT), fill)
            assert rates[0] < opinion.rates[0] - 0.02  # the blurred square is still a little red
            kept = ~draw_strokes(read_strokes(OBJECT), SIDE, SIDE)
            assert torch.equal(part[:, kept], opinion.look.seen.pixels[:, kept])

    def test_only_the_network_with_the_shortcut_needs_the_blue_square(self, desk):
        before, after = desk.see(12).opinions
        assert erase(before, read_strokes(BLUE), "mean")[1][0] < before.rates[0] - 0.01
        assert erase(after, read_strokes(BLUE), "mean")[1][0] == pytest.approx(float(after.rates[0]), abs=1e-6)

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[1]",
            '[{"size": 1}]',
            '[{"size": 1, "points": [[0, 0]]}]',
            '[{"size": NaN, "points": [[0, 0]], "of": 1}]',
            '[{"size": 1, "points": [], "of": 1}]',
        ],
    )
    def test_bad_strokes(self, text):
        with pytest.raises(ValueError, match="`strokes` must"):
            read_strokes(text)

    def test_too_many_points(self, monkeypatch):
        monkeypatch.setattr("sibx.app._eraser.MOST_POINTS", 3)
        with pytest.raises(ValueError, match="at most 3 points"):
            read_strokes(json.dumps([{"size": 0.1, "points": [[0, 0]] * 4, "of": 1}]))

    def test_unknown_fill(self, desk):
        with pytest.raises(ValueError, match="`fill` must be"):
            desk.without(desk.see(0), read_strokes(OBJECT), "white", None)
        assert desk.without(desk.see(0), [], "mean", None) == ""


class TestPictures:
    def test_what_is_dropped(self, tmp_path):
        Image.new("RGB", (7, 5), "red").save(tmp_path / "a.png")
        picture = read_dropped(tmp_path / "a.png")
        assert (picture.name, picture.pixels.shape, picture.label) == ("a.png", (3, 5, 7), -1)

    @pytest.mark.parametrize(("content", "reason"), [(b"no picture", "is no picture"), (None, "pixels, more than")])
    def test_what_is_refused_is_named_without_its_folder(self, content, reason, tmp_path):
        file = tmp_path / "bad.png"
        if content is None:
            Image.new("1", (10_000, 5_001)).save(file)
        else:
            file.write_bytes(content)
        with pytest.raises(OSError, match=reason) as raised:
            read_dropped(file)
        assert "bad.png" in str(raised.value)
        assert str(tmp_path) not in str(raised.value)


class TestSurvey:
    def test_orders(self, desk):
        survey = desk.survey
        assert survey.orders() == ["as they come", "wrong first", "lowest focus", "largest gain"]
        assert list(survey.look())[-1] == 1
        assert survey.order("as they come") == list(range(PICTURES))
        assert survey.order("wrong first")[0] == WRONG
        focus = [survey.found(i).focus for i in survey.order("lowest focus")]
        assert focus == sorted(focus)
        gains = [after - before for before, after in (survey.found(i).focus for i in survey.order("largest gain"))]
        assert gains == sorted(gains, reverse=True)
        assert gains[0] > 0.1

    def test_a_picture_is_looked_at_once_and_a_broken_one_is_named(self, tmp_path):
        read = []

        class Counted(Squares):
            def __getitem__(self, index):
                read.append(index)
                if index == 3:
                    raise OSError("picture 3 is broken")
                return super().__getitem__(index)

        desk = Desk(bench(tmp_path, data=Counted()))
        for _ in range(2):
            list(desk.survey.look())
        assert read == list(range(PICTURES))
        assert desk.survey.problems() == ["picture 3 is broken"]
        assert 3 not in desk.survey.order("lowest focus")
        assert "cannot be read" in desk.strip(range(PICTURES), 0)

    def test_what_was_found_is_kept_for_these_networks(self, tmp_path):
        first = Desk(bench(tmp_path)).survey
        list(first.look())
        again, asked = Desk(bench(tmp_path)).survey, []
        with again.networks[0].eye.model.register_forward_hook(lambda *_: asked.append(1)):
            list(again.look())
        assert asked == []
        assert [str(again.found(i)) for i in range(PICTURES)] == [str(first.found(i)) for i in range(PICTURES)]
        (file,) = (tmp_path / "looked_at").iterdir()
        other = Desk(bench(tmp_path, networks=(network("before", 0.5), network("after", 0.25)))).survey
        list(other.look())
        assert other.found(3) != first.found(3)
        for text in ("{", "null"):
            file.write_text(text)
            broken = Desk(bench(tmp_path)).survey
            list(broken.look())
            assert broken.found(3) == first.found(3)

    def test_what_cannot_be_kept_is_said(self, tmp_path):
        (tmp_path / "looked_at").write_text("no folder")
        survey = Desk(bench(tmp_path)).survey
        assert list(survey.look())[-1] == 1
        assert survey.order("wrong first")[0] == WRONG
        (problem,) = survey.problems()
        assert "is not kept for the next start" in problem

    def test_orders_that_nothing_is_known_for_are_not_offered(self, tmp_path):
        class Bare(Squares):
            classes, no_masks = ("other", "names"), "nobody drew any"

        desk = Desk(bench(tmp_path, data=Bare(), networks=(network("one", 0),)))
        assert desk.survey.orders() == ["as they come"]


class TestWhatThePageIsTold:
    def test_maps(self, desk):
        seen = desk.see(0)
        told = json.loads(desk.why(seen, None, None, None, ["saliency", "control_center"]))
        assert [row["title"].split(":")[0] for row in told["rows"]] == ["before", "after"]
        for row, opinion in zip(told["rows"], seen.opinions, strict=True):
            for cell, why in zip(row["cells"], explain(opinion, ["saliency", "control_center"], 0), strict=True):
                codes = np.frombuffer(base64.b64decode(cell["data"]), "<u2").reshape(cell["height"], cell["width"])
                assert np.allclose(codes / 65535 * cell["high"], why.values, atol=cell["high"] / 65535)
        with pytest.raises(ValueError, match="`methods` must name at least one"):
            desk.why(seen, None, None, None, [])

    def test_names_are_escaped(self, desk):
        seen = desk.see(1)
        for html in (desk.said(seen), desk.strip([0, 1], 0), desk.without(seen, read_strokes(OBJECT), "mean", None)):
            assert "<i>1" not in html
            assert "<b>green" not in html
        assert "&lt;b&gt;green" in predictions_html(seen.picture, seen.opinions, 1)
        assert CLASSES[1] in json.loads(desk.why(seen, 1, 0, None, ["saliency"]))["rows"][0]["title"]  # set as text


def test_what_was_looked_at_ahead_is_not_asked_again(desk):
    asked = []
    model = desk.networks[0].eye.model
    handle = model.register_forward_hook(lambda *_: asked.append(1))
    desk.look_ahead(range(PICTURES), 1)
    assert len(asked) == PICTURES - 12
    assert [desk.see(place).picture.name for place in (12, 13)] == ["<i>12", "<i>13"]
    assert len(asked) == PICTURES - 12
    handle.remove()
