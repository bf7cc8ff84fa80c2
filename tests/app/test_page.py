"""The workbench in a real browser: explain, compare, sort, erase, drop; nothing asked of another machine."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from tests.helpers.benches import PICTURES, WRONG
from tests.helpers.chromium import opened

pytest.importorskip("gradio", reason="the workbench needs gradio (extra app)")
webdriver = pytest.importorskip("selenium.webdriver", reason="the browser tests need selenium (extra dev)")
By, Keys = (pytest.importorskip(f"selenium.webdriver.common.{m}") for m in ("by", "keys"))
Wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
Stale = pytest.importorskip("selenium.common.exceptions").StaleElementReferenceException
CSS = By.By.CSS_SELECTOR
DESK, PHONE = (1280, 900), (390, 844)
PATIENCE = 60  # seconds that a busy machine may take


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own process, which starts while Chromium does, and is ended after all tests."""
    words = [sys.executable, "-m", "tests.helpers.workbench_server", str(tmp_path_factory.mktemp("bench"))]
    started = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    yield started
    started.terminate()
    assert started.communicate(timeout=PATIENCE)[0] == "", "hosts that the server asked"


@pytest.fixture(scope="module")
def chromium(server, tmp_path_factory):
    """A driver of Chromium that notes every request; without one the tests are skipped."""
    with opened(tmp_path_factory.mktemp("profile"), ("browser", "performance")) as browser:
        yield browser


@pytest.fixture(scope="module")
def address(server, chromium):
    return server.stdout.readline().strip()


class Page:
    """What a test does with the page."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address

    def open(self, size=DESK):
        width, height = size
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.browser.get(self.address)
        self.until(lambda: self.drawn() and self.erasable() and self.pictures())
        return self

    def until(self, true, seconds=PATIENCE):
        """Wait for it; a part of the page that is made anew while it is looked at is looked at again."""
        return Wait(self.browser, seconds, 0.05, [Stale]).until(lambda _: true())

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def one(self, selector):
        return self.browser.find_element(CSS, selector)

    def all(self, selector):
        return self.browser.find_elements(CSS, selector)

    def drawn(self):
        """The number of the answer whose maps are seen, None before the first."""
        return self.run("return document.querySelector('#viewer [data-drawn]')?.dataset.drawn")

    def drawn_after(self, act):
        before = self.drawn()
        act()
        self.until(lambda: self.drawn() != before)

    def erasable(self):
        """The number of the picture that the eraser shows, None before the first."""
        return self.run("return document.querySelector('#eraser [data-of]')?.dataset.of")

    def seen_after(self, act):
        """Another picture than before, in all parts of the page."""
        before = self.erasable()
        self.drawn_after(act)
        self.until(lambda: self.erasable() != before)

    def pictures(self):
        """The names of the thumbnails."""
        return self.run("return [...document.querySelectorAll('#pictures button')].map((b) => b.title)")

    def titles(self):
        return self.run("return [...document.querySelectorAll('#viewer h3')].map((h) => h.innerText)")

    def choose(self, label, text):
        """Choose an entry of a dropdown by typing it."""
        box = self.one(f"input[aria-label='{label}']")
        box.click()
        box.send_keys(Keys.Keys.CONTROL, "a")
        box.send_keys(text, Keys.Keys.ENTER)

    def erased(self):
        """Probabilities before and after of every network."""
        found = "[...document.querySelectorAll('#erased figure')].map((f) => [f.dataset.before, f.dataset.after])"
        return [tuple(map(float, pair)) for pair in self.run(f"return {found}")]


@pytest.fixture
def page(chromium, address):
    yield Page(chromium, address)
    lines = chromium.get_log("browser")
    assert [line["message"] for line in lines if line["level"] == "SEVERE"] == [], "the console of the browser"
    events = [json.loads(line["message"])["message"] for line in chromium.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked
    assert [url for url in asked if not url.startswith((address, "data:", "blob:", "chrome:"))] == []


def test_explains_and_compares(page):
    page.open()
    assert page.titles() == ["before: why red (96.8%)", "after: why red (96.7%)"]
    names = ["VJP-IB (R M)", "Grad-CAM", "control: center"]
    assert [caption.text for caption in page.all("#viewer figcaption span")] == 2 * names
    page.drawn_after(lambda: page.choose("rather than", "<b>green"))
    assert "why red rather than <b>green" in page.titles()[0]
    page.all("#pictures button")[1].click()  # a green one
    page.until(lambda: "`rival` must be another class" in page.one("#problem").text and page.titles() == [])
    page.drawn_after(lambda: page.choose("rather than", "any other"))
    assert "why <b>green" in page.titles()[0]
    assert page.one("#said h3").text == "<i>1"
    assert page.all("#said h3 i") == []
    presses = "const b = document.querySelectorAll('#pictures button'); b[0].click(); b[3].click()"
    page.seen_after(lambda: page.run(presses))
    page.until(lambda: page.one("#said h3").text == "<i>3" and "why <b>green" in page.titles()[0])
    center = page.all("#viewer canvas")[2]
    webdriver.ActionChains(page.browser).move_to_element(center).perform()
    page.until(lambda: all(output.text for output in page.all("#viewer output")))
    values = [float(output.text) for output in page.all("#viewer output")]
    assert values[2] == values[5] > 1  # the control is largest in the middle, and sees no network
    before = page.run("return arguments[0].toDataURL()", center)
    page.run("const o = document.querySelector('.opacity'); o.value = 0; o.dispatchEvent(new Event('input'))")
    assert page.run("return arguments[0].toDataURL()", center) != before
    assert page.run("return Object.keys(localStorage).filter((name) => name.includes('history'))") == [], "answers kept"


def test_what_is_wrong_comes_first(page):
    page.open()
    page.choose("Pictures", "wrong first")
    title = "#pictures button"
    page.until(lambda: page.all(title) and page.one(title).get_attribute("title") == f"<i>{WRONG}")
    assert "wrong" in page.one(f"{title} span").text
    page.browser.find_element(By.By.XPATH, "//button[text()='More']").click()
    page.until(lambda: len(page.all(title)) == PICTURES - 12)


def test_erases_with_the_mouse_and_with_keys(page):
    page.open()
    canvas = page.one("#eraser canvas")
    page.run("const b = document.querySelector('.brush'); b.value = 40; b.dispatchEvent(new Event('input'))")
    across, down = canvas.size["width"], canvas.size["height"]
    rub = webdriver.ActionChains(page.browser).move_to_element_with_offset(canvas, -0.2 * across, 0.06 * down)
    rub.click_and_hold().move_by_offset(10, 0).release().perform()
    before, after = page.until(page.erased)
    assert before[1] < before[0] - 0.02
    assert after[1] < after[0] - 0.02
    page.one("#eraser .undo").click()
    page.until(lambda: page.erased() == [])
    canvas.send_keys(*[Keys.Keys.ARROW_LEFT] * 9, Keys.Keys.ENTER)
    found = page.until(page.erased)
    assert found[0][1] < found[0][0] - 0.02
    seen = "getContext('2d').getImageData(0.32 * arguments[0].width, 0.5 * arguments[0].height, 1, 1).data[2]"
    assert page.run(f"return arguments[0].{seen}", canvas) > 50, "a dot on the red square is seen"
    canvas.send_keys(Keys.Keys.CONTROL, "z")
    page.until(lambda: page.erased() == [])


def test_dropped_pictures(page, tmp_path):
    Image.new("RGB", (300, 200), (0, 255, 0)).save(tmp_path / "<u>leaf.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.open()
    files = "\n".join(str(tmp_path / name) for name in ("<u>leaf.png", "broken.png"))
    page.drawn_after(lambda: page.one("input[type=file]").send_keys(files))
    assert "broken.png is no picture" in page.one("#notice").text
    assert "leaf.png" in page.one("#said h3").text
    assert page.titles()[0].startswith("before: why <b>green")
    width, height = page.run("const c = document.querySelector('#viewer canvas'); return [c.width, c.height]")
    assert (width, height) == (300, 200)  # its own resolution
    Image.new("RGB", (30, 20), (255, 0, 0)).save(tmp_path / "rose.png")
    page.drawn_after(lambda: page.one("input[type=file]").send_keys(str(tmp_path / "rose.png")))
    assert page.one("#said h3").text == "rose.png"
    page.until(lambda: page.pictures()[0] == "rose.png")
    assert [page.pictures()[1].endswith("leaf.png"), *page.pictures()[2:4]] == [True, "<i>0", "<i>1"]


def test_the_problem_of_a_question_stays_when_something_is_erased(page):
    page.open()
    page.drawn_after(lambda: page.choose("rather than", "<b>green"))
    page.one("#eraser canvas").send_keys(Keys.Keys.ENTER)
    page.until(page.erased)
    page.choose("Why", "<b>green")  # asked for maps, and then for the class that the eraser follows
    page.until(lambda: "before: <b>green" in page.one("#erased").text)
    assert "`rival` must be another class" in page.one("#problem").text
    assert page.titles() == []


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_nothing_sticks_out(size, page):
    page.open(size)
    assert page.run("return document.documentElement.scrollWidth") <= size[0]
    boxes = page.run("return [...document.querySelectorAll('canvas, img')].map((n) => n.getBoundingClientRect().right)")
    assert max(boxes) <= size[0]


@pytest.mark.parametrize("path", ["/etc/passwd", f"{Path(__file__)}", "pyproject.toml"])
def test_no_other_file_is_served(path, address):
    with pytest.raises(HTTPError) as raised:
        urlopen(f"{address}gradio_api/file={quote(path)}")
    with raised.value:  # the answer is still open
        assert raised.value.code in (403, 404)


@pytest.mark.parametrize("headers", [{"Origin": "http://example.org"}, {"Host": "example.org"}])
def test_no_other_page_is_answered(headers, address):
    """Else a web site that is open in the same browser could draw, train, and read pictures."""
    body = {"session_hash": "", "component_id": 0, "fn_name": "draw", "data": {"do": "open", "picture": 0}}
    asked = Request(f"{address}gradio_api/component_server", json.dumps(body).encode(), {"Content-Type": "text/plain"})
    for name, value in headers.items():
        asked.add_header(name, value)
    with pytest.raises(HTTPError, match="403") as raised:
        urlopen(asked)
    raised.value.close()
