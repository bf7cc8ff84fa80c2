"""What a study asks for, from Python, from a file and from the command line."""

import sys
from dataclasses import replace

import pytest

from sibx.cli import COMMANDS, _parse, main
from sibx.cli.study import read
from sibx.studies import RECIPES, Place, Study
from tests.helpers.studies import ROOT

STUDIES = ROOT / "benchmarks" / "studies"
FILES = sorted(path.name for path in STUDIES.iterdir() if path.name != "leaderboard.yaml")  # no study: methods only


def understood(*words):
    args = _parse(["study", *words])
    return Study(**read(args, Study)), Place(**read(args, Place))


def test_settings(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "dataset: [synthetic, msrc-v2]\nseed: [1, 2]\ntest_images: 5\nfaithfulness: []\n"
    )
    words = ["--config", str(tmp_path / "mine.yaml"), "--test-images", "7", "--start", '{"epochs": 4}', "--resume"]
    study, place = understood(*words)
    assert (study.datasets, study.models, study.seeds) == (["synthetic", "msrc-v2"], ["tiny_cnn"], [1, 2])
    assert (study.test_images, study.recipe_for("tiny_cnn").start.epochs, study.faithfulness) == (7, 4, [])
    assert (place.resume, place.dry_run) == (True, False)
    assert study.title == "synthetic+msrc-v2-tiny_cnn"
    assert len(study.jobs()) == 2 * 2 * (1 + 8 + 4)  # a checkpoint, its masks in eight parts, four trainings


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--trainings=[ce, sib]"], "trainings", ["ce", "sib"]),
        (["--trainings", "ce", "sib"], "trainings", ["ce", "sib"]),
        (["--trainings", "ce"], "trainings", ["ce"]),
        (["--faithfulness"], "faithfulness", []),
        (["--seed", "3"], "seed", 3),
        (["--seed", "0", "3"], "seed", [0, 3]),
        (["--tune", "epochs=2", "learning_rate=3e-4"], "tune", {"epochs": 2, "learning_rate": 3e-4}),
        (["--options", '{"msrc-v2": {"void": "background"}}'], "options", {"msrc-v2": {"void": "background"}}),
        (["--options", 'msrc-v2={"void": "background"}'], "options", {"msrc-v2": {"void": "background"}}),
        (["--layers", 'mine:net={"conv": 1}'], "layers", {"mine:net": {"conv": 1}}),
        (["--name", "2024"], "name", "2024"),
        (["--weights", "null"], "weights", None),
        (["--no-checkpoint"], "checkpoint", False),
        (["--settings", 'rrr={"weight": 10}'], "settings", {"rrr": {"weight": 10}}),
    ],
)
def test_options_are_read_by_their_type(words, name, value):
    assert getattr(understood(*words)[0], name) == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--model=resnet", "did you mean 'resnet"),
        ("--methods=[gradcamm]", "did you mean 'gradcam'"),
        ("--trainings=[sibb]", "did you mean 'sib'"),
        ("--trainings=[ce, ce]", "`training` must name at least one, and none twice"),
        ("--localization=[focus]", "`metrics` must be one of"),
        ('--settings={"rrr": {"weight": 2}}', "`settings` must be one of ce, sib, sib-self-cut"),
        ('--settings={"sib": {"weight": 2}}', "`settings` must be one of layers, masks, "),
        ('--settings={"ce": {"weight": 2}}', "`settings` must be left out for ce"),
        ('--tune={"epoch": 3}', "`tune` must be one of class_weights, "),
        ("--seed=first", "`seed` must be int | list[int], but got 'first'"),
        ("--recipe=paintings", "`recipe` must be"),
        ("--train-images=0", "`train_images` must be at least 1"),
        ("--explained=[test-adversarail]", "did you mean 'test-adversarial'"),
        ("--compare=sib:swap", "`compare` must be one of ce, sib, "),
        ("--processes=0", "`processes` must be at least 1"),
        ("--no-checkpoint", "`checkpoint` must be true for the own masks of ['sib-self-cut', 'sib-self-cut-shuffled']"),
    ],
)
def test_wrong_settings(word, message, capsys):
    assert main(["study", word, "--dry-run"]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_yaml_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert main(["study", "--config", str(STUDIES / "smoke.yaml"), "--dry-run"]) == 2
    assert "pip install 'sibx[yaml]'" in capsys.readouterr().err
    assert understood("--trainings", "ce", "--epochs=3")[0].epochs == 3


def test_jobs_of_a_group():
    study = Study(trainings=["ce", "sib-self-cut", "sib", "sib-self-fixed-shuffled", "sib-self"])
    jobs = {job.name: job for job in study.jobs()}
    masks = [name for name in jobs if name.startswith("masks")]
    readers = {"sib-self-cut", "sib-self"}  # the first trainings of the two ways to read own masks
    assert masks == [
        f"masks-of-{reader}-part-{part}" for reader in ("sib-self-cut", "sib-self") for part in range(1, 9)
    ]
    assert {jobs[name].reading for name in masks} == readers
    assert jobs["ce"].needs == jobs["sib"].needs == jobs[masks[0]].needs == (jobs["start"],)
    assert jobs["sib-self-cut"].needs == jobs["sib-self-fixed-shuffled"].needs
    assert {need.reading for need in jobs["sib-self"].needs} == {"sib-self"}


def test_the_default_is_the_embedded_benchmark():
    assert understood("--config", str(STUDIES / "default.yaml"))[0].identify() == Study().identify()


@pytest.mark.parametrize("file", FILES)
def test_every_study_of_the_repository_is_in_order(file):
    study, _ = understood("--config", str(STUDIES / file))
    study.check()
    assert set(study.explained) <= {"test", "test-id", "test-decorrelated", "test-adversarial"}
    trainings = set(study.trainings)
    assert {name for pair in study.compare for name in pair.split(":")} <= trainings


def test_every_field_is_an_option_with_a_note(capsys):
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for text in ("--perturbed-images", "number of threads of torch in every process", "`module:function`".strip("`")):
        assert text in printed
    assert COMMANDS["study"].takes_config


def test_settings_of_trainings():
    study = Study(
        trainings=["rrr", "rrr-shuffled", "sib", "sib-self-cut-shuffled", "jtt"],
        settings={
            "rrr": {"weight": 10},
            "sib": {"background.weight": 2, "layers": {"features.3": 1.0}},
            "sib-self-cut": {"swap": 0.0},
            "jtt": {"factor": 50},
        },
    )
    study.check()
    specs = study.specs_at("tiny_cnn")
    assert [specs[name].objective.weight for name in ("rrr", "rrr-shuffled")] == [10, 10]
    assert specs["rrr-shuffled"].shuffled
    assert (specs["sib"].objective.background.weight, specs["sib"].objective.layers) == (2, {"features.3": 1.0})
    assert specs["sib-self-cut-shuffled"].objective.swap == 0
    assert specs["jtt"].prepare.factor == 50
    assert Study(trainings=study.trainings).identify() != study.identify()


def test_what_a_recipe_said_is_part_of_a_study(monkeypatch):
    """A study that is continued by a version with another recipe would compare trainings that differ in more."""
    study = Study(weights="default", model="mobilenet_v2", tune={"epochs": 4})
    said = study.identify()
    assert (said["start"]["epochs"], said["tune"]["epochs"], said["tune"]["center_head"]) == (10, 4, True)
    assert "objective" not in said["tune"]
    again = Study(**said)
    again.check()
    assert again.identify() == said
    assert again.recipe_for("mobilenet_v2").tune == study.recipe_for("mobilenet_v2").tune
    photographs = RECIPES["photographs"]
    other = replace(photographs, start=replace(photographs.start, batch_size=8))
    monkeypatch.setitem(RECIPES, "photographs", other)
    assert study.identify() != said
