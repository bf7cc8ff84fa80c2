"""The simulation behind the rule for several seeds: its rules are the package's, its committed table is its own."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sibx.evaluation import mean_over_seeds, mean_over_seeds_and_images

FOLDER = Path(__file__).parent.parent.parent / "benchmarks" / "experiments"


@pytest.fixture(scope="module")
def coverage():
    specification = importlib.util.spec_from_file_location("benchmark_coverage", FOLDER / "coverage.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def test_its_rules_are_those_of_the_package(coverage):
    world = coverage.draw(np.random.default_rng(0), 5, 3, 10, 0.3, "heavy tails")
    means = coverage.summarize(world.gains)
    for rule, expected in [
        ("both", lambda gains: mean_over_seeds_and_images(gains.T)),
        ("seeds", lambda gains: mean_over_seeds(gains.mean(1))),
    ]:
        found = coverage.RULES[rule](means)
        assert np.allclose(found.T, [expected(gains)[1:3] for gains in world.gains])


def test_its_worlds_are_what_they_say(coverage):
    world = coverage.draw(np.random.default_rng(0), 400, 5, 80, 0.2, "images alike")
    assert world.gains.var(2).mean() == pytest.approx(1, abs=0.03)
    assert world.of_trainings.var() == pytest.approx(0.2**2 / 5, rel=0.2)
    assert world.of_images.var() == pytest.approx(0.9 / 80, rel=0.2)


def test_bootstraps_are_of_their_units(coverage):
    """Over images the trainings' spread does not show; over both it does."""
    apart = coverage.draw(np.random.default_rng(0), 3, 5, 40, 50.0, "normal")
    widths = {name: np.diff(coverage.RULES[name](coverage.summarize(apart.gains)), axis=0) for name in coverage.RULES}
    assert (widths["images"] < 1).all()
    assert all((widths[name] > 20).all() for name in coverage.RULES if name != "images")


def test_the_table_is_made_by_it(coverage, monkeypatch):
    """In every cell the rule that is used holds the gain in 94 % of the studies and more; those it replaces do not."""
    table = pd.read_csv(FOLDER / "coverage.csv")
    for name, value in (("SEEDS", (3, 5)), ("IMAGES", (40,)), ("TAUS", (0.2,))):
        monkeypatch.setattr(coverage, name, value)
    cell = ["case", "seeds", "images", "tau", "rule"]
    again = coverage.simulate(400).merge(table, on=cell, suffixes=("", " of the table"))
    assert len(again) == 3 * 2 * len(coverage.RULES)
    for column in ("new", "same images", "same trainings"):
        assert np.allclose(again[column], again[f"{column} of the table"], atol=0.07)
    lowest = coverage.lowest(table, "new")
    assert lowest.loc["both"].min() >= 0.94
    assert (lowest.loc[["images", "seeds", "two-level"]] < 0.9).all(axis=None)
