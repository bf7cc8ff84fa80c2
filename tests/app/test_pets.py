"""The workbench's whole loop on twelve real pets: explain, compare, erase, draw, keep, fine-tune, open the report."""

import signal
import subprocess
import sys
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from sibx import build_dataset, build_model
from sibx.app import Network
from sibx.app._corrections import Corrections, corrections_folder
from sibx.app._lesson import TRAININGS
from sibx.app._processes import read_state
from sibx.app._strokes import HERE, labels_of
from sibx.app._survey import AS_THEY_COME, Survey
from sibx.models import Eye, about, load_model
from sibx.models.checkpoint import save_checkpoint

looped = pytest.importorskip("tests.app.test_loop", reason="the browser tests need gradio and selenium")
page, chromium = looped.page, looped.chromium
SIZE, BREEDS, STEPS = 32, 3, 80
TAUGHT, LEFT_OUT, HELD_OUT = 12, 3, 6  # pets: of the splits train, val and test


@pytest.fixture(scope="module")
def root(tmp_path_factory, shared_data):
    """A folder with a few pets of each breed in its lists; pictures and trimaps are those of the real data."""
    folder, real = tmp_path_factory.mktemp("pets"), shared_data / "oxford-iiit-pet-3" / "oxford-iiit-pet"
    lists = folder / "oxford-iiit-pet" / "annotations"
    lists.mkdir(parents=True)
    (lists.parent / "images").symlink_to(real / "images")
    (lists / "trimaps").symlink_to(real / "annotations" / "trimaps")
    for name, count in (("trainval", TAUGHT + LEFT_OUT), ("test", HELD_OUT)):
        lines = (real / "annotations" / f"{name}.txt").read_text().splitlines()
        breeds = [[line for line in lines if line.split()[1] == str(breed)] for breed in range(1, 1 + BREEDS)]
        few = [line for breed in breeds for line in breed[: count // BREEDS]]
        (lists / f"{name}.txt").write_text("\n".join(few) + "\n")
    return folder


@pytest.fixture(scope="module")
def networks(root):
    """Files of two networks that know the twelve pets by heart: on any background, and on their own."""
    data = build_dataset("oxford-pets", str(root), "train", SIZE)
    samples = [data[index] for index in range(len(data))]
    images, masks = torch.stack([s.image for s in samples]), torch.stack([s.mask for s in samples])
    labels, files = torch.tensor([s.label for s in samples]), []
    for swapped in (True, False):
        torch.manual_seed(0)
        model = build_model("tiny_cnn", BREEDS)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(STEPS):
            others = images[torch.randperm(len(images))] if swapped else images
            optimizer.zero_grad()
            cross_entropy(model(torch.where(masks, images, others)), labels).backward()
            optimizer.step()
        files.append(root / ("swapped.pt" if swapped else "plain.pt"))
        save_checkpoint(files[-1], model, classes=data.classes, normalization=data.normalization, image_size=SIZE)
    return files


@pytest.fixture(scope="module")
def server(root, networks):
    """``sibx app`` itself."""
    words = [sys.executable, "-m", "sibx", "app", "--checkpoint", str(networks[0]), "--compare", str(networks[1])]
    words += ["--model", "tiny_cnn", "--dataset", "oxford-pets", "--root", str(root), "--split", "train"]
    words += ["--methods", "gradcam", "--out", str(root / "out")]
    home, pipe = Path(__file__).parents[2], subprocess.PIPE
    started = subprocess.Popen(words, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=home)
    yield started
    started.send_signal(signal.SIGTERM)
    assert started.communicate(timeout=page.PATIENCE)[0] == "", "what else the server said"


@pytest.fixture(scope="module")
def address(server, chromium):
    return server.stdout.readline().split(": the workbench")[0]


@pytest.fixture
def loop(chromium, address):
    yield looped.Loop(chromium, address)
    lines = [line["message"] for line in chromium.get_log("browser") if line["level"] == "SEVERE"]
    assert lines == [], "the console of the browser"


def test_explains_compares_and_erases(loop):
    loop.open()
    pets, names, falls = "#pictures button", set(), []
    loop.until(lambda: len(loop.all(pets)) == TAUGHT)
    loop.run("const b = document.querySelector('.brush'); b.value = 40; b.dispatchEvent(new Event('input'))")
    canvas = loop.one("#eraser canvas")
    for place in range(TAUGHT):
        if place:
            loop.seen_after(lambda place=place: loop.run(f"document.querySelectorAll('{pets}')[{place}].click()"))
        loop.until(lambda: not loop.erased())
        names.add(loop.text("#said h3"))
        assert [title.split(": why ")[0] for title in loop.titles()] == ["swapped", "plain"]
        canvas.send_keys(page.Keys.Keys.ENTER)  # in the middle, where the pets are
        falls.append([before - after for before, after in loop.until(loop.erased)])
    assert len(names) == TAUGHT
    swapped, plain = map(mean, zip(*falls, strict=True))
    assert swapped > 0.1
    assert swapped > plain > 0, "the other network knows the background as well"
    loop.narrow()

    loop.one("#eraser .undo").click()
    loop.until(lambda: not loop.erased())
    down, across = canvas.size["height"], canvas.size["width"]
    corner = page.webdriver.ActionChains(loop.browser).move_to_element_with_offset(canvas, 4 - across / 2, 4 - down / 2)
    corner.click().perform()
    assert all(before - after < swapped / 2 for before, after in loop.until(loop.erased))


def known(file):
    """The network of a file, as the workbench sees it."""
    taught = load_model(file, "tiny_cnn").eval()
    about_it = about(taught)
    eye = Eye(taught, torch.device("cpu"), about_it.normalization, SIZE)
    return Network(name=file.stem, eye=eye, classes=about_it.classes)


def test_draws_fine_tunes_and_proves(loop, root, networks):
    loop.open()
    loop.tab("Correct")
    loop.kept(0)
    data = build_dataset("oxford-pets", str(root), "train", SIZE)
    survey = Survey([known(file) for file in networks], data, True, root / "elsewhere")
    list(survey.look())
    board, order = loop.one("#easel canvas"), survey.order("lowest focus")
    assert order != list(range(TAUGHT))
    loop.choose("Order", "lowest focus")
    for place in order[:2]:
        loop.until(lambda place=place: loop.board("picture") == str(place))
        board.send_keys(page.Keys.Keys.PAGE_DOWN)
    loop.choose("Order", AS_THEY_COME)
    for place, shift in enumerate((-20, 0, 20)):
        loop.until(lambda place=place: loop.board("picture") == str(place))
        board.send_keys("h")
        for version, (here, rows) in enumerate([("h", (-30, 60)), ("n", (-80, -20))], 1):
            board.send_keys(here)
            stroke = page.webdriver.ActionChains(loop.browser).move_to_element_with_offset(board, shift, rows[0])
            stroke.click_and_hold().move_by_offset(40, rows[1]).release().perform()
            loop.kept(version)
        if place == 0:
            loop.narrow()
        board.send_keys(page.Keys.Keys.PAGE_DOWN)
    kept = Corrections(corrections_folder(root / "out"), data)
    assert kept.corrected() == [0, 1, 2]
    for place in kept.corrected():
        strokes, name = kept.sheet(place).strokes, data[place].id
        mask = np.asarray(Image.open(kept.folder / "masks" / f"{name}.png")) > 0
        assert [stroke.here for stroke in strokes] == [True, False]
        assert (mask == (labels_of(strokes, (SIZE, SIZE)) == HERE)).all()
        assert 0 < mask.sum() < mask.size / 2

    loop.tab("Fine-tune")
    for label, value in {"Epochs": 1, "Training pictures": TAUGHT, "Held-out pictures": HELD_OUT}.items():
        loop.number(label, value)
    loop.click("#start")
    folder = root / "out" / "trainings" / "1"
    loop.until(lambda: read_state(folder).status not in ("not begun", "running"), looped.TRAINED)
    loop.until(lambda: "Finished" in loop.text("#status"))
    loop.until(lambda: len(loop.all("#maps img")) == len(TRAININGS))
    loop.until(lambda: loop.all("#curves img"))
    loop.narrow()

    loop.tab("Prove")
    loop.click("#look-again")
    loop.until(lambda: loop.all("#verdict [data-verdict]"))
    loop.click("#open-report")
    loop.until(lambda: loop.all("#report iframe"))
    loop.browser.switch_to.frame(loop.one("#report iframe"))
    loop.until(lambda: "sib against ce" in loop.text("body"))
    loop.browser.switch_to.default_content()
    loop.narrow()
