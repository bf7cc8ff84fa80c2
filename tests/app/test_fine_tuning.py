"""The workbench's trainings: what they are taught, the commands that the page shows, stopped and gone on with."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from sibx import build_dataset, build_model
from sibx._files import write_atomically
from sibx.app import Network, Workbench
from sibx.app._corrections import Corrections, corrections_folder
from sibx.app._lesson import TRAININGS, as_typed, build_splits, plan, read_lesson, usual_epochs, why_not, write_lesson
from sibx.app._processes import State, begin, go_on, read_state, stop, trainings_in, write_state
from sibx.app._proving import judge
from sibx.app._snapshot import write_snapshot
from sibx.app._strokes import Box
from sibx.app.example_pictures import ExamplePictures
from sibx.cli import COMMANDS, build_parser, steps
from sibx.models.checkpoint import save_checkpoint
from sibx.models.looking import Eye
from tests.helpers.reports import make_results

SIZE = 32
pytestmark = pytest.mark.filterwarnings("ignore:.*pictures have no mask")  # most have none, as is meant


@pytest.fixture(scope="module")
def workbench(tmp_path_factory):
    """A tiny network, the embedded set, and two pictures that somebody has drawn on."""
    folder = tmp_path_factory.mktemp("bench")
    data = build_dataset("synthetic", split="train", image_size=SIZE)
    torch.manual_seed(0)
    model = build_model("tiny_cnn", len(data.classes))
    path = folder / "start.pt"
    told = {"classes": data.classes, "normalization": data.normalization, "image_size": SIZE}
    save_checkpoint(path, model, **told)
    eye = Eye(model.eval(), torch.device("cpu"), data.normalization, SIZE)
    network = Network(
        name="start", eye=eye, classes=data.classes, options=("--checkpoint", str(path), "--model", "tiny_cnn")
    )
    bench = Workbench(
        networks=(network,), data=data, options=("--dataset", "synthetic"), methods=("gradcam",), out_dir=folder / "out"
    )
    kept = Corrections(corrections_folder(bench.out_dir), build_splits(bench, "train")[0])
    for index in (3, 7):
        kept.add(index, Box(True, [(4, 4), (20, 16)]), 0)
    return bench


def small(bench, **settings):
    return plan(bench, masked=True, **{"epochs": 1, "train_images": 16, "test_images": 9, **settings})


def test_a_snapshot_has_the_drawn_masks_and_elsewhere_what_was_chosen(tmp_path, workbench):
    drawn = Corrections(corrections_folder(workbench.out_dir), build_splits(workbench, "train")[0]).masks()
    splits = {part: build_splits(workbench, part) for part in ("train", "val", "test")}
    asked = []

    def own(images):
        asked.append(len(images))
        masks = torch.zeros(len(images), 1, SIZE, SIZE).bool()
        masks[..., 8:12, 8:12] = True
        return masks

    masked = {"none": 2, "own": 16, "given": 16}
    for elsewhere, count in masked.items():
        folder = tmp_path / elsewhere
        write_snapshot(folder, small(workbench, elsewhere=elsewhere), splits, drawn, own)
        found = build_dataset("folder", str(folder), "train", SIZE, normalization=workbench.data.normalization)
        assert found.classes == workbench.data.classes  # in the network's order, which is none of letters
        assert sum(bool(sample.mask.any()) for sample in found) == count
        assert [int(sample.mask.sum()) for sample in found][:2] == [192, 192]
        assert len(found) == 16
    assert asked == [14]
    held_out = build_dataset("folder", str(folder), "test", SIZE)
    assert len(held_out) == 9
    assert {sample.id.split("test-")[-1].split("-")[0] for sample in held_out} == {"id", "decorrelated", "adversarial"}
    assert all(sample.mask.any() and sample.group >= 0 for sample in held_out)


@pytest.mark.parametrize(("pictures", "epochs"), [(4, 30), (64, 27), (120, 15), (399, 5), (10_000, 5)])
def test_a_training_takes_the_steps_that_s_ib_takes(pictures, epochs):
    assert usual_epochs(pictures) == epochs


def test_what_cannot_be_taught_is_said(workbench):
    example = Workbench(networks=workbench.networks, data=ExamplePictures())
    assert "no labels" in why_not(example)
    with pytest.raises(ValueError, match="`dataset` must be one that a network can learn from"):
        plan(example, masked=False)
    with pytest.raises(ValueError, match="`elsewhere` must be none or own"):
        plan(workbench, masked=False, epochs=1, elsewhere="given")
    with pytest.raises(ValueError, match="`epochs`"):
        small(workbench, epochs=0)


def test_a_training_does_the_commands_that_the_page_shows_and_goes_on(monkeypatch, workbench, capsys):
    """In this process; what the commands do is theirs, and is tested with them and in the browser."""
    monkeypatch.setattr("sibx.app._processes._start", lambda folder: None)
    folder = begin(workbench.out_dir, small(workbench, elsewhere="own"))
    lesson = read_lesson(folder)
    assert lesson == small(workbench, elsewhere="own")
    assert trainings_in(workbench.out_dir) == [folder]
    assert read_state(folder).status == "not begun"
    done, codes = [], iter([0, 130, 0, 2, *[0] * 9])

    def stand_in(words):
        done.append(words)
        return next(codes)

    monkeypatch.setattr(steps, "main", stand_in)
    for status, count in (("stopped", 2), ("failed", 3), ("finished", 11)):
        steps.run(folder)
        assert (read_state(folder).status, read_state(folder).done) == (status, count)
    assert len(list((folder / "data" / "mask" / "train").iterdir())) == 16  # two were drawn, the others its own
    commands = lesson.commands(folder)
    assert done == [commands[0], commands[1], commands[1], commands[2], *commands[2:]]
    said = capsys.readouterr().out
    for command in commands:
        assert f"$ {as_typed(command)}" in said
        build_parser_of(command)


def test_files_of_a_training_that_cannot_be_read_are_named_once(workbench, tmp_path):
    pytest.importorskip("gradio", reason="the page's handlers need gradio (extra app)")
    from sibx.app._classroom import SAME, Classroom

    folder = tmp_path / "trainings" / "1"
    write_lesson(small(workbench), folder)
    write_state(folder, State("stopped", 2))
    room = Classroom(replace(workbench, out_dir=tmp_path))
    good, _, status, *_ = room.look("1", 0, None)
    assert "Stopped: step 3 of 11, finetune sib-shuffled. Go on does its unfinished epoch again." in status
    files = {name: (folder / name).read_text() for name in ("lesson.json", "state.json")}
    for name in files:
        (folder / name).write_text("{")
        bad, _, status, *_ = room.look("1", 0, good if name == "state.json" else None)
        assert f"{name}&#39; cannot be read" in status
        assert str(folder) in status
        assert room.look("1", 0, bad)[2:] == SAME * 6
        (folder / name).write_text(files[name])
        assert "Stopped" in room.look("1", 0, bad)[2]
    for name, text in {"lesson.json": "[1]", "state.json": '{"status": "lost"}', "sib/log.csv": "epoch\n1,2\n"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        _, _, status, _, _, curves, _, maps = room.look("1", 0, None)
        assert f"{name}&#39; cannot be read" in status
        assert curves == maps == ""  # not those of the training that was looked at before
        (folder / name).write_text(files.get(name, ""))
    write_atomically(folder / "report/report.html", b"")
    said, report, *_, frame = room.judged("1", "1")
    assert "`folder` must hold results.csv.gz" in said
    assert not report.visible
    assert frame == ""
    (folder / "state.json").write_text("{")
    assert "state.json" in room.stop("1")[0]
    assert "state.json" in room.go_on("1")[0]


def test_the_maps_are_those_of_the_epoch_that_the_page_says(workbench, tmp_path):
    pytest.importorskip("gradio", reason="the page's handlers need gradio (extra app)")
    from sibx.app._classroom import SAME, Classroom

    folder = tmp_path / "trainings" / "1"
    write_lesson(small(workbench), folder)
    room = Classroom(replace(workbench, out_dir=tmp_path))

    def draw(epoch):
        (folder / "sib" / "maps").mkdir(parents=True, exist_ok=True)
        (folder / "sib" / "maps" / f"epoch-{epoch}.png").write_bytes(b"")

    def look(epoch, seen):
        seen, *_, slider, maps = room.look("1", epoch, seen)
        return seen, slider, maps

    seen, *_ = look(0, None)
    draw(0)
    draw(1)
    seen, slider, maps = look(0, seen)
    assert slider.value == 1
    assert "epoch 1" in maps
    assert look(1, seen)[1:] == SAME * 2
    seen, slider, maps = look(0, seen)  # chosen on the page
    assert slider == SAME[0]
    assert "epoch 0" in maps
    assert look(0, seen)[1:] == SAME * 2
    draw(2)
    assert "epoch 2" in look(0, seen)[2]


def build_parser_of(words):
    """Read a command as the command line does, which refuses an option that it does not know."""
    parser, commands = build_parser()
    COMMANDS[words[0]].add_options(commands[words[0]])
    parser.parse_args(words)


def write_scores(folder, focus):
    """Write what a training has come to, whose maps have this focus on the object, and a page as its report."""
    for name in TRAININGS:
        for kind, method, metrics in (
            ("scores", "gradcam", ("foreground_focus",)),
            ("reliance", "classifier", ("original", "bg_gap")),
        ):
            value = focus if (name, kind) == ("sib", "scores") else 0.3
            make_results(
                images=8,
                trainings=(name,),
                methods=(method,),
                metrics=metrics,
                curves=False,
                score=lambda *_, value=value: value,
            ).save(folder / kind / name)
    page = folder / "report" / "report.html"
    page.parent.mkdir(exist_ok=True)
    page.write_text(f"{focus}")
    os.utime(page, ns=(0, int(focus * 1e9)))


def test_the_verdict_is_that_of_the_report_against_both_controls(tmp_path):
    assert judge(tmp_path) is None
    write_scores(tmp_path, 0.3)
    assert "Nothing is shown" in judge(tmp_path).words
    write_scores(tmp_path, 0.9)
    verdict = judge(tmp_path)
    assert verdict.shown == ("foreground_focus",)
    assert "Foreground focus" in verdict.words
    assert {line.against for line in verdict.lines} == {"ce", "sib-shuffled"}
    write_scores(tmp_path, 0.1)
    assert "The opposite is shown" in judge(tmp_path).words


def test_the_report_that_is_open_is_of_the_training_that_is_judged(workbench, tmp_path):
    pytest.importorskip("gradio", reason="the page's handlers need gradio (extra app)")
    from sibx.app._classroom import Classroom

    for name, focus in (("1", 0.9), ("2", 0.3)):
        write_lesson(small(workbench), tmp_path / "trainings" / name)
        write_scores(tmp_path / "trainings" / name, focus)
    room = Classroom(replace(workbench, out_dir=tmp_path))
    assert room.judged("1", None)[-1] == ""
    asked, wanted = room.open_report("1")  # and while it is read another training is chosen
    said, *_, frame = room.judged("2", wanted)
    assert asked.props["asked"]
    assert "Nothing is shown" in said
    assert frame == ""
    assert "srcdoc='0.9'" in room.judged("1", wanted)[-1]
    chosen, _, wanted = room.look_again()
    assert (chosen.value, wanted) == ("2", None)


@pytest.fixture
def standin(monkeypatch, tmp_path):
    """The real process, with a stand-in for its work."""
    program = tmp_path / "standin.py"
    program.write_text(
        "import os, sys, time, json, pathlib\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "def say(status, done):\n"
        "    state = {'status': status, 'done': done, 'process': os.getpid(), 'said': ''}\n"
        "    (folder / 'draft').write_text(json.dumps(state))\n"
        "    os.replace(folder / 'draft', folder / 'state.json')\n"
        "say('running', 1)\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    say('stopped', 1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("sibx.app._processes.PROGRAM", "standin")


def test_of_two_pages_that_start_a_training_at_once_one_does(monkeypatch, workbench, tmp_path, standin):
    def slow(lesson, folder):
        time.sleep(0.5)  # the other one asks meanwhile
        write_lesson(lesson, folder)

    monkeypatch.setattr("sibx.app._processes.write_lesson", slow)
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(begin, tmp_path / "out", small(workbench)) for _ in range(2)]
        (problem,) = filter(None, [one.exception() for one in asked])
    assert "stop it first" in str(problem)
    (folder,) = trainings_in(tmp_path / "out")
    wait_for(lambda: read_state(folder).process)
    stop(folder)
    assert wait_for(lambda: read_state(folder).status == "stopped")


def test_a_process_that_is_stopped_or_killed_goes_on(workbench, tmp_path, standin):
    out = tmp_path / "out"
    folder = begin(out, small(workbench))
    assert read_state(folder).status == "running"
    with pytest.raises(ValueError, match="stop it first"):
        begin(out, small(workbench))
    process = wait_for(lambda: read_state(folder).process)
    assert os.getsid(process) == process  # the end of the server is not its end
    stop(folder)
    assert wait_for(lambda: read_state(folder).status != "running")
    assert read_state(folder).status == "stopped"
    go_on(out, folder)
    process = wait_for(lambda: read_state(folder).process)
    os.kill(process, signal.SIGKILL)
    assert wait_for(lambda: read_state(folder).status == "stopped")
    assert read_state(folder).done == 1


def wait_for(found, seconds=60):
    """What a function returns, as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen")
