"""Requests of one page that overtake each other: the newest wins, whatever comes late."""

import json
import re
from threading import Thread
from types import SimpleNamespace

import pytest
from PIL import Image

from sibx.app._desk import AT_A_TIME, Desk
from sibx.app._visit import NONE, Question, Visit
from tests.helpers.benches import PICTURES, WRONG, bench

gr = pytest.importorskip("gradio", reason="the workbench needs gradio (extra app)")
handlers = pytest.importorskip("sibx.app._handlers")
Explaining = handlers.Explaining

PLACES = list(range(PICTURES))


@pytest.fixture
def desk(tmp_path):
    return Desk(bench(tmp_path))


@pytest.fixture
def visit():
    return Visit(Question(NONE, NONE, "", ("saliency",)), PLACES)


def pressed(place, press=1):
    return SimpleNamespace(_data={"place": place, "press": press})


def stroke(seen):
    return json.dumps([{"size": 0.4, "points": [[0.3, 0.5]], "of": seen.number}])


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
    second = meanwhile(monkeypatch, desk, "why", lambda: on.pick(pressed(3, 2), visit), lambda: visit.place == 3)
    first = on.pick(pressed(1), visit)
    assert all(map(same, first))
    said, eraser, erased, maps, problem = second()
    assert "<h3>&lt;i&gt;3</h3>" in said
    assert eraser.props["picture"] == visit.seen.uri == desk.see(3).uri
    assert (erased, problem) == ("", "")
    assert "why <b>green" in maps


def test_a_press_that_arrives_after_a_later_one_changes_nothing(desk, visit):
    on = Explaining(desk)
    on.begin(visit)
    on.pick(pressed(3, press=8), visit)
    for late in (7, 8):
        assert all(map(same, on.pick(pressed(1, late), visit)))
        assert visit.place == 3
        assert desk.see(3).uri in on.ask(visit, 0, NONE, "", ["gradcam"])[0]
    assert "<h3>&lt;i&gt;1</h3>" in on.pick(pressed(1, press=9), visit)[0]


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
    said, _, _, maps, problem = on.pick(pressed(1), visit)
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
    first = stroke(visit.seen)
    assert "<figure" in on.rub(visit, first, "mean", NONE)
    second = meanwhile(
        monkeypatch, desk, "without", lambda: on.rub(visit, "[]", "mean", NONE), lambda: visit.rubbed[0] == "[]"
    )
    assert same(on.rub(visit, first, "mean", NONE))
    assert second() == ""
    on.pick(pressed(1), visit)
    assert on.rub(visit, first, "mean", NONE) == "", "drawn before the page had the new picture"
    assert "<figure" in on.rub(visit, stroke(visit.seen), "mean", NONE)
    assert 'role="alert"' in on.rub(visit, "[", "mean", NONE)


def test_the_picture_that_is_shown_keeps_its_strokes_if_it_is_pressed_again(desk, visit):
    on = Explaining(desk)
    on.begin(visit)
    _, eraser, erased, *_ = on.pick(pressed(0), visit)
    assert same(eraser)
    assert same(erased)
    _, eraser, erased, *_ = on.pick(pressed(2, 2), visit)
    assert (eraser.props["of"], erased) == (visit.seen.number, "")


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
        monkeypatch, desk, "why", lambda: on.pick(pressed(2, 2), visit), lambda: False
    )  # while another one is explained, which would hide the problem
    assert all(map(same, on.pick(pressed(1), visit)))
    *others, problem = second()
    assert all(map(same, others))
    assert "picture 2 is broken" in problem
    assert desk.see(0).uri in on.ask(visit, 0, NONE, "", ["gradcam"])[0]

    Image.new("RGB", (30, 20), "red").save(tmp_path / "leaf.png")
    *_, notice, _ = on.drop([str(tmp_path / "leaf.png")], visit)
    assert notice == ""
    assert visit.places[1:] == PLACES
    dropped = visit.seen
    on.ask(visit, 1, NONE, "", ["gradcam"])
    assert visit.seen is dropped is not None
    assert dropped.picture is visit.places[0]


def test_a_page_that_the_server_has_forgotten_says_so(desk, visit):
    on = Explaining(desk)
    for *_, problem in (
        on.pick(pressed(1), visit),
        on.ask(visit, 0, NONE, "", ["gradcam"]),
        [on.rub(visit, "[]", "mean", NONE)],
        on.drop(["leaf.png"], visit)[:5],
    ):
        assert "reload it" in problem


def test_a_page_whose_first_picture_cannot_be_read_shows_another_one(desk, visit, monkeypatch):
    on, look = Explaining(desk), desk.see

    def broken(place):
        if place == 0:
            raise OSError("picture 0 is broken")
        return look(place)

    monkeypatch.setattr(desk, "see", broken)
    assert "picture 0 is broken" in on.begin(visit)[-2]
    assert "picture 0 is broken" in on.ask(visit, 0, NONE, "", ["gradcam"])[-1]
    assert same(on.rub(visit, "[]", "mean", NONE))
    said, *_, problem = on.pick(pressed(1), visit)
    assert "<h3>&lt;i&gt;1</h3>" in said
    assert problem == ""


def names(strip):
    return re.findall(r'title="([^"]*)"', strip)


def numbers(strip):
    return [int(number) for number in re.findall(r'data-place="(.*?)"', strip)]


def dropped(folder, *colors):
    for color in colors:
        Image.new("RGB", (30, 20), color).save(folder / f"{color}.png")
    return [str(folder / f"{color}.png") for color in colors]


def test_a_press_is_for_the_picture_that_is_seen_whatever_came_to_its_place(desk, visit, tmp_path):
    on = Explaining(desk)
    on.begin(visit)
    seen = on.strip(visit)
    assert numbers(seen) == PLACES[:AT_A_TIME]
    on.more(visit)
    assert numbers(on.strip(visit)) == PLACES[AT_A_TIME:]
    assert "<h3>&lt;i&gt;3</h3>" in on.pick(pressed(numbers(seen)[3]), visit)[0]
    (*_, (said, _)) = on.sort(visit, "wrong first")
    assert (said, numbers(on.strip(visit))[0]) == ("", WRONG)
    assert "<h3>&lt;i&gt;4</h3>" in on.pick(pressed(numbers(seen)[4], 2), visit)[0]
    on.drop(dropped(tmp_path, "red"), visit)
    seen = on.strip(visit)
    on.drop(dropped(tmp_path, "red", "green", "blue"), visit)
    assert "<h3>red.png</h3>" in on.pick(pressed(numbers(seen)[0], 3), visit)[0]
    for nowhere in (-4, PICTURES):
        assert all(map(same, on.pick(pressed(nowhere, 4), visit)))


def test_every_press_on_more_counts_up_to_the_last_page(desk, visit):
    visit.order = PLACES * 3
    on = Explaining(desk)
    asked = [on.more(visit).props["asked"], on.more(visit).props["asked"]]
    assert (visit.page, len(set(asked))) == (2, 2)
    for _ in range(5):
        on.more(visit)
    assert visit.page == (3 * PICTURES - 1) // AT_A_TIME
    for _ in range(9):
        on.back(visit)
    assert visit.page == 0


def test_dropped_pictures_come_once_and_stay_when_the_others_are_sorted(desk, visit, tmp_path):
    on = Explaining(desk)
    on.begin(visit)
    sorting = on.sort(visit, "wrong first")
    next(sorting)
    on.drop(dropped(tmp_path, "red"), visit)
    said, *_ = on.drop(dropped(tmp_path, "red", "green"), visit)  # the page sends all that it has
    assert "<h3>green.png</h3>" in said
    list(sorting)
    assert names(on.strip(visit))[:3] == ["green.png", "red.png", f"&lt;i&gt;{WRONG}"]


def test_a_press_while_a_dropped_picture_is_read_is_answered(desk, visit, monkeypatch, tmp_path):
    on = Explaining(desk)
    on.begin(visit)
    read = handlers.read_dropped

    def slow(file):
        on.pick(pressed(3), visit)
        return read(file)

    monkeypatch.setattr(handlers, "read_dropped", slow)
    shown = on.drop(dropped(tmp_path, "red"), visit)[:5]
    assert all(map(same, shown))
    assert visit.place == 3
    assert names(on.strip(visit))[0] == "red.png"
