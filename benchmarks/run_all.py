"""``sibx study`` with the files of this folder, wherever it is called; without settings the embedded benchmark.

python benchmarks/run_all.py
python benchmarks/run_all.py --config studies/pets_mobilenet.yaml --root DATA --weights FILE
torchrun --nproc-per-node 8 benchmarks/run_all.py --config studies/full_gpu.yaml --root DATA
"""

import sys
from pathlib import Path

from sibx.cli import main

HERE = Path(__file__).parent


def find(word: str) -> str:
    """Return a word of the command line, with the file that it names found beside this one."""
    option, equals, path = word.rpartition("=")
    beside = HERE / path
    return f"{option}{equals}{beside}" if beside.suffix == ".yaml" and beside.is_file() else word


if __name__ == "__main__":
    sys.exit(main(["study", *map(find, sys.argv[1:])]))
