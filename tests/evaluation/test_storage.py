"""evaluate(out_dir=...): streams, survives a kill, refuses what is not its own, and is shared by several processes."""

import dataclasses
import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from sibx import METRICS, Results
from sibx.datasets import MaskedDataset
from sibx.evaluation import storage
from sibx.metrics import MetricSpec
from sibx.runs.ranks import on_first_rank
from tests.helpers.interrupted_evaluation import REQUEST, data, network, parts, score
from tests.helpers.tables import assert_read_back

ROOT = Path(__file__).parent.parent.parent
TABLES = ("results.csv.gz", "curves.csv.gz")
KILLS = 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an evaluation that nothing disturbed, nine batches of 17 images."""
    folder = tmp_path_factory.mktemp("whole")
    score(out_dir=folder)
    return folder


class StopError(Exception):
    pass


def stop(*_):
    raise StopError


def stop_after(count):
    """The metrics with one that raises in the batch after so many."""
    calls = []

    def focus(explained):
        calls.append(1)
        if len(calls) > count * len(REQUEST["methods"]):
            raise StopError
        return METRICS["foreground_focus"].score(explained)

    return [dataclasses.replace(METRICS["foreground_focus"], score=focus), *REQUEST["metrics"][1:]]


@pytest.fixture
def stopped(tmp_path):
    """A folder with four of nine batches."""
    with pytest.raises(StopError):
        score(out_dir=tmp_path, metrics=stop_after(4))
    assert parts(tmp_path) == 4
    return tmp_path


def same_files(folder, whole):
    assert {p.name for p in folder.iterdir()} == {*TABLES, "run.json"}
    for name in TABLES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    infos = [json.loads((f / "run.json").read_text()) for f in (folder, whole)]
    assert infos[0] | {"seconds": 0} == infos[1] | {"seconds": 0}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes to kill are forked")
def test_killed_evaluations_resume_to_the_same_bytes(whole, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV_")} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.interrupted_evaluation", str(tmp_path), str(KILLS)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps = [int(line) for line in done.stdout.split() if line != "finished"]
    assert len([s for s in steps if 0 < s < 9]) >= 3, "the evaluation is too short to be killed this often"
    score(out_dir=tmp_path, resume=True)
    same_files(tmp_path, whole)


class TestFolder:
    def test_it_holds_what_save_writes(self, whole, tmp_path):
        in_memory = score()
        opened = Results.open(whole)
        assert_read_back(opened.rows, in_memory.rows)
        assert_read_back(opened.curves, in_memory.curves)
        assert in_memory.info | {"seconds": 0, "identity": opened.info["identity"]} == opened.info | {"seconds": 0}
        in_memory.save(tmp_path)
        for name in TABLES:
            assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()

    def test_tables_are_read_when_asked_for(self, tmp_path):
        results = score(out_dir=tmp_path, notes={"purpose": "a test"})
        assert results.info["purpose"] == "a test"
        for name in TABLES:
            (tmp_path / name).unlink()
        with pytest.raises(ValueError, match=r"results\.csv\.gz' cannot be read"):
            _ = results.rows
        with pytest.raises(ValueError, match=r"`folder` must hold results.csv.gz, curves.csv.gz, but got"):
            Results.open(tmp_path)

    def test_what_is_there_is_not_computed_again(self, stopped, whole):
        asked = []

        def area(explained):
            asked.extend([len(explained.images)])
            return METRICS["foreground_focus"].score(explained)

        metrics = [dataclasses.replace(METRICS["foreground_focus"], score=area), *REQUEST["metrics"][1:]]
        score(out_dir=stopped, resume=True, metrics=metrics)
        assert sum(asked) == (17 - 4 * 2) * len(REQUEST["methods"])
        same_files(stopped, whole)

    def test_a_finished_evaluation_is_not_run_again(self, whole):
        before = (whole / "run.json").read_bytes()
        results = score(out_dir=whole, resume=True, metrics=stop_after(0))
        assert (whole / "run.json").read_bytes() == before
        assert len(results.rows) == 17 * 3 * 2

    @pytest.mark.parametrize("name", ["write_info", "write_table"])
    def test_an_end_while_the_parts_are_joined(self, name, tmp_path, whole, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(storage, name, stop)
            with pytest.raises(StopError):
                score(out_dir=tmp_path)
        for draft in ("part-000001.json.gz.12.tmp", "results.csv.gz.12.tmp", "run.json.12.tmp"):
            (tmp_path / draft).write_bytes(b"half")  # of a process that died
        score(out_dir=tmp_path, resume=True)
        same_files(tmp_path, whole)

    def test_an_earlier_evaluation_is_not_overwritten(self, stopped, whole):
        for folder in (stopped, whole):
            with pytest.raises(ValueError, match=r"`out_dir` must hold no results .* \(resume=True continues it\)"):
                score(out_dir=folder)

    def test_resume_needs_a_folder(self):
        with pytest.raises(ValueError, match="`out_dir` must be given for resume=True, but got None"):
            score(resume=True)


def rewrite(path, **changes):
    content = json.loads(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(json.dumps(content | changes).encode()))


class TestTorn:
    @pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign", "old"])
    def test_a_part_that_cannot_be_read_is_computed_again(self, damage, stopped, whole):
        path = stopped / "part-000002.json.gz"
        content = path.read_bytes()
        if damage == "foreign":
            path.write_bytes(gzip.compress(b"[1, 2]"))
        elif damage == "old":
            rewrite(path, format="sibx-evaluation-0")
        else:
            flipped = bytearray(content)
            flipped[len(content) // 2] ^= 1
            path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "flipped": bytes(flipped)}[damage])
        with pytest.warns(UserWarning, match=r"part-000002.json.gz' cannot be read and is computed again \(\w+: "):
            score(out_dir=stopped, resume=True)
        same_files(stopped, whole)


class TestForeign:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"methods": ["gradcam"]},
                r"`methods` .* with methods = \['saliency', .*\], but got methods = \['gradcam'\]",
            ),
            (
                {"metrics": ["iou"]},
                r"`metrics` must be that of the results in '.*', with metrics = \['foreground_focus",
            ),
            ({"batch_size": 4}, "`batch_size` .* with batch_size = 2, but got batch_size = 4"),
            ({"seed": 4}, "`seed` .* with seed = 3, but got seed = 4"),
            ({"target": "label"}, "`target` .* with target = 'predicted', but got target = 'label'"),
            ({"layer": "features.0"}, "`layer` .* with layer = None, but got layer = 'features.0'"),
            ({"labels": {"training": "ce"}}, "`labels` .* with training = '', but got training = 'ce'"),
            ({"model": network(8)}, "`model` .* with weights = '.*', but got weights = '.*'"),
            ({"model": network().forward, "methods": REQUEST["methods"][:1]}, "`m.*` must be that of the results in"),
            ({"dataset": data(18)}, "`dataset` .* with images = 17, but got images = 18"),
        ],
    )
    def test_the_error_says_what_differs(self, changes, message, stopped, whole):
        for folder in (stopped, whole):
            with pytest.raises(ValueError, match=message):
                score(out_dir=folder, resume=True, **changes)
        assert parts(stopped) == 4

    def test_two_that_started_together_are_not_mixed(self, stopped, monkeypatch):
        """Both found the folder empty, and the other one has written four parts meanwhile."""
        monkeypatch.setattr(storage.InFolder, "_pending", lambda self: [4, 5, 6, 7, 8])
        with pytest.raises(ValueError, match=r"`seed` .*/part-000000.json.gz', with seed = 3, but got seed = 4"):
            score(out_dir=stopped, seed=4)
        assert not (stopped / "run.json").exists()

    @pytest.mark.parametrize("left", [["run.json", *TABLES], []])
    def test_one_that_finished_first_leaves_nothing_to_take(self, left, whole, tmp_path, monkeypatch):
        """Its own results are those of another seed; where its sweep took the parts, they are missed."""

        def sweep(self, *_):
            for part in tmp_path.glob("part-*"):
                part.unlink()
            for name in left:
                (tmp_path / name).write_bytes((whole / name).read_bytes())
            join(self, {})

        join = storage.InFolder._join
        monkeypatch.setattr(storage.InFolder, "_join", sweep)
        message = (
            "`seed` .* with seed = 3, but got seed = 4" if left else "`out_dir` must be .* one evaluation at a time"
        )
        with pytest.raises(ValueError, match=message):
            score(out_dir=tmp_path, seed=4)

    def test_other_masks_are_other_data(self, stopped):
        changed = data()
        changed.samples = [s._replace(mask=~s.mask) for s in changed.samples]
        with pytest.raises(ValueError, match=r"`dataset` .* with sums\.mask = "):
            score(out_dir=stopped, resume=True, dataset=changed)

    def test_results_saved_by_hand(self, tmp_path):
        score(dataset=data(2)).save(tmp_path)
        with pytest.raises(ValueError, match=r"must be that of the results in '.*', with .* = absent, but got"):
            score(out_dir=tmp_path, resume=True, dataset=data(2))

    def test_a_layer_is_known_by_its_type(self, tmp_path):
        net = network()
        with pytest.raises(StopError):
            score(model=net, out_dir=tmp_path, layer=net.features, metrics=stop_after(1))
        with pytest.raises(ValueError, match=r"`layer` .* with layer = 'Sequential', but got layer = 'Conv2d'"):
            score(model=net, out_dir=tmp_path, resume=True, layer=net.features[0])


class Endless(MaskedDataset):
    """As many images as asked for, none of which is kept."""

    def __init__(self, count):
        few = data(1)
        self.name, self.split, self.classes, self.normalization = few.name, few.split, few.classes, few.normalization
        self.sample, self.count = few[0], count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.sample._replace(id=f"{index}")


def peak(folder, images):
    """Largest memory of Python and NumPy in bytes; the scores are many, the model is nothing."""
    metrics = [
        MetricSpec(name=f"m{i}", title="", score=lambda e: e.masks.double().mean((1, 2, 3)), higher_is_better=True)
        for i in range(50)
    ]
    tracemalloc.start()
    request = {"methods": {"mine": lambda x, _: x[:, :1].abs()}, "metrics": metrics, "batch_size": 4}
    results = score(model=lambda x: x.mean((2, 3)), dataset=Endless(images), out_dir=folder, **request)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(results.rows) == 50 * images
    return highest


def test_memory_does_not_depend_on_the_number_of_images(tmp_path):
    peak(tmp_path / "first", 8)  # what is made once
    few, many = peak(tmp_path / "few", 16), peak(tmp_path / "many", 256)
    assert many < 1.5 * few
    assert many < 256 * 50 * 14 * 8  # one machine word per cell of the table


RANKS = 2


def evaluate_a_share(rank, folder):
    """What every process runs; an exception in one of them fails the test."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=RANKS, timeout=timedelta(seconds=100)
    )
    score().save(folder / f"memory-{rank}")
    results = score(out_dir=folder / "shared")
    assert len(results.rows) == 17 * 3 * 2
    pieces = folder / "pieces"
    with pytest.raises(StopError):
        score(out_dir=pieces, metrics=stop_after(3 - rank))  # both stop at some point
    dist.barrier()
    assert parts(pieces) == 5
    with pytest.raises(ValueError, match="`out_dir` must hold no results of an earlier evaluation"):
        score(out_dir=pieces)
    with pytest.raises(ValueError, match="`seed` must be that of the results in"):
        score(out_dir=pieces, resume=True, seed=4)
    score(out_dir=pieces, resume=True)
    with pytest.raises(ValueError, match=f"`seed` must be that of rank {1 - rank}, with seed = {1 - rank}, but got"):
        score(seed=rank)
    assert len(score(dataset=data(1)).rows) == 3 * 2  # the second rank has no image
    with pytest.raises(StopError):
        on_first_rank(stop)
    dist.destroy_process_group()


@pytest.mark.slow  # starting processes takes seconds
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_processes_equal_one(whole, tmp_path):
    torch.multiprocessing.start_processes(evaluate_a_share, (tmp_path,), nprocs=RANKS, start_method="fork")
    for name in ("shared", "pieces"):
        same_files(tmp_path / name, whole)
    for rank in range(RANKS):
        for name in TABLES:
            assert (tmp_path / f"memory-{rank}" / name).read_bytes() == (whole / name).read_bytes()
