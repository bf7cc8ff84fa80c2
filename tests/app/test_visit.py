"""Requests of one page that overtake each other: the newest wins, whatever comes late."""

from threading import Thread
from types import SimpleNamespace

import pytest
from PIL import Image

from sibx.app._desk import Desk
from sibx.app._visit import NONE, Question, Visit
from tests.helpers.benches import PICTURES, bench

gr = pytest.importorskip("gradio", reason="the workbench needs gradio (extra app)")
from sibx.app._handlers import Explaining  # noqa: E402 - imports Gradio

PLACES = list(range(PICTURES))
STROKE = '[{"size": 0.4, "points": [[0.3, 0.5]]}]'


@pytest.fixture
def desk(tmp_path):
    return Desk(bench(tmp_path))


@pytest.fixture
def visit():
    return Visit(Question(NONE, NONE, "", ("saliency",)))


def pressed(place, press=1):
    return SimpleNamespace(_data={"index": place, "press": press})


def same(part):
    return part == gr.skip()


def meanwhile(monkeypatch, desk, name, act, noted):
    """Let a further request come in while the first one computes; return its answer, once it is there."""
    compute, answers = getattr(desk, name), []

    def slow(*given):
        if not answers:
            answers.append(None)
            thread.start()
            while thread.is_alive() and not noted():
                pass
        return compute(*given)

    thread = Thread(target=lambda: answers.append(act()))
    monkeypatch.setattr(desk, name, slow)

    def answer():
        thread.join()
        return answers[-1]

    return answer


def test_a_second_press_is_not_overwritten_by_the_first(desk, visit, monkeypatch):
    on = Explaining(desk)
    assert "why red" in on.begin(visit)[3]
    second = meanwhile(
        monkeypatch, desk, "why", lambda: on.pick(pressed(3, 2), visit, PLACES, 0), lambda: visit.place == 3
    )
    first = on.pick(pressed(1), visit, PLACES, 0)
    assert all(map(same, first))
    said, eraser, erased, maps, problem = second()
    assert "<h3>&lt;i&gt;3</h3>" in said
    assert eraser.props["picture"] == visit.seen.uri == desk.see(3).uri
    assert (erased, problem) == ("", "")
    assert "why <b>green" in maps


def test_a_press_that_arrives_after_a_later_one_changes_nothing(desk, visit):
    on = Explaining(desk)
    on.begin(visit)
    on.pick(pressed(3, press=8), visit, PLACES, 0)
    for late in (7, 8):
        assert all(map(same, on.pick(pressed(1, late), visit, PLACES, 0)))
        assert visit.place == 3
        assert desk.see(3).uri in on.ask(visit, 0, NONE, "", ["gradcam"])[0]
    assert "<h3>&lt;i&gt;1</h3>" in on.pick(pressed(1, press=9), visit, PLACES, 0)[0]


def test_a_question_during_a_press_is_answered_for_the_new_picture(desk, visit, monkeypatch):
    on = Explaining(desk)
    on.begin(visit)
    asked = meanwhile(
        monkeypatch,
        desk,
        "why",
        lambda: on.ask(visit, 0, 1, "", ["gradcam"]),
        lambda: visit.question.methods == ("gradcam",),
    )
    said, _, _, maps, problem = on.pick(pressed(1), visit, PLACES, 0)
    assert "<h3>&lt;i&gt;1</h3>" in said
    assert same(maps)
    assert same(problem)
    maps, problem = asked()
    assert "why red rather than <b>green" in maps
    assert desk.see(1).uri in maps
    assert problem == ""


def test_strokes_on_a_picture_that_is_gone_say_nothing(desk, visit, monkeypatch):
    on = Explaining(desk)
    on.begin(visit)
    before, _ = on.rub(visit, STROKE, "mean", NONE)
    assert "<figure" in before
    second = meanwhile(
        monkeypatch, desk, "without", lambda: on.rub(visit, "[]", "mean", NONE), lambda: visit.rubbed[0] == "[]"
    )
    assert all(map(same, on.rub(visit, STROKE, "mean", NONE)))
    assert second() == ("", "")


def test_a_picture_that_cannot_be_read_leaves_the_one_before(desk, visit, monkeypatch, tmp_path):
    on = Explaining(desk)
    on.begin(visit)
    look = desk.see

    def broken(place):
        if place == 2:
            raise OSError("picture 2 is broken")
        return look(place)

    monkeypatch.setattr(desk, "see", broken)
    second = meanwhile(
        monkeypatch, desk, "why", lambda: on.pick(pressed(2, 2), visit, PLACES, 0), lambda: False
    )  # while another one is explained, which would hide the problem
    assert all(map(same, on.pick(pressed(1), visit, PLACES, 0)))
    *others, problem = second()
    assert all(map(same, others))
    assert "picture 2 is broken" in problem
    assert desk.see(0).uri in on.ask(visit, 0, NONE, "", ["gradcam"])[0]

    Image.new("RGB", (30, 20), "red").save(tmp_path / "leaf.png")
    *_, notice, places, page = on.drop([str(tmp_path / "leaf.png")], visit, PLACES)
    assert (notice, page, places[1:]) == ("", 0, PLACES)
    dropped = visit.seen
    on.ask(visit, 1, NONE, "", ["gradcam"])
    assert visit.seen is dropped is not None
    assert dropped.picture is places[0]


def test_a_page_that_the_server_has_forgotten_says_so(desk, visit):
    on = Explaining(desk)
    for *_, problem in (
        on.pick(pressed(1), visit, PLACES, 0),
        on.ask(visit, 0, NONE, "", ["gradcam"]),
        on.rub(visit, STROKE, "mean", NONE),
        on.drop(["leaf.png"], visit, PLACES)[:5],
    ):
        assert "reload it" in problem


def test_a_page_whose_first_picture_cannot_be_read_shows_another_one(desk, visit, monkeypatch):
    on, look = Explaining(desk), desk.see

    def broken(place):
        if place == 0:
            raise OSError("picture 0 is broken")
        return look(place)

    monkeypatch.setattr(desk, "see", broken)
    assert "picture 0 is broken" in on.begin(visit)[-1]
    assert "picture 0 is broken" in on.ask(visit, 0, NONE, "", ["gradcam"])[-1]
    assert all(map(same, on.rub(visit, STROKE, "mean", NONE)))
    said, *_, problem = on.pick(pressed(1), visit, PLACES, 0)
    assert "<h3>&lt;i&gt;1</h3>" in said
    assert problem == ""
