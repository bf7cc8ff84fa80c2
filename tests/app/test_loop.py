"""The workbench's loop in a real browser: draw, fine-tune, prove; the server is killed on the way."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from sibx.app._corrections import Corrections, corrections_folder
from sibx.app._lesson import TRAININGS
from sibx.app._processes import read_state
from sibx.app._strokes import HERE, Box, Brush, labels_of
from sibx.datasets import SyntheticDataset

page = pytest.importorskip("tests.app.test_page", reason="the browser tests need gradio and selenium")
Keys, chromium = page.Keys.Keys, page.chromium
SIZE = 32
TRAINED = 240  # seconds that the three trainings and the report may take on a busy machine


class Server:
    """A server of its own process, which can be killed and started again."""

    def __init__(self, folder):
        self.out = folder / "out"
        words = [sys.executable, "-m", "tests.helpers.taught_bench", str(folder)]
        home, pipe = Path(__file__).parents[2], subprocess.PIPE
        self.parent = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, cwd=home, start_new_session=True)
        self.start()

    def start(self):
        self.parent.stdin.write("\n")
        self.parent.stdin.flush()
        number, self.address = self.parent.stdout.readline().split()
        self.process = int(number)

    def kill(self):
        os.kill(self.process, signal.SIGKILL)

    def end(self):
        self.kill()
        self.parent.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Server(tmp_path_factory.mktemp("loop"))
    yield found
    found.end()
    for path in (found.out / "trainings").glob("*"):
        if read_state(path).status == "running":
            os.kill(read_state(path).process, signal.SIGKILL)


class Loop(page.Page):
    """What these tests do with the page."""

    def tab(self, name):
        self.until(lambda: self.run("return document.querySelector('button[role=tab]')"))
        script = "[...document.querySelectorAll('button[role=tab]')].find((b) => b.textContent.trim() === arguments[0])"
        self.until(lambda: self.run(f"const b = {script}; b?.click(); return b?.ariaSelected === 'true'", name))

    def board(self, name):
        return self.run(f"return document.querySelector('#easel [data-version], #easel[data-version]')?.dataset.{name}")

    def kept(self, version):
        self.until(lambda: self.board("version") == str(version))

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def click(self, selector):
        self.until(lambda: self.all(selector) and self.one(selector).is_displayed())
        self.run("document.querySelector(arguments[0]).click()", selector)

    def number(self, label, value):
        box = self.one(f"input[aria-label='{label}']")
        self.run("arguments[0].scrollIntoView()", box)
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(str(value), Keys.TAB)

    def fits(self):
        return self.run("return document.documentElement.scrollWidth <= innerWidth")

    def narrow(self):
        """Look at the same tab on a phone, and then on a desk again."""
        for width, height in (page.PHONE, page.DESK):
            screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
            self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            self.until(self.fits)


@pytest.fixture
def loop(chromium, server):
    yield Loop(chromium, server.address)
    lines = [line["message"] for line in chromium.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in lines if "net::ERR_" not in line] == [], "the console, but for a server that was killed"


def test_no_choice_is_dropped_while_an_answer_is_awaited(server):
    """Gradio drops a second one, and what was to follow it, unless told otherwise: the page would say what is not."""
    events = json.load(urlopen(server.address + "config"))["dependencies"]
    chosen = {"input", "change", "select", "then"}
    late = [e for e in events if e["trigger_mode"] == "once" and chosen & {name for _, name in e["targets"]}]
    assert [e["api_name"] for e in late] == []


def test_what_a_part_shows_is_answered_to_one_event(server):
    """Answers of two events overtake each other: the page would show another training than it says."""
    config = json.load(urlopen(server.address + "config"))
    names = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
    asked = Counter(names[part] for event in config["dependencies"] for part in event["outputs"])
    parts = ("curves", "epoch", "maps", "stop", "go-on", "open-report", "download-report", "download-network", "report")
    assert [asked[part] for part in parts] == [1] * len(parts)


def corrections(server):
    return Corrections(corrections_folder(server.out), SyntheticDataset("train", SIZE))


def on_disk(server, index):
    kept = corrections(server)
    name = kept.data[index].id
    return kept.sheet(index), np.asarray(Image.open(corrections_folder(server.out) / "masks" / f"{name}.png")) > 0


def test_what_is_drawn_with_keys_and_pointer_is_the_mask_on_the_disk(loop, server):
    loop.open()
    loop.tab("Correct")
    loop.kept(0)
    board = loop.one("#easel canvas")
    board.send_keys("x", *[Keys.ARROW_UP] * 6, Keys.ENTER, Keys.SHIFT + Keys.ARROW_LEFT, Keys.NULL)
    board.send_keys(*[Keys.ARROW_DOWN] * 9, Keys.ENTER)
    loop.kept(1)
    sheet, mask = on_disk(server, 0)
    assert sheet.strokes == (Box(True, [(16, 10), (6, 19)]),)
    assert mask[10:19, 6:16].all()
    assert mask.sum() == 90

    board.send_keys("b", "n")
    chain = page.webdriver.ActionChains(loop.browser)
    chain.move_to_element_with_offset(board, -60, -60).click_and_hold().move_by_offset(30, 60).release().perform()
    loop.kept(2)
    sheet, mask = on_disk(server, 0)
    assert isinstance(sheet.strokes[1], Brush)
    assert not sheet.strokes[1].here
    assert (mask == (labels_of(sheet.strokes, (SIZE, SIZE)) == HERE)).all()
    assert mask.sum() < 90
    assert "1 corrected" in loop.text("#easel .of")
    board.send_keys(Keys.CONTROL + "z")
    loop.kept(3)
    assert on_disk(server, 0)[1].sum() == 90

    first = loop.browser.current_window_handle
    loop.browser.switch_to.new_window("tab")  # somebody else, who draws on the same picture
    loop.open()
    loop.tab("Correct")
    loop.kept(3)
    loop.one("#easel canvas").send_keys(Keys.ENTER)
    loop.kept(4)
    loop.browser.close()
    loop.browser.switch_to.window(first)
    board.send_keys("h", Keys.ENTER)
    loop.until(lambda: "Somebody else" in loop.text("#easel .problem"))
    loop.kept(4)
    assert len(on_disk(server, 0)[0].strokes) == 2
    loop.narrow()


AT_ONCE = """
const [board, ...acts] = arguments, one = (name) => document.querySelector(`#easel ${name}`);
const left = board.getBoundingClientRect().left + 9;
const at = (type) => new PointerEvent(type, {clientX: left, clientY: 0, pointerId: 1});
board.setPointerCapture = () => {};
for (const act of acts)
  if (act === "draw") ["pointerdown", "pointermove", "pointerup"].forEach((type) => board.dispatchEvent(at(type)));
  else one(act).click();
"""


def test_presses_while_a_picture_is_awaited(loop, server):
    """Each of them counts, and nothing is drawn on a picture that is not seen."""
    loop.open()
    loop.tab("Correct")
    loop.until(lambda: loop.board("picture") == "0")
    board, undo = loop.one("#easel canvas"), loop.one("#easel .undo")
    kept = corrections(server)
    before = len(kept.sheet(0).strokes)
    loop.run(AT_ONCE, board, "draw", ".next", "draw", ".undo", ".next", "draw")
    loop.until(lambda: loop.board("picture") == "2" and loop.one("#easel .number").get_attribute("value") == "3")
    assert not undo.is_enabled()
    loop.run(AT_ONCE, board, ".back", ".next", ".back")
    loop.until(lambda: loop.board("picture") == "1")
    assert not undo.is_enabled()
    loop.run(AT_ONCE, board, ".back")
    loop.until(lambda: loop.board("picture") == "0")
    assert len(kept.sheet(0).strokes) == before + 1
    loop.run(AT_ONCE, board, ".undo")
    loop.until(lambda: len(kept.sheet(0).strokes) == before)


def test_what_was_asked_before_somebody_elses_stroke_was_seen_does_not_touch_it(loop, server):
    loop.open()
    loop.tab("Correct")
    loop.until(lambda: loop.board("picture") == "0")
    board, kept = loop.one("#easel canvas"), corrections(server)
    version = kept.sheet(0).version + 1
    loop.run(AT_ONCE, board, "draw")
    loop.kept(version)
    before = kept.sheet(0).strokes
    kept.add(0, Box(True, [(0, 0), (5, 5)]), version)
    loop.run(AT_ONCE, board, ".undo", ".undo", "draw")
    loop.until(lambda: "Somebody else" in loop.text("#easel .problem"))
    loop.run(AT_ONCE, board, ".next")
    loop.until(lambda: loop.board("picture") == "1")  # nothing that was asked is awaited any longer
    assert kept.sheet(0).strokes == (*before, Box(True, [(0, 0), (5, 5)]))
    loop.run(AT_ONCE, board, ".back")
    loop.until(lambda: loop.board("picture") == "0")
    for left in (len(before), len(before) - 1):
        loop.run(AT_ONCE, board, ".undo")
        loop.until(lambda left=left: len(kept.sheet(0).strokes) == left)


def test_a_training_outlives_the_server_and_is_judged(loop, server):
    loop.open()
    loop.tab("Correct")
    loop.until(lambda: loop.board("version"))
    drawn = int(loop.board("version")) + 1  # by another test, if it ran on this server
    loop.one("#easel canvas").send_keys(Keys.ENTER)
    loop.kept(drawn)
    loop.tab("Fine-tune")
    loop.until(lambda: "1 corrected picture." in loop.text("#corrected"))
    for label, value in {"Epochs": 1, "Training pictures": 32, "Held-out pictures": 9}.items():
        loop.number(label, value)
    loop.click("button.label-wrap")  # the commands
    loop.until(lambda: all(words in loop.text("#commands") for words in ("--epochs 1 ", "--batch-size 16 ")))
    typed = loop.text("#commands pre").splitlines()
    loop.click("#start")
    folder = server.out / "trainings" / "1"
    loop.until(lambda: read_state(folder).process)
    loop.run(AT_ONCE, loop.one("#easel canvas"), ".next")
    loop.until(lambda: loop.board("picture") == "1")
    assert read_state(folder).status == "running", "no picture waits for a training"
    server.kill()
    assert read_state(folder).status == "running"
    server.start()
    loop.address = server.address
    loop.open()
    loop.tab("Fine-tune")
    loop.until(lambda: "step" in loop.text("#status"))
    loop.tab("Correct")
    loop.kept(drawn)  # no stroke is lost
    loop.one("#easel canvas").send_keys(Keys.CONTROL + "z")
    loop.kept(drawn + 1)
    loop.tab("Fine-tune")
    loop.until(lambda: read_state(folder).status != "running", TRAINED)
    loop.until(lambda: "Finished" in loop.text("#status"))
    said = (folder / "log.txt").read_text()
    assert [line[2:] for line in said.splitlines() if line.startswith("$ ")] == typed
    loop.until(lambda: len(loop.all("#curves img")) == 3)
    loop.until(lambda: len(loop.all("#maps img")) == len(TRAININGS))

    loop.tab("Prove")
    loop.click("#look-again")
    loop.until(lambda: "shown" in loop.text("#verdict").lower())
    assert "Worst group" in loop.text("#verdict")
    loop.click("#open-report")
    loop.until(lambda: loop.all("#report iframe"))
    loop.browser.switch_to.frame(loop.one("#report iframe"))
    loop.until(lambda: "sib against ce" in loop.text("body"))
    loop.browser.switch_to.default_content()
    assert loop.fits()
    loop.narrow()
