"""Do the tests notice mistakes? Each mutant of a file must make one of that file's own tests fail.

python benchmarks/mutation/mutation.py mutants.csv --each 14

A mutant runs in a fork of a process that has imported everything but ``sibx``, so it costs its tests and not their
imports; only memory holds its text. Results go to the file one by one, and another call goes on where it was stopped;
mutants that survived are tried again, since there may be a test now. A table of files goes to standard output.
"""

import argparse
import contextlib
import csv
import importlib
import os
import random
import resource
import signal
import sys
import time
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import chain, zip_longest
from pathlib import Path
from types import CodeType

import pandas as pd
import pytest
from mutants import Mutant, mutants
from targets import TARGETS
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
WARM = (
    *("torch", "torchvision.transforms.v2", "captum.attr", "scipy.stats", "scipy.io", "scipy.cluster.vq", "hypothesis"),
    *("skimage.io", "skimage.segmentation", "skimage.filters", "imageio.v3", "matplotlib.pyplot", "cv2", "jinja2"),
)
FIELDS = ("file", "line", "before", "after", "outcome", "seconds")
SLOW, MEMORY = 10, 12 * 2**30  # times what the tests take without a mistake; bytes of addresses of a mutant
OUTCOMES = {0: "survived", signal.SIGALRM: "endless"}  # of the tests' exit code, or the signal; all else is killed


class Mistaken(SourceFileLoader):
    """Finds one module, and gives it another text."""

    def __init__(self, file: str, source: str):
        super().__init__("sibx." + file.removesuffix(".py").replace("/", "."), str(ROOT / "sibx" / file))
        self.source = source

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of the module, and of no other."""
        return spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        """Compile the other text; a cached one is of the file."""
        return compile(self.source, self.path, "exec")


def outcome(file: str, source: str, limit: float) -> tuple[str, float]:
    """Run the tests of a file with another text for it: what came of it, and in how many seconds."""
    began = time.perf_counter()
    if not (child := os.fork()):
        _run_tests(file, source, limit)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return OUTCOMES.get(abs(code), "killed"), time.perf_counter() - began


def _run_tests(file: str, source: str, limit: float) -> None:
    """End this process with the exit code of the tests, or by the alarm."""
    signal.alarm(round(limit))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1), os.dup2(nowhere, 2)
    sys.meta_path.insert(0, Mistaken(file, source))
    code = 1
    try:
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin", *TARGETS[file]])
    finally:
        os._exit(code)


def chosen(file: str, each: int) -> list[Mutant]:
    """Return so many mutants of a file, always the same; more of them begin with the same ones."""
    found = list(mutants((ROOT / "sibx" / file).read_text()))
    random.Random(file).shuffle(found)
    return found[:each]


def run(results: Path, each: int) -> None:
    """Try the mutants that no test has noticed yet: the first one of every file, then the second one, and so on.

    What the results say of mutants that survived, or that there are no more, is forgotten.
    """
    rounds = zip_longest(*([(file, mutant) for mutant in chosen(file, each)] for file in TARGETS))
    wanted = {(file, m.line, m.before, m.after): m for file, m in filter(None, chain.from_iterable(rounds))}
    done = {key: row for key, row in _noticed(results).items() if key in wanted}
    with results.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([FIELDS, *done.values()])
        for key in tqdm([key for key in wanted if key not in done]):
            what, seconds = outcome(key[0], wanted[key].source, _limit(key[0]))
            writer.writerow([*key, what, round(seconds, 1)])
            stream.flush()


def _noticed(results: Path) -> dict[tuple[str, int, str, str], list[str]]:
    """Return the rows of mutants that did not survive."""
    if not results.exists():
        return {}
    with results.open(newline="") as stream:
        _, *rows = csv.reader(stream)
    return {(row[0], int(row[1]), row[2], row[3]): row for row in rows if row[4] != "survived"}


@cache
def _limit(file: str) -> float:
    """Return the seconds that a mutant of a file may take; without a mistake all tests have to pass."""
    what, seconds = outcome(file, (ROOT / "sibx" / file).read_text(), 600)
    if what != "survived":
        raise SystemExit(f"The tests of {file} fail as it stands: {' '.join(TARGETS[file])}")
    return SLOW * seconds + 10


def table(results: Path) -> pd.DataFrame:
    """Return how many mutants of every file were tried, killed, endless and survived, and the share that was found."""
    known = pd.read_csv(results)
    counts = pd.crosstab(known["file"], known["outcome"], margins=True, margins_name="all")
    counts = counts.reindex(columns=["killed", "endless", "survived", "all"], fill_value=0)
    return counts.assign(found=(1 - counts["survived"] / counts["all"]).round(3))


def main() -> None:
    """Try mutants, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="CSV file of the results, which is continued")
    parser.add_argument("--each", type=int, default=14, help="mutants of each file")
    chosen_ = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HYPOTHESIS_PROFILE": "mutants"}
    with contextlib.chdir(ROOT):
        _import_all()
        run(chosen_.results.resolve(), chosen_.each)
    print(table(chosen_.results).to_csv())


def _import_all() -> None:
    """Import what the tests import, but not the package."""
    for name in WARM:
        importlib.import_module(name)


if __name__ == "__main__":
    main()
