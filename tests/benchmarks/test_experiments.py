"""The experiments of benchmarks/, in small: what they measure is what they say."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from sibx import TRAININGS, TrainConfig, build_dataset
from sibx.datasets import InMemoryDataset
from sibx.models import TinyCNN, TinyViT
from sibx.studies import Place, Study, run_study
from tests.helpers.studies import ROOT


def test_post_hoc(script):
    post_hoc = script("post_hoc")
    torch.manual_seed(0)
    images = InMemoryDataset.load(build_dataset("synthetic", None, "val", 32), range(3))
    wanted = {name for pair in post_hoc.PAIRS for name in pair}
    methods = [m for m in post_hoc.candidates("features.5") if m.name in wanted]
    scores = post_hoc.measure(TinyCNN(8), images, methods).set_index(["method", "metric"])["mean"]
    for first, second in post_hoc.PAIRS:
        difference = scores[f"{first} - {second}"] - (scores[first] - scores[second])
        assert np.allclose(difference.to_numpy(), 0)
    assert scores["R M (published M)", "foreground_focus"] != scores["R", "foreground_focus"]


def test_adaptive_curves(tmp_path, script, monkeypatch, capsys):
    adaptive_curves = script("adaptive_curves")
    for name, value in {"SIDE": 32, "FINEST": 28, "FIXED": (14, 28), "TOLERANCES": (0.1, 1e-9)}.items():
        monkeypatch.setattr(adaptive_curves, name, value)
    monkeypatch.setattr(adaptive_curves, "build_model", lambda *_: TinyCNN(8))
    torch.manual_seed(0)
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 255, (40, 50, 3))
        Image.fromarray(noise.astype(np.uint8)).save(tmp_path / f"{i}.jpg")
    adaptive_curves.main(tmp_path, "weights", images=4, tolerance=1e-3, out=tmp_path / "out")
    printed = capsys.readouterr().out
    curves = torch.load(tmp_path / "out" / "curves.pt")
    assert [c.shape for c in curves.values()] == [(4, 29)] * 2
    every, finest = (next(r for r in printed.splitlines() if key in r) for key in ("| 28 equal", "tolerance 1e-09"))
    assert every.count("29.0, 100.0%") == finest.count("29.0, 100.0%") == 3
    assert all(r.endswith("| 0.0000 | 0.0000 |") for r in (every, finest))
    few, points = adaptive_curves.adaptive(curves["deletion"], 0.1)
    assert (points < 29).all()
    assert torch.allclose(few, torch.trapezoid(curves["deletion"], dx=1 / 28), atol=0.1)

    # Curves that are there are not recorded again.
    monkeypatch.setattr(adaptive_curves, "record", lambda *_: pytest.fail("recorded again"))
    adaptive_curves.main(tmp_path, "weights", tolerance=1e-3, out=tmp_path / "out")
    assert adaptive_curves.table(curves, 1e-3) in capsys.readouterr().out


def test_arms_at_a_layer(script):
    arms = script("arms").ARMS
    there = {name: arm.at({"layer2": 1.0}) for name, arm in arms.items()}
    assert there["ce"].loss is None
    assert {n for n, a in there.items() if a.loss and a.loss.layers == {"input": 1.0}} == {
        n for n in arms if "soft" in n
    }
    assert all(a.loss.layers == {"layer2": 1.0} for n, a in there.items() if a.loss and "soft" not in n)
    assert all(a.reading.layers == {"layer2": 1.0} for a in there.values())
    assert all(arm.at("auto") == arm for arm in arms.values())


@pytest.mark.slow
def test_factors(tmp_path, script, monkeypatch, capsys):
    factors = script("factors")
    for name, value in {"START": 32, "TRAIN": 32, "JUDGED": 16, "EXPLAINED": 1}.items():
        monkeypatch.setattr(factors, name, value)
    brief = TrainConfig(epochs=1, batch_size=16)
    monkeypatch.setattr(factors, "RECIPE", factors.replace(factors.RECIPE, start=brief, tune=brief))
    factors.main(seeds=[0], designs=["ramp"], out=tmp_path)
    cells = factors.load_cells(tmp_path).set_index("arm")
    assert set(cells.index) == set(factors.ARMS)
    assert set(capsys.readouterr().out.split()) >= set(factors.ARMS)
    assert cells.loc["truth", "mask precision"] == 1
    assert cells.loc["base", "mask precision"] == cells.loc["base-shuffled", "mask precision"] < 1
    assert np.isnan(cells.loc["online", "mask precision"])

    # Every arm is another training: no two end with the same weights.
    weights = [torch.load(f)["classifier.weight"] for f in sorted(tmp_path.glob("ramp/seed-0/*.pt"))]
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])
    factors.main(seeds=[0], designs=["ramp"], arms=["ce", "base"], network="thin_resnet", out=tmp_path)
    assert set(factors.load_cells(tmp_path)["design"]) == {"ramp", "ramp thin_resnet"}
    monkeypatch.setattr(factors, "learn", lambda *_: pytest.fail("a finished arm was repeated"))
    factors.main(seeds=[0], designs=["ramp"], out=tmp_path)


def test_baseline_settings(tmp_path, script, monkeypatch, capsys):
    settings = script("baseline_settings")
    assert all(len(tries) == settings.TRIED for tries in settings.TRIES.values())
    for name, tries in settings.TRIES.items():
        assert len({TRAININGS[name].changed(values).at() == TRAININGS[name].at() for values in tries}) > 1
    for file in ("composite", "embedded"):
        words = yaml.safe_load((ROOT / "benchmarks" / "studies" / f"baselines_{file}.yaml").read_text())
        trainings = {name.removesuffix("-shuffled") for name in words["trainings"]}
        assert trainings - {"ce"} <= set(settings.TRIES)
    study = {
        **{"name": "small", "image_size": 32, "train_images": 64, "trainings": ["ce", "dfr", "jtt"]},
        **{"start": {"epochs": 1, "batch_size": 16}, "tune": {"epochs": 1, "batch_size": 16}},
        "options": {"synthetic": {"size": 160, "rho": 0.5}},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.setitem(settings.TRIES, "jtt", [{"factor": 1}, {"factor": 30}])
    monkeypatch.setitem(settings.TRIES, "dfr", [{"draws": 1}])
    settings.main(tmp_path / "small.yaml", out=tmp_path)
    table = pd.read_csv(tmp_path / "small.csv")
    assert table["training"].tolist() == ["dfr", "jtt", "jtt"]
    assert (table["worst_group"] <= table["mean_of_groups"]).all()
    best = settings.best_settings(table)
    assert f"  jtt: {json.dumps(best['jtt'])}" in capsys.readouterr().out
    before = table.to_csv()
    monkeypatch.setattr(settings, "attempt", None)  # nothing is tried twice
    settings.main(tmp_path / "small.yaml", out=tmp_path)
    assert pd.read_csv(tmp_path / "small.csv").to_csv() == before


def test_halves_keep_the_copies_of_an_object_together(script):
    settings = script("baseline_settings")
    data = InMemoryDataset.load(build_dataset("synthetic", None, "val", 32), range(40))
    copies = [s._replace(id=f"{s.id}@kind-{copy}") for copy in range(3) for s in data]
    first, second = settings.halves(InMemoryDataset(data, copies))
    names = [{sample.id.partition("@")[0] for sample in half} for half in (first, second)]
    assert len(first) + len(second) == 120
    assert names[0].isdisjoint(names[1])
    assert min(map(len, names)) > 10


def test_shares_are_chosen_on_the_other_sets(script, tmp_path):
    """Three sets, two seeds: on a and b .4 costs too much accuracy, on c it costs none."""
    shown = script("shares_shown")
    cost = {("a", 0.4): 0.1, ("b", 0.4): 0.04, ("c", 0.2): 0.005}
    lines = [
        {
            "dataset": dataset,
            "seed": seed,
            "masks": masks,
            "share": share,
            "split": split,
            "accuracy": 0.9 + seed / 100 - (cost.get((dataset, share), 0) if split == "val" else share / 10),
            **dict.fromkeys(shown.METHODS, 0.5 + share / 2 if masks == "own" else 0.5 + share / 4),
        }
        for dataset in "abc"
        for seed in (0, 1)
        for share, masks in ((0.0, "own"), (0.2, "own"), (0.4, "own"), (0.4, "shuffled"))
        for split in ("val", "test", "test-other")
    ]
    table = pd.DataFrame(lines)
    table.to_csv(tmp_path / "shares.csv", index=False)
    shown.main(tmp_path / "shares.csv", tmp_path)
    left_out = pd.read_csv(tmp_path / "tables" / "shares_left_out.csv", index_col=0, dtype=str)
    # Without c the mean loss at .4 is .07, without a (.04 + 0) / 2, without b (.1 + 0) / 2: more than the margin.
    assert left_out["share chosen on the others"].to_dict() == dict.fromkeys("abc", "0.2")
    assert left_out.loc["c", "accuracy"].startswith("-0.020 [-0.020, -0.020]")
    over_sets = pd.read_csv(tmp_path / "tables" / "shares_over_sets.csv", index_col=0)
    row = over_sets.loc["own at 0.4 - shuffled"]
    assert (row[["focus, four methods", "VJP", "Grad-CAM"]] == "+0.100 [+0.100, +0.100] *").all()
    assert "own at 0.2 - shuffled" not in over_sets.index
    assert (tmp_path / "shares.png").stat().st_size > 10_000


def test_what_carries_over_is_paired_over_seeds(script):
    """Two sets, two seeds: own masks gain .1 of focus on a and .2 on b, and the other masks half of that."""
    shown = script("carries_over_shown")
    of_training = {"ce": 0.0, "own": 1.0, "shuffled": 0.5}
    lines = [
        {"dataset": dataset, "seed": seed, "training": training, "split": split, "method": method, "metric": metric}
        | {"mean": 0.3 + seed / 10 + part * gain * (metric == "foreground_focus")}
        for dataset, gain in (("a", 0.1), ("b", 0.2))
        for seed in (0, 1)
        for training, part in of_training.items()
        for split in ("test", "test-decorrelated")
        for method, metric in (
            ("classifier", "accuracy"),
            ("vjp", "foreground_focus"),
            ("vjp", "background_suppression"),
            ("control_center", "foreground_focus"),
        )
    ]
    found = shown.table(pd.DataFrame(lines))
    assert list(found.index) == ["a (2)", "b (2)", "mean over sets"]
    assert found.loc["a (2)", "focus: ce, own, shuffled"] == "0.350, 0.450, 0.400"
    assert found.loc["b (2)", "focus: own - shuffled"] == "+0.100 [+0.100, +0.100] *"
    assert found.loc["mean over sets", "focus: own - ce"].startswith("+0.150 [")
    assert found.loc["mean over sets", "accuracy: own - ce"] == "+0.000 [-0.000, +0.000]"


def test_what_carries_over_stands_in_one_place(script):
    shown = script("carries_over_shown")
    for name in shown.TABLES:
        for title, table in shown.tables(shown.HERE, name).items():
            file = shown.PAGES / "tables" / f"{title}.csv"
            assert file.read_text(encoding="utf-8") == table.to_csv(lineterminator="\n")
    starts = (shown.PAGES / "tables" / f"{shown.STARTS}.csv").read_text(encoding="utf-8")
    assert starts == shown.beside_starts(shown.HERE).to_csv(lineterminator="\n")


def test_shares_stand_in_one_place(script):
    shown = script("shares_shown")
    for name, table in shown.tables(*shown.read(shown.HERE / "shares.csv")).items():
        file = shown.PAGES / "tables" / f"{name}.csv"
        assert file.read_text(encoding="utf-8") == table.to_csv(lineterminator="\n")


def test_figures_of_the_readme_are_those_of_the_tables(script):
    carried, shares, baselines = (script(f"{name}_shown") for name in ("carries_over", "shares", "baselines"))
    found = carried.tables(carried.HERE, "carries_over_longer")
    longer = found["carries_over_longer"].loc["mean over sets"]
    gradcam = found["carries_over_longer_methods"].loc["Grad-CAM", "own - ce"]
    of_masks = [longer["focus: own - ce"], gradcam, longer["focus: own - shuffled"], longer["accuracy: own - ce"]]
    over_sets = shares.gains_over_sets(shares.read(shares.HERE / "shares.csv")[0])
    gains = pd.read_csv(baselines.TABLES / "baselines_composite_gains.csv", index_col=0).loc["sib-self-cut - ce"]
    misled = [gains[baselines.WORST], gains[baselines.SPLITS["test-id"]]]
    claims = [*of_masks, over_sets.loc["own at 0.4 - cross-entropy", "accuracy"], *misled]
    readme = re.findall(r"[+-]0\.\d{3} \[[^]]*\]", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert readme == [text.removesuffix(" *") for text in claims]


def test_forms_are_paired_on_the_same_start(script):
    """Own masks gain .2 over cross-entropy of the same set and seed, .1 over shuffled ones; seed 1 has no partner."""
    shown = script("further_ahead_shown")
    trainings = {("cross-entropy", "none"): 0.0, ("contrast", "own"): 0.2, ("contrast", "shuffled"): 0.1}
    lines = [
        {"dataset": dataset, "seed": seed, "epochs": 5, "form": form, "masks": masks, "split": split}
        | dict.fromkeys(("accuracy", "focus", "vjp", "gradcam"), level + seed / 10 + gain)
        for split in ("test", "val")
        for dataset, level in (("b", 0.3), ("a", 0.5))
        for (form, masks), gain in trainings.items()
        for seed in ((0, 1) if masks == "own" else (0,))
    ]
    found, short = shown.tables(pd.DataFrame(lines)).values()
    starts = [(dataset, 5, 0, "contrast") for dataset in ("b", "a")]
    assert list(found.index) == [(split, *start) for split in ("test", "val") for start in starts]
    assert (found.filter(like="own - ce") == "+0.200").all(axis=None)
    assert (found.filter(like="own - shuffled") == "+0.100").all(axis=None)
    assert list(short.index) == [(5, "contrast")]
    assert short.loc[(5, "contrast"), ["sets", "starts"]].tolist() == [2, 2]
    assert (short.filter(like="own - ce") == "+0.200 [+0.200, +0.200]").all(axis=None)


def test_forms_stand_in_one_place(script):
    shown = script("further_ahead_shown")
    rates = {"rates": shown.of_rates(pd.read_csv(shown.HERE / "rates.csv", dtype=str))}
    for name, table in (shown.tables(shown.read(shown.HERE / "further_ahead.csv")) | rates).items():
        assert (shown.TABLES / f"{name}.csv").read_text(encoding="utf-8") == table.to_csv(lineterminator="\n")


def test_centered_heads_are_measured_once(script, tmp_path, monkeypatch):
    """Of a tiny study: what a head's mean does to a map is gone, and what is done is not done again."""
    centered = script("centered")
    for name, value in {"EXPLAINED": 6, "PERTURBED": 2}.items():
        monkeypatch.setattr(centered, name, value)
    words = {"name": "small", "trainings": ["ce"], "image_size": 32, "train_images": 32, "methods": ["saliency"]}
    brief = {"epochs": 1, "batch_size": 16}
    words |= {"start": brief, "tune": brief, "controls": [], "localization": ["foreground_focus"], "faithfulness": []}
    words |= {"explained": ["test-id"], "test_images": 2, "reliance_images": 0, "options": {"synthetic": {"size": 24}}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(words))
    run_study(Study(**words), Place(root=None, out=str(tmp_path), processes=1))
    (file,) = (tmp_path / "small").glob("cells/*/*/ce/model.pt")
    content = torch.load(file, weights_only=True)
    content["state"]["classifier.weight"][:, 0] += 5  # the same for every class
    torch.save(content, file)

    asked = {"study": tmp_path / "small", "file": tmp_path / "small.yaml", "root": None, "out": tmp_path / "c.csv"}
    centered.main(**asked)
    table = pd.read_csv(asked["out"]).set_index("head")
    assert table["training"].tolist() == ["ce", "ce"]
    assert abs(table.loc["as is", "gradcam"] - table.loc["centered", "gradcam"]) > 0.01
    assert table.loc["as is", "vjp"] == pytest.approx(table.loc["centered", "vjp"], abs=2e-3)
    monkeypatch.setattr(centered, "judge", lambda *_: pytest.fail("a finished network was measured again"))
    centered.main(**asked)


def test_what_centering_gains_is_paired(script):
    """Two sets, two seeds: Grad-CAM gains .1 with own masks, .05 with those of others, nothing with cross-entropy."""
    shown = script("centered_shown")
    gains = {"ce": 0.0, "sib-self-cut": 0.1, "sib-self-cut-shuffled": 0.05}
    lines = [
        {"dataset": dataset, "model": "m", "seed": seed, "training": training, "head": head}
        | dict.fromkeys(shown.TITLES, level + seed / 10)
        | {"gradcam": level + seed / 10 + (gain if head == "centered" else 0)}
        for dataset, level in (("a", 0.3), ("b", 0.4))
        for seed in (0, 1)
        for training, gain in gains.items()
        for head in ("as is", "centered")
    ]
    of_sets, over_sets = shown.tables(pd.DataFrame(lines)).values()
    assert list(of_sets.index) == ["m, a (2)", "m, b (2)"]
    assert of_sets.loc["m, a (2)", "own"] == "0.350, 0.450"
    assert of_sets.loc["m, b (2)", "own - shuffled"] == "+0.000, +0.050"
    assert over_sets.loc["m, own", "Grad-CAM"] == "+0.100 [+0.100, +0.100] *"
    assert over_sets.loc["m, ce", "VJP"].startswith("+0.000")


def test_centered_heads_stand_in_one_place(script):
    shown = script("centered_shown")
    for name, table in shown.tables(pd.read_csv(shown.HERE / "centered.csv")).items():
        file = shown.PAGES / "tables" / f"{name}.csv"
        assert file.read_text(encoding="utf-8") == table.to_csv(lineterminator="\n")


def test_baselines_stand_in_one_place(script):
    shown = script("baselines_shown")
    for file in shown.FILES:
        cells = pd.read_csv(shown.HERE / f"{file}.csv")
        tables = shown.tables(cells, file)
        for name, table in tables.items():
            assert (shown.TABLES / f"{name}.csv").read_text(encoding="utf-8") == table.to_csv(lineterminator="\n")
        mixed = cells[(cells["split"] == "test-decorrelated") & (cells["metric"] == "worst_group")]
        by_seed = mixed.pivot(index="seed", columns="training", values="mean")
        gain = (by_seed["sib-self-cut"] - by_seed["ce"]).mean()
        assert tables[f"{file}_gains"].loc["sib-self-cut - ce", shown.WORST].startswith(f"{gain:+.3f}")


def test_attentive(script):
    """A transformer is recorded as it is and explained; a network without attention says so, for every method."""
    attentive, network = script("attentive"), script("families").Network
    line = attentive.measure(network("here", "vit", lambda: TinyViT(attentive.CLASSES, depth=2), 32))
    assert (line["matrices"], line["grid"], line["methods"], line["refused"]) == (2, "4 x 4", "all", None)
    assert line["difference"] < attentive.ALIKE
    line = attentive.measure(network("here", "cnn", lambda: TinyCNN(attentive.CLASSES, width=4), 32))
    assert (line["matrices"], line["methods"]) == (0, "")
    assert line["refused"].startswith("all: `model` must have attention")


LEADERBOARD = """
image_size: 32
train_images: 16
networks: {tiny_vit: none}
sets: {synthetic: {split: test-id, options: {size: 64}}}
settings: {smoothgrad: {samples: 2}}
metrics: {maps: [[foreground_focus, insertion]], curves: [[deletion]]}
rounds:
  - {metrics: [maps], images: [0, 2]}
  - {metrics: [curves], images: [1, 3], most_passes: 2}
"""


def test_leaderboard(script, tmp_path, monkeypatch):
    """Every round scores all methods that are quick enough on the same images; what is done is not done again."""
    leaderboard = script("leaderboard")
    names = ["saliency", "smoothgrad", "gradcam", "control_center"]
    monkeypatch.setattr(leaderboard, "METHODS", {name: leaderboard.METHODS[name] for name in names})
    monkeypatch.setattr(leaderboard, "VIT_SIDE", 32)
    monkeypatch.setattr(leaderboard, "fine_tune", lambda network, *_, **__: SimpleNamespace(model=network))
    (tmp_path / "plan.yaml").write_text(LEADERBOARD)
    leaderboard.main(tmp_path, out=tmp_path, plan=tmp_path / "plan.yaml")
    scores = pd.read_csv(tmp_path / "leaderboard_scores.csv")
    assert scores.groupby("metric")["image"].nunique().to_dict() == {
        "deletion": 2,
        "foreground_focus": 2,
        "insertion": 2,
    }
    assert scores["image"].nunique() == 3
    by_metric = scores.set_index("metric")[names].notna().groupby("metric").any()  # a map may be zero everywhere
    assert by_metric.loc[["foreground_focus", "insertion"]].all(axis=None)
    assert by_metric.loc["deletion"].to_dict() == {name: name != "smoothgrad" for name in names}
    passes = pd.read_csv(tmp_path / "leaderboard_passes.csv").iloc[0]
    assert passes[names].tolist() == [2, 4, 2, 0]
    monkeypatch.setattr(leaderboard, "evaluate", lambda *_, **__: pytest.fail("a finished round was repeated"))
    leaderboard.main(tmp_path, out=tmp_path, plan=tmp_path / "plan.yaml")


def test_leaderboard_heads_and_turns(script):
    """The head is fitted to what is below it, and the first of every class comes before the second of any."""
    leaderboard = script("leaderboard")
    torch.manual_seed(0)
    data, network = build_dataset("synthetic", None, "train", 32, size=40), TinyCNN(8, width=8).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    leaderboard.fit_head(network, data, decay=0.0, steps=300)
    assert {n for n, t in network.state_dict().items() if not t.equal(before[n])} == {
        "classifier.weight",
        "classifier.bias",
    }
    with torch.no_grad():
        predicted = network(torch.stack([sample.image for sample in data])).argmax(1)
    assert (predicted == InMemoryDataset.load(data).labels).double().mean() > 0.5  # chance is 1/8
    turns = [int(data.label_of(i)) for i in leaderboard.in_turn(data)]
    assert sorted(turns[:8]) == list(range(8))
    assert sorted(leaderboard.in_turn(data)) == list(range(40))


def test_leaderboard_votes(script):
    """A photograph has one vote, the mean of its ranks over metrics and networks; a missing score is the last."""
    shown = script("leaderboard_shown")
    lines = [
        ("mobilenet_v2", "a", "1", "iou", 0.9, 0.5, 0.1),
        ("efficientnet_lite0", "a", "1", "iou", 0.5, 0.9, np.nan),
        ("mobilenet_v2", "a", "1", "deletion", 0.1, 0.2, 0.3),  # the lower the better
        ("mobilenet_v2", "a", "2", "iou", 0.4, 0.4, 0.8),
        ("efficientnet_lite0", "a", "2", "iou", 0.4, 0.4, 0.8),
        ("tiny_vit", "a", "2", "iou", 0.1, 0.2, 0.3),
    ]
    rows = pd.DataFrame(lines, columns=[*shown.KEY, "saliency", "gradcam", "control_center"])
    found = shown.votes(rows, ("iou", "deletion"), shown.CONVOLUTIONAL)
    assert np.allclose(found.table.to_numpy(), [[4 / 3, 5 / 3, 3], [2.5, 2.5, 1]])
    assert found.control == "control_center"
    gains = shown.against_controls({"all": found})
    assert gains.loc["Saliency", "all: over center"].startswith("+0.1 ")  # (3 - 4/3 + 1 - 5/2) / 2


def test_leaderboard_stands_in_one_place(script):
    """The page shows the tables of the scores that are kept, and ``leaderboard.csv`` has their means."""
    shown = script("leaderboard_shown")
    rows, passes = (pd.read_csv(shown.HERE / f"leaderboard_{name}.csv") for name in ("scores", "passes"))
    for name, table in shown.tables(rows, passes).items():
        file = shown.PAGES / "tables" / f"{name}.csv"
        assert file.read_text(encoding="utf-8") == table.to_csv(lineterminator="\n")
    kept = pd.read_csv(shown.HERE / "leaderboard.csv").set_index(["model", "dataset", "metric"])
    means = rows.groupby(["model", "dataset", "metric"])[list(rows.columns[4:])].mean()
    found = kept[kept["value"] == "mean"].reindex(means.index)[means.columns]
    assert np.allclose(found, means, rtol=6e-3, equal_nan=True)
    text = (shown.PAGES / "leaderboard.md").read_text(encoding="utf-8")
    assert set(re.findall(r"tables/(\w+)\.csv", text)) >= set(shown.tables(rows, passes))


def test_few_masks(script):
    """Larger shares hold the smaller ones; shuffled, every mask is another image's of its kind; the page's table."""
    few, shown = script("few_masks"), script("few_masks_shown")
    some, more = few.drawn(20, 0.1, seed=3), few.drawn(20, 0.5, seed=3)
    assert (some.sum(), more.sum(), (some & ~more).sum(), few.drawn(20, 0.0, seed=3).sum()) == (2, 10, 0, 0)
    train = build_dataset("synthetic", split="train", image_size=16, size=20)
    truth, none = torch.stack([sample.mask for sample in train]), torch.zeros(20, 1, 16, 16).bool()
    given, moved = (few.masks_of(train, none, more, shuffled=shuffled) for shuffled in (False, True))
    assert torch.equal(given, truth & more[:, None, None, None])
    assert torch.equal(moved[more], truth[more].roll(1, 0))
    assert not moved[~more].any()
    table = pd.read_csv(shown.PAGES / "tables" / "few_masks.csv", index_col=0, dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(shown.gains(shown.read(shown.HERE / "few_masks.csv")), table, check_dtype=False)


def test_what_undefined_pixels_count_as(script, shapes):
    """In every form the masks of ``undefined.py`` are those of its name; gains are paired by seed."""
    undefined = script("undefined")
    edge = [s.mask.roll(1, -1) & ~s.mask for s in shapes.samples]
    data = InMemoryDataset(shapes, [s._replace(undefined=u) for s, u in zip(shapes.samples, edge, strict=True)])
    masks, one = {form: undefined.counted(data, form)[0] for form in undefined.FORMS}, data[0]
    assert masks["left out"] is masks["left out, shuffled"] is masks["cross-entropy"] is one
    assert not any(masks[form].undefined.any() for form in ("background", "object"))
    assert torch.equal(masks["background"].mask, one.mask)
    assert torch.equal(masks["object"].mask, one.mask | one.undefined)

    rows = [
        (form, seed, 0.1 * seed + gain) for form, gain in (("left out", 0.02), ("object", 0.0)) for seed in (0, 1, 2)
    ]
    table = pd.DataFrame(rows, columns=["undefined", "seed", "vjp"]).assign(dataset="msrc-v2")
    table = table.sample(frac=1, random_state=0).assign(accuracy=0.5, focus=0.5, gradcam=0.5)
    (line,) = undefined.gains(table)["VJP"]
    assert line.startswith("+0.020 [+0.020, +0.020]")
