"""Rules of the house that no linter knows: how records are built, and what files are called."""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "sibx"
MOST = 5  # positional arguments of a record; from six on nobody knows by heart which is which
SHARED_NAMES = {
    "init__",
    "config",
    "sib",  # the map and the loss: both are the method
    "study",  # the settings and the command that reads them
}


@cache
def trees() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(PACKAGE.rglob("*.py"))]


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name, "" for anything else."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def fields(record: ast.ClassDef) -> int:
    return sum(isinstance(line, ast.AnnAssign) and name_of(line.annotation) != "ClassVar" for line in record.body)


def is_record(found: ast.ClassDef) -> bool:
    return "dataclass" in map(name_of, found.decorator_list) or "NamedTuple" in map(name_of, found.bases)


def long_records(package: list[tuple[Path, ast.Module]]) -> set[str]:
    classes = (node for _, tree in package for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return {found.name for found in classes if is_record(found) and fields(found) > MOST}


def built_by_place(package: list[tuple[Path, ast.Module]]) -> list[str]:
    """Every call that builds a record of more than five fields with more than five positional arguments."""
    names = long_records(package)
    return [
        f"{path.name}:{node.lineno}: {name_of(node)} with {len(node.args)} positional arguments"
        for path, tree in package
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and name_of(node) in names and len(node.args) > MOST
    ]


def test_records_of_many_fields_are_built_by_keyword():
    package = trees()
    assert {"MaskedBatch", "GalleryItem", "Ranking", "Request", "Content"} <= long_records(package)
    assert built_by_place(package) == []


def test_the_rule_sees_what_it_looks_for():
    source = """
@dataclass(frozen=True)
class Long:
    a: int; b: int; c: int; d: int; e: int; f: int
class Short(NamedTuple):
    a: int; b: int; c: int; d: int; e: int
Long(1, 2, 3, 4, 5, 6)
module.Long(1, 2, 3, 4, 5, 6)
Long(1, 2, 3, 4, 5, f=6)
Short(1, 2, 3, 4, 5)
"""
    found = built_by_place([(Path("here.py"), ast.parse(source))])
    assert found == [f"here.py:{line}: Long with 6 positional arguments" for line in (7, 8)]


# What these compute with is on the CPU: files, labels, and weights that are brought to the device when they are ready.
ON_THE_CPU = {"datasets", "studies", "order.py", "baselines.py"}


def doubles(tree: ast.Module) -> list[int]:
    """Lines that make a tensor float64 where it is, which not every device can."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    as_method = [c for c in calls if c.func.attr == "double" and name_of(c.func.value) != "cpu"]
    options = [(c, {k.arg: ast.unparse(k.value) for k in c.keywords}) for c in calls]
    as_option = [c for c, found in options if found.get("dtype") == "torch.float64" and "device" in found]
    return [call.lineno for call in (*as_method, *as_option)]


def test_double_precision_is_left_to_devices_that_have_it():
    found = {str(p.relative_to(PACKAGE)): doubles(tree) for p, tree in trees() if not ON_THE_CPU & {*p.parts}}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_double_precision_is_seen():
    source = "x.double()\ny.cpu().double()\nt.zeros(2, dtype=torch.float64, device=d)\nt.zeros(2, dtype=torch.float64)"
    assert doubles(ast.parse(source)) == [1, 3]


def groups_of_whatever(tree: ast.Module) -> list[int]:
    """Lines that group a table without saying whether names that do not occur are groups: old pandas takes them in."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return [c.lineno for c in calls if c.func.attr == "groupby" and "observed" not in {k.arg for k in c.keywords}]


def test_every_grouping_says_which_groups_there_are():
    assert {path.name: lines for path, tree in trees() if (lines := groups_of_whatever(tree))} == {}
    assert groups_of_whatever(ast.parse("t.groupby('a')\nt.groupby('a', observed=True)")) == [1]


def unstacked_as_it_stands(tree: ast.Module) -> list[int]:
    """Lines that unstack a table unsorted, where old pandas puts values under the names of others."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and name_of(node) == "unstack"]
    return [call.lineno for call in calls if "sort" in {keyword.arg for keyword in call.keywords}]


def test_nothing_is_unstacked_unsorted():
    assert {path.name: lines for path, tree in trees() if (lines := unstacked_as_it_stands(tree))} == {}
    assert unstacked_as_it_stands(ast.parse("t.unstack('a')\nt.unstack(sort=False)")) == [2]


def test_files_have_names_of_their_own():
    folders = defaultdict(list)
    for path, _ in trees():
        folders[path.stem.lstrip("_")].append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in folders.items() if len(paths) > 1 and name not in SHARED_NAMES} == {}
