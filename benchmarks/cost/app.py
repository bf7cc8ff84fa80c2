"""From a click in the workbench to the heatmap, in Chromium, against the method's own time.

Both are measured by turns on the same pictures of 224 px, on one thread: ``explain`` alone, which finds the predicted
class and explains it, and a press on another picture until its map is drawn, by the browser's clock. The page has asked
the network about the pictures whose thumbnails it shows, so that a press waits for the map alone. What is said is the
median over pairs. Processor time, which other work on the machine changes less, does not hold what the browser does.
Needs the extras ``app``, ``dev`` and ``pretrained``, Chromium and its driver.

    OMP_NUM_THREADS=1 python benchmarks/cost/app.py [METHOD ...]
"""

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from selenium import webdriver
from skimage import data

import sibx
from sibx.app import Network, Workbench, serve
from sibx.models import Eye

METHODS = ("sib", "gradcam", "integrated_gradients")
PHOTOGRAPHS = ("cat", "coffee", "rocket", "astronaut")
WARM_UP, ROUNDS = 4, 20
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
DRAWN = "#viewer [data-drawn]"
# Presses a thumbnail, and says after how many milliseconds the next maps are drawn.
TIMED = f"""
const done = arguments[arguments.length - 1], place = arguments[0], begin = performance.now();
new MutationObserver((_, watch) => {{ watch.disconnect(); done(performance.now() - begin); }})
  .observe(document.querySelector("{DRAWN}"), {{ attributes: true, attributeFilter: ["data-drawn"] }});
document.querySelectorAll("#pictures button")[place].click();
"""


class Cost(NamedTuple):
    """Milliseconds of an act: by the clock, and by the processor in this process, which is the server's too."""

    clock: float
    processor: float


def main(methods: Sequence[str]) -> None:
    """Print a line per method: what it costs itself, and what a click costs."""
    torch.set_num_threads(1)
    network = load()
    normalization, size = network.eye.normalization, network.eye.image_size
    items = [(getattr(data, name)(), 0) for name in PHOTOGRAPHS]
    pictures = sibx.wrap(items, classes=["unknown"], normalization=normalization, image_size=size)
    images = [pictures[place].image for place in range(len(PHOTOGRAPHS))]
    for method in methods:
        with serve(Workbench(networks=(network,), data=pictures, methods=(method,))) as address:
            pairs = measure(network, images, method, address)
        own, click = (Cost(*map(statistics.median, zip(*costs, strict=True))) for costs in zip(*pairs, strict=True))
        clock, processor = (statistics.median(c[i] / o[i] for o, c in pairs) for i in range(2))
        print(f"{method}: {own.clock:.0f} ms, from a press to the drawn map {click.clock:.0f} ms: {clock:.2f} times;")
        words = f"{own.processor:.0f} ms of a processor, of the server's for a press {click.processor:.0f} ms"
        print(f"  {words}: {processor:.2f} times", flush=True)


def load() -> Network:
    """Return the bundled network."""
    model = sibx.build_model("efficientnet_lite0", 1000, "bundled").eval()
    known = sibx.about(model)
    assert known.normalization is not None
    assert known.image_size is not None
    eye = Eye(model, torch.device("cpu"), known.normalization, known.image_size)
    return Network(name="efficientnet_lite0", eye=eye, classes=known.classes)


def measure(network: Network, images: Sequence[torch.Tensor], method: str, address: str) -> list[tuple[Cost, Cost]]:
    """Return what the method alone costs, and from press to map, measured by turns."""
    options = webdriver.ChromeOptions()
    for switch in SWITCHES:
        options.add_argument(switch)
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        browser.set_script_timeout(120)
        browser.get(address)
        found = "return [...document.querySelectorAll(arguments[0])].length"
        while not (browser.execute_script(found, DRAWN) and browser.execute_script(found, "#pictures button")):
            time.sleep(0.1)
        pairs = []
        for turn in range(WARM_UP + ROUNDS):
            place = turn % len(images)
            click = cost(partial(browser.execute_async_script, TIMED, place))
            own = cost(partial(sibx.explain, network.eye.model, images[place][None], method))
            pairs.append((own, click))
    return pairs[WARM_UP:]


def cost(act: Callable[[], object]) -> Cost:
    """Return what an act costs, by the clock as it says itself, if it returns a number."""
    begin = time.perf_counter(), time.process_time()
    said = act()
    clock, processor = 1000 * (time.perf_counter() - begin[0]), 1000 * (time.process_time() - begin[1])
    return Cost(said if isinstance(said, int | float) else clock, processor)


if __name__ == "__main__":
    main(sys.argv[1:] or METHODS)
