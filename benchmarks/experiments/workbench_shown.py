"""The picture of the guide to the workbench: its first page, with the pixels in the middle of a photograph erased.

Needs the extras ``app``, ``dev`` and ``pretrained``, Chromium and its driver.

    python benchmarks/experiments/workbench_shown.py --out docs/images/workbench.png
"""

import base64
import io
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from jsonargparse import auto_cli
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

WIDTH, HEIGHT = 1280, 1270
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
COLORS = 256  # of the file, which has a third of the bytes then
PATIENCE = 120  # seconds
ERASE = "const brush = document.querySelector('.brush'); brush.value = 30; brush.dispatchEvent(new Event('input'))"


def main(out: Path, photograph: int = 1) -> None:
    """Draw the picture.

    Args:
        out: the picture.
        photograph: which of the photographs of scikit-image is explained.
    """
    with TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "sibx", "app", "--out", folder]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                content = shoot(server.stdout.readline().split(": the workbench")[0], photograph)
            finally:
                server.send_signal(signal.SIGTERM)
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture.quantize(COLORS).save(out, optimize=True)


def shoot(address: str, photograph: int) -> bytes:
    """Return the page as a PNG file."""
    options = webdriver.ChromeOptions()
    for switch in SWITCHES:
        options.add_argument(switch)
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        screen = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        browser.get(address)
        wait = WebDriverWait(browser, PATIENCE, 0.1)
        drawn = "return document.querySelector('#viewer [data-drawn]')?.dataset.drawn"
        seen = "return document.querySelector('#eraser [data-of]')?.dataset.of"
        first = wait.until(lambda _: browser.execute_script(drawn))
        one = wait.until(lambda _: browser.execute_script(seen))
        wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#pictures button"))
        browser.find_elements(By.CSS_SELECTOR, "#pictures button")[photograph].click()
        wait.until(lambda _: browser.execute_script(drawn) != first and browser.execute_script(seen) != one)
        browser.execute_script(ERASE)
        browser.find_element(By.CSS_SELECTOR, "#eraser canvas").send_keys(Keys.ENTER)
        wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#erased figure"))
        browser.execute_script("scrollTo(0, 0)")
        return base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
