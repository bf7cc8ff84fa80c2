"""benchmarks/cost/device.py, on a CPU and in small."""

import importlib
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent.parent.parent / "benchmarks" / "cost"


@pytest.fixture
def device(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)  # the script imports its neighbors
    module = importlib.import_module("device")
    monkeypatch.setattr(module, "REHEARSAL", replace(module.REHEARSAL, networks={"tiny_cnn": 32}))
    monkeypatch.setattr(module, "FRAMES", 1)
    monkeypatch.setattr(module, "CURVES", ("deletion",))
    return module


def neighbor(name):
    """A module that the script imports."""
    return importlib.import_module(name)


def run(device, out, *options):
    code = device.main(["--rehearse", "--device", "cpu", "--out", str(out), *options])
    content = json.loads(out.read_text(encoding="utf-8"))
    return code, [section["rows"] for section in content["sections"].values()]


@pytest.mark.slow
def test_rehearsal(tmp_path, device, capsys):
    code, (agreement, training, overhead, waits) = run(device, tmp_path / "new" / "device.json")
    assert code == 0
    printed = capsys.readouterr().out
    assert all(section.title in printed for section in device.SECTIONS)
    assert "FAILED" not in printed

    assert len(agreement) == 2 * 4 + len(neighbor("agreement").COMPARED)
    for row in agreement:  # here the device is the CPU
        assert row["device - CPU"] == row["device64 - CPU64"] == 0
        assert row["device - CPU64"] == row["CPU - CPU64"] < 0.05
    assert max(row["CPU - CPU64"] for row in agreement) > 1e-8

    steps = [(row["precision"], row["step"]) for row in training]
    assert steps == [(p, o) for p in device.PRECISIONS for o in device.OBJECTIVES]
    for row in training:
        assert (row["time / CE"] == 1) == (row["step"] == device.CE)
        assert row["images/s"] > 0
        assert row["peak GiB"] is row["peak / CE"] is None

    assert [row["images"] for row in overhead] == [4, 4, 4, 1]
    for row in overhead[1:]:
        assert row["time / alone"] == pytest.approx(row["alone, images/s"] / row["evaluate, images/s"])
    assert len(waits) == len(device.OBJECTIVES) + len(device.EXPLAINED) + 1
    assert {row["waits"] for row in waits} == {None}


def test_no_time(tmp_path, device):
    code, sections = run(device, tmp_path / "device.json", "--budget", "-1")
    assert code == 0
    assert {row["note"] for rows in sections for row in rows} == {"skipped, the time is up"}
    assert all(rows for rows in sections)


def test_failures(tmp_path, device, monkeypatch):
    monkeypatch.setattr(device, "SECTIONS", device.SECTIONS[:1])
    agreement, loads = neighbor("agreement"), neighbor("loads")
    terms = agreement._terms

    def fail(work, space):
        if space == loads.INPUT:
            raise RuntimeError("a|b\nc")
        return terms(work, space)

    monkeypatch.setattr(agreement, "_terms", fail)
    code, (rows,) = run(device, tmp_path / "device.json")
    assert code == 1
    assert [row["note"] for row in rows if "note" in row] == ["FAILED: RuntimeError: a|b\nc"]
    assert len(rows) == 4 + 1 + len(agreement.COMPARED)
    assert neighbor("measured").shown("a|b\nc") == "a/b c"


def test_too_little_memory(device, monkeypatch):
    sizes = replace(device.REHEARSAL, batch=16)
    one_step = device._one_step

    def need(sizes, where, labels, batch):
        if batch > limit:
            raise torch.cuda.OutOfMemoryError("too much")
        return one_step(sizes, where, labels, batch)

    monkeypatch.setattr(device, "_one_step", need)
    limit = 8
    rows = [case.labels | row for case in device.training(sizes, "cpu") for row in case.measure()]
    assert {(row["batch"], row["note"]) for row in rows} == {(8, "16 images do not fit into the memory")}
    limit = 3
    with pytest.raises(torch.cuda.OutOfMemoryError):
        next(iter(device.training(sizes, "cpu"))).measure()


def test_waits_are_counted_where_sibx_causes_them(device, monkeypatch):
    called = "called a synchronizing CUDA operation (Triggered internally at CUDAFunctions.cpp:1.)"

    def wait():
        warnings.warn(called, stacklevel=1)

    waits, work = neighbor("waits"), device.Workload(device.REHEARSAL, "tiny_cnn", 2)
    original = work.model.forward

    def forward(images):
        wait()
        return original(images)

    monkeypatch.setattr(work.model, "forward", forward)
    with pytest.warns(UserWarning, match="synchronizing"):  # the first run, which warms up
        places = waits.count_waits(lambda: [wait(), wait(), work.explain("saliency")], "cpu")
    assert places.total() == 3
    (outside, twice), (inside, once) = places.most_common()
    assert (twice, once) == (2, 1)
    assert outside.startswith("test_device.py:")
    assert inside.startswith("sibx/models/classes.py:")
    row = waits._row(places, "cuda")
    assert row["waits"] == 3
    assert row["where"] == f"{outside} x 2, {inside} x 1"
    # Every other warning is shown as usual.
    with pytest.warns(UserWarning, match="else"):
        waits.count_waits(lambda: warnings.warn("something else", stacklevel=1), "cpu")
