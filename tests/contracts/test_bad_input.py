"""Bad input of every kind is refused by name, scored NaN, or handled; the tables in the documentation say which.

``python -m tests.helpers.bad_input`` writes them again.
"""

import csv

import pytest

from tests.helpers.bad_commands import command_cases
from tests.helpers.bad_data import data_cases
from tests.helpers.bad_files import file_cases
from tests.helpers.bad_input import TABLES, Line, run_case, tables
from tests.helpers.bad_tensors import tensor_cases

CASES = {"tensors": tensor_cases, "data": data_cases, "files": file_cases, "commands": command_cases}
PAGE = list(csv.reader((TABLES / "bad_input.csv").read_text(encoding="utf-8").splitlines()))[1:]


@pytest.mark.parametrize("kind", CASES)
def test_what_becomes_of_it(kind):
    cases = list(CASES[kind]())
    parts = {case.part for case in cases}
    found = [[str(value) for value in line] for case in cases for line in run_case(case)]
    assert found == [line for line in PAGE if line[0] in parts]


def test_the_counts_are_those_of_the_table():
    lines = [Line(*line[:4], int(line[4]), line[5]) for line in PAGE]
    written = {name: (TABLES / name).read_text(encoding="utf-8") for name in tables(lines)}
    assert tables(lines) == written
