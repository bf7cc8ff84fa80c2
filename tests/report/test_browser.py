"""The report in a real browser: no error, tables sort and filter, the gallery enlarges, on a desk and on a phone."""

import numpy as np
import pytest

from sibx import Results, write_report
from tests.helpers.chromium import opened
from tests.helpers.reports import HOSTILE, draw_gallery, make_results

webdriver = pytest.importorskip("selenium.webdriver", reason="the browser tests need selenium (extra dev)")
By, Keys = (pytest.importorskip(f"selenium.webdriver.common.{m}") for m in ("by", "keys"))
CSS = By.By.CSS_SELECTOR
DESK, PHONE = (1280, 900), (390, 844)
IMAGES = 8
SEEN = "[...document.querySelectorAll(arguments[0])].filter((n) => n.checkVisibility())"
# The lowest contrast of all text that is seen, by WCAG 2's formula, as [ratio, text]; colors are read from a canvas.
CONTRAST = """
const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (color) => {
  context.clearRect(0, 0, 1, 1); context.fillStyle = color; context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data];
};
const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
  .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const found = rgba(getComputedStyle(at).backgroundColor);
    if (found[3] === 255) return found;
  }
};
let lowest = [99, ""];
for (const node of document.body.querySelectorAll("*")) {
  const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
  if (!own || !node.checkVisibility() || node.closest(".hidden, .skip, option")) continue;
  const [a, b] = [light(rgba(getComputedStyle(node).color)), light(behind(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < lowest[0]) lowest = [ratio, node.outerHTML.slice(0, 200)];
}
return lowest;
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A driver of Chromium; without one the tests are skipped."""
    with opened(tmp_path_factory.mktemp("profile"), ("browser",)) as browser:
        yield browser


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A report with every section, several splits, hostile names, undefined scores and maps, and maps with signs."""

    def score(training, method, metric, image):
        if image == 3 and method == "gradcam":
            return np.nan
        return (image + (0.5 if training == "sib" else 0) + (20 if method == "gradcam" else 0)) / 100

    def cut(training, method, metric, image):
        return (
            np.nan
            if (method, metric, training) == ("gradcam", "deletion", "ce")
            else score(training, method, metric, image)
        )

    explained = make_results(images=IMAGES, splits=("test", "test-other"), score=cut, info={"name": HOSTILE})
    reliance = make_results(images=IMAGES, methods=("classifier",), metrics=("original", "bg_gap"), curves=False)
    lines = [{"epoch": e, "cross_entropy": 1 / e} for e in (1, 2)]
    items = draw_gallery(images=IMAGES, signed=("gradcam",))
    items[0].maps["sib"]["ce"][:] = 0
    results = Results.concat([explained, reliance], explained.info)
    folder = tmp_path_factory.mktemp("report")
    return write_report(results, folder, gallery=items, histories={"sib": lines})


class Page:
    """What a test does with the page."""

    def __init__(self, browser, path):
        self.browser, self.path = browser, path

    def open(self, size=DESK, *, dark=False):
        width, height = size
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.browser.get(self.path.as_uri())
        return self

    def one(self, selector):
        return self.browser.find_element(CSS, selector)

    def all(self, selector):
        return self.browser.find_elements(CSS, selector)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def press(self, *keys):
        self.browser.switch_to.active_element.send_keys(*keys)

    def unfold(self):
        self.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")

    def choose(self, selector, text):
        """Choose the value of this text with the keyboard."""
        texts = self.run("return [...document.querySelector(arguments[0]).options].map((o) => o.text)", selector)
        self.one(selector).send_keys(Keys.Keys.HOME, *[Keys.Keys.ARROW_DOWN] * texts.index(text))

    def seen(self, selector):
        """What can be seen, in one round trip."""
        return self.run(f"return {SEEN}", selector)

    def attributes(self, selector, name):
        """An attribute of all that can be seen."""
        return self.run(f"return {SEEN}.map((n) => n.getAttribute(arguments[1]))", selector, name)

    def texts(self, selector):
        return self.run(f"return {SEEN}.map((n) => n.innerText.trim())", selector)

    def focused(self):
        return self.browser.switch_to.active_element


@pytest.fixture
def page(chromium, path):
    yield Page(chromium, path)
    problems = [line["message"] for line in chromium.get_log("browser")]
    assert problems == [], "the console of the browser"


def values(page, column):
    """The numbers of a column of the first table of scores, rows in the order in which they are seen."""
    found = page.attributes(f"#scores-1 tbody td:nth-child({column})", "data-value")
    return [float(v) if v else None for v in found]


class TestLayout:
    @pytest.mark.parametrize("size", [DESK, PHONE])
    def test_nothing_sticks_out(self, size, page):
        page.open(size).unfold()
        assert page.run("return document.documentElement.scrollWidth") <= size[0]
        boxes = page.run(f"return {SEEN}.map((n) => n.getBoundingClientRect().toJSON())", "main > section, section > *")
        assert len(boxes) > 30
        assert min(box["left"] for box in boxes) >= 0
        assert max(box["right"] for box in boxes) <= size[0]

    @pytest.mark.parametrize("dark", [False, True])
    def test_all_text_stands_out(self, dark, page):
        page.open(dark=dark).unfold()
        ratio, text = page.run(CONTRAST)
        assert ratio >= 4.5, text
        color = page.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert max(color) < 50 if dark else min(color) > 200

    def test_pictures_are_drawn(self, page):
        """Also the charts, which are SVG inside data URIs."""
        page.open().unfold()
        broken = "return [...document.images].filter((i) => !(i.complete && i.naturalWidth)).map((i) => i.alt)"
        assert page.run("return document.images.length") > 40
        assert page.run(broken) == []

    def test_is_not_too_large(self, path):
        assert path.stat().st_size <= 15_000_000


class TestTable:
    def test_a_heading_sorts(self, page):
        page.open()
        heading = "#scores-1 thead th:nth-child(3)"
        page.one(f"{heading} button").click()
        falling = values(page, 3)
        assert falling == sorted(falling, reverse=True)
        assert page.one(heading).get_attribute("aria-sort") == "descending"
        page.one(f"{heading} button").click()
        assert values(page, 3) == falling[::-1]
        assert page.one(heading).get_attribute("aria-sort") == "ascending"

    def test_undefined_scores_stay_at_the_end(self, page):
        page.open()
        for _ in range(2):
            page.one("#scores-1 thead th:nth-child(4) button").click()
            *defined, last = values(page, 4)
            assert last is None
            assert None not in defined

    def test_names_sort(self, page):
        page.open()
        page.one("#scores-1 thead th:nth-child(1) button").click()
        names = page.texts("#scores-1 tbody th")
        assert names == sorted(names, key=str.lower)
        assert len(set(names)) == 3

    def test_only_one_heading_is_the_sorted_one(self, page):
        page.open()
        for column in (3, 4):
            page.one(f"#scores-1 thead th:nth-child({column}) button").click()
        assert len(page.all("#scores-1 th:not([aria-sort=none])[aria-sort]")) == 1

    def test_filters(self, page):
        page.open()
        controls, rows = "[data-filters=scores-1]", "#scores-1 tbody tr"
        assert page.one(f"{controls} output").text == "6 of 6 rows"
        page.choose(f"{controls} select", "sib")
        assert page.attributes(rows, "data-training") == ["sib"] * 3
        page.one(f"{controls} input").send_keys("grad-")
        assert page.attributes(rows, "data-method") == ["gradcam"]
        assert page.one(f"{controls} output").text == "1 of 6 rows"
        page.one(f"{controls} input").clear()
        page.one(f"{controls} input").send_keys("nothing of the kind")
        assert page.seen(rows) == []
        assert page.one(f"{controls} output").text == "0 of 6 rows"

    def test_keyboard(self, page):
        page.open()
        page.press(Keys.Keys.TAB)
        assert page.focused().text == "Skip to the results"
        page.run("document.querySelector('#scores-1 thead th:nth-child(3) button').focus()")
        page.press(Keys.Keys.ENTER)
        assert page.one("#scores-1 thead th:nth-child(3)").get_attribute("aria-sort") == "descending"

    def test_all_claims(self, page):
        page.open()
        page.one(".all-claims > summary").click()
        page.one(".claims thead th:nth-child(6) button").click()
        found = [float(v) for v in page.attributes(".claims td.value", "data-value") if v]
        assert len(found) > 5
        assert found == sorted(found, reverse=True)

    def test_claims_unfold(self, page):
        page.open()
        first = page.one("details.claim")
        words = first.find_element(CSS, ".claim > .words")
        assert not words.is_displayed()
        first.find_element(CSS, "summary").click()
        assert words.is_displayed()


class TestGallery:
    def ids(self, page):
        return page.texts("#gallery .card h3")

    def scores(self, page, training):
        return [float(t) if t else None for t in page.texts(f".card b[data-training={training}]")]

    def test_class_filter(self, page):
        page.open()
        assert len(self.ids(page)) == IMAGES
        page.choose("[data-choice=class]", "class 1")
        assert len(self.ids(page)) == IMAGES // 4
        assert all(title.startswith("class 1") for title in self.ids(page))
        assert page.one("#gallery-controls output").text == f"{IMAGES // 4} of {IMAGES} images"

    def test_orders(self, page):
        """Foreground focus rises with the image's number, deletion too, where lower is better."""
        page.open()
        first = self.ids(page)
        page.choose("[data-choice=order]", "worst first")
        assert self.ids(page) == first
        page.choose("[data-choice=order]", "best first")
        assert self.ids(page) == first[::-1]
        page.choose("[data-choice=metric]", "Deletion AUC")
        assert self.ids(page) == first
        page.choose("[data-choice=order]", "as they come")
        assert self.ids(page) == first

    def test_method(self, page):
        page.open()
        assert self.scores(page, "sib")[0] == 0.005
        page.choose("[data-choice=method]", "Grad-CAM")
        scores = self.scores(page, "sib")
        assert scores[0] == 0.205
        assert scores[3] is None  # undefined
        page.choose("[data-choice=order]", "best first")
        assert self.scores(page, "sib")[-1] is None

    @pytest.mark.parametrize("size", [DESK, PHONE])
    def test_click_enlarges(self, size, page):
        page.open(size)
        small = page.one(".card .cell img").size["width"]
        page.one(".card button").click()
        dialog = page.one("#lightbox")
        assert dialog.is_displayed()
        assert page.one("#lightbox-title").text == "class 0 tree-000: VJP-IB (R M)"
        pictures = page.seen("#lightbox img")
        assert len(pictures) == 3
        for picture in pictures:
            assert picture.size["width"] > 1.5 * small
            assert picture.rect["x"] + picture.size["width"] <= size[0]
        for button in page.seen("#lightbox header button"):
            assert 0 <= button.rect["x"] <= size[0] - button.size["width"]
        assert page.focused().get_attribute("aria-label") == "Close"
        page.one("#lightbox [data-close]").click()
        assert not dialog.is_displayed()

    def test_keyboard(self, page):
        page.open()
        page.run("document.querySelector('.card button').focus()")
        page.press(Keys.Keys.ENTER)
        title = page.one("#lightbox-title")
        assert title.text.startswith("class 0 tree-000")
        page.press(Keys.Keys.ARROW_RIGHT)
        assert title.text.startswith("class 1 tree-001")
        page.press(Keys.Keys.ARROW_LEFT, Keys.Keys.ARROW_LEFT)
        assert title.text.startswith(f"class 3 tree-{IMAGES - 1:03d}")
        page.press(Keys.Keys.ESCAPE)
        assert not page.one("#lightbox").is_displayed()
        assert page.focused().tag_name == "button"
        assert page.focused().find_element(By.By.XPATH, "..").get_attribute("class") == "card"

    def test_steps_stay_within_what_is_chosen(self, page):
        page.open()
        page.choose("[data-choice=class]", "class 2")
        page.choose("[data-choice=order]", "best first")
        page.seen(".card button")[0].click()
        for number in (6, 2, 6):
            assert page.one("#lightbox-title").text.startswith(f"class 2 tree-{number:03d}")
            page.one("#lightbox [data-step='1']").click()

    def test_click_beside_closes(self, page):
        page.open()
        page.one(".card button").click()
        dialog = page.one("#lightbox")
        webdriver.ActionChains(page.browser).move_by_offset(5, 5).click().perform()
        assert not dialog.is_displayed()


class TestPrint:
    def test_paper_has_no_folds_and_the_screen_gets_them_back(self, page):
        page.open()
        closed = "return document.querySelectorAll('details:not([open])').length"
        before = page.run(closed)
        assert before > 0
        page.run("dispatchEvent(new Event('beforeprint'))")
        assert page.run(closed) == 0
        page.run("dispatchEvent(new Event('afterprint'))")
        assert page.run(closed) == before

    def test_paper_is_white_in_the_dark_form_too(self, page):
        page.open(dark=True)
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
        assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.seen("nav, .controls") == []
        page.unfold()
        assert page.run("return document.documentElement.scrollWidth") <= DESK[0]
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
