"""recommend(): what is chosen and checked, what it says when nothing beats the controls, what a budget does."""

import json

import numpy as np
import pytest
import torch

from sibx import build_dataset, build_model
from sibx.datasets import Part
from sibx.evaluation import recommend
from sibx.evaluation._recommend import _check_place, _folder
from sibx.evaluation.passes import FEWEST, Counter, plan
from sibx.evaluation.recommendation import Candidate, judge
from tests.helpers.reports import make_results

CONTROLS = ("control_center", "control_random")
CANDIDATES = ("saliency", "gradcam@a", "gradcam@b", *CONTROLS)


def results_of(score, images=40, methods=CANDIDATES, metrics=("foreground_focus", "deletion")):
    made = {"images": images, "methods": methods, "metrics": metrics, "score": score, "info": {"passes": 7}}
    return make_results(trainings=("ce",), curves=False, **made)


def noise(method, metric, image):
    return np.random.default_rng([image, len(metric), *map(ord, method)]).normal(0, 0.05)


def judged(results, candidates=None, **directions):
    directions = directions or {"foreground_focus": True, "deletion": False}
    candidates = candidates or [Candidate(*(*name.split("@"), "")[:2]) for name in CANDIDATES]
    return judge(results, directions, candidates, [("rise", "1058 passes per image")], 50, None)


def test_a_good_candidate_is_chosen_and_its_gain_is_of_the_other_half():
    def score(training, method, metric, image):
        better = 0.1 * (method == "gradcam@b")
        return 0.5 + (better if metric == "foreground_focus" else -better) + noise(method, metric, image)

    results = results_of(score)
    found = judged(results)
    assert (found.choice, found.method, found.layer, found.verdict) == ("gradcam@b", "gradcam", "b", "shown")
    assert (found.images, found.available, found.passes) == (40, 50, 7)
    assert found.ranking.n == 20
    for line in found.check.to_dict("records"):
        control = line["control"]
        odd = range(1, 40, 2)
        even = range(0, 40, 2)
        sign = 1 if line["higher_is_better"] else -1
        means = {c: sign * np.mean([score("", c, line["metric"], i) for i in even]) for c in CONTROLS}
        assert control == max(means, key=means.get)
        gains = [score("", "gradcam@b", line["metric"], i) - score("", control, line["metric"], i) for i in odd]
        assert line["mean"] == pytest.approx(np.mean(gains))
        assert line["n"] == 20
    assert found.table["candidate"].nunique() == 5
    assert len(found.table) == 10
    assert found.table.set_index("candidate").loc["control_center", "p_holm"].isna().all()
    text = str(found)
    assert text.startswith("Use gradcam@b: on images that had no say in the choice it beats the best control.")
    assert "left out: rise: 1058 passes per image" in text


def test_the_luck_of_the_choice_is_no_gain(tmp_path):
    """What is better on the images that choose only: there its gain is beyond doubt, on the others there is none."""

    def score(training, method, metric, image):
        return 0.5 + 0.2 * (method == "saliency" and image % 2 == 0) + noise(method, metric, image)

    found = judged(results_of(score), foreground_focus=True)
    best = found.table[found.table["candidate"] == "saliency"].iloc[0]
    assert best["gain_low"] > 0
    assert best["p_holm"] < 0.01
    assert (found.choice, found.verdict) == ("saliency", "none")
    assert "None is shown to beat the best control. saliency ranks first of the methods." in str(found)
    assert "(not shown, p = " in str(found)
    found.save(tmp_path)
    said = json.loads((tmp_path / "recommendation.json").read_text(encoding="utf-8"))
    assert (said["verdict"], said["choice"], said["layer"]) == ("none", found.choice, None)
    assert [line["control"] for line in said["table"] if line["candidate"] in CONTROLS] == [None, None]
    assert (tmp_path / "candidates.csv").is_file()
    assert (tmp_path / "check.csv").is_file()


def test_better_by_one_metric_only_and_behind_a_control():
    def score(training, method, metric, image):
        if metric == "deletion":
            return 0.5 - 0.1 * (method == "saliency") + noise(method, metric, image)
        return {"control_center": 0.9, "saliency": 0.5}.get(method, 0.1) + noise(method, metric, image) / 10

    found = judged(results_of(score))
    assert (found.choice, found.verdict) == ("saliency", "partly")
    assert found.check["shown"].tolist() == [False, True]
    behind = judged(results_of(score), foreground_focus=True)
    assert behind.verdict == "none"
    assert "It ranks behind control_center, which never looked at the model." in str(behind)
    assert "over control_center (worse, p = " in str(behind)
    assert "may be chance" not in str(behind)


def test_what_has_no_score_is_undefined_and_a_name_may_have_an_at():
    methods = ("mine@home", *CONTROLS)
    candidates = [Candidate("mine@home", ""), *(Candidate(name, "") for name in CONTROLS)]
    results = results_of(lambda _, method, *__: 0.5 if method in CONTROLS else np.nan, images=8, methods=methods)
    found = judged(results, candidates, foreground_focus=True)
    assert (found.choice, found.method, found.layer, found.verdict) == ("mine@home", "mine@home", None, "none")
    assert "foreground_focus: undefined (no image has a score of both it and control_" in str(found)
    at_layer = judged(results, [Candidate("mine", "home"), *candidates[1:]], foreground_focus=True)
    assert (at_layer.choice, at_layer.method, at_layer.layer) == ("mine@home", "mine", "home")


def test_every_layer_has_a_folder_of_its_own_and_none_of_another_call_stays(tmp_path):
    layers = ["", "input", "@input", "a/input", "..", "features.2:relu"]
    folders = [_folder(layer) for layer in layers]
    assert len(set(folders)) == len(layers)
    assert all((tmp_path / name).resolve().parent == tmp_path.resolve() for name in folders)
    _check_place(None, folders, False)
    _check_place(tmp_path / "new", folders, False)
    (tmp_path / "notes").mkdir()
    _check_place(tmp_path, folders, False)
    for name in folders[:2]:
        (tmp_path / name).mkdir()
    (tmp_path / folders[0] / "run.json").touch()
    (tmp_path / folders[1] / "part-000000.json.gz").touch()
    _check_place(tmp_path, folders, True)
    with pytest.raises(ValueError, match=r"`out_dir` must hold no results of .* \(resume=True continues it\)"):
        _check_place(tmp_path, folders, False)
    with pytest.raises(ValueError, match=r"`out_dir` must hold results of these layers only .*, but got \['@input'\]"):
        _check_place(tmp_path, folders[:1], True)


def test_who_has_no_map_ranks_last():
    def score(training, method, metric, image):
        return np.nan if method == "gradcam@a" and image < 20 else 0.9 if method == "gradcam@a" else 0.5

    found = judged(results_of(score), foreground_focus=True)
    assert found.ranking.n == 20
    assert found.ranking.first["gradcam@a"] == found.ranking.last["gradcam@a"] == 0.5


def test_a_plan_keeps_to_its_budget():
    costs = {"cheap": 1, "control": 50, "dear": 100, "dearest": 1000}

    def plans(budget, images=100):
        kept, count = plan(costs, lambda c: c == "control", images, budget)
        assert sum(costs[c] for c in kept) * count <= budget or kept == ["control"]
        return kept, count

    assert plans(10**9) == (list(costs), 100)
    assert plans(1151 * 30) == (list(costs), 30)  # first fewer images
    assert plans(1150 * FEWEST) == (["cheap", "control", "dear"], 100)
    assert plans(60 * FEWEST) == (["cheap", "control"], 23)
    assert plans(51 * FEWEST - 1) == (["control"], FEWEST)


def test_passes_there_and_back():
    model, counter = torch.nn.Conv2d(3, 1, 3), Counter()
    images = torch.rand(5, 3, 8, 8)
    for network in (model, model.forward):
        before = counter.count
        with counter.watching(network) as watched:
            watched(images)
            with torch.no_grad():
                watched(images)
        model(images)  # no longer watched
        assert counter.count - before == 15
    with counter.watching(model) as watched:
        assert counter.of(lambda: watched(images), 10) == 10
        assert counter.of(lambda: watched(images), 9) is None


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return build_model("tiny_cnn", 8), Part(build_dataset("synthetic", split="val", image_size=32), range(24))


def test_a_budget_leaves_out_what_it_does_not_reach_and_is_kept(small):
    model, data = small
    options = {"methods": ["saliency", "smoothgrad", "gradcam"], "metrics": ["foreground_focus"], "progress": False}
    found = recommend(model, data, budget=900, **options)
    assert found.left_out["candidate"].tolist() == ["smoothgrad"]
    assert found.passes <= 900
    assert set(found.ranking.mean_ranks) >= {"saliency", "gradcam@features", "gradcam@features.2", *CONTROLS}
    assert not model._forward_pre_hooks
    assert len(found.results.where(method="gradcam@features").rows) == found.images == 24


def test_errors(small):
    model, data = small
    with pytest.raises(ValueError, match="`dataset` must hold at least four images"):
        recommend(model, Part(data, range(3)))
    with pytest.raises(ValueError, match=r"`metrics` must state whether higher is better, but got \['inside'\]"):
        recommend(model, data, metrics=[inside])
    with pytest.raises(ValueError, match="`metrics` must name at least one"):
        recommend(model, data, metrics=[])
    for layers in ("features", True, [1], [""], []):
        with pytest.raises(ValueError, match="`layers` must be a number or a list of names, but got"):
            recommend(model, data, methods=["gradcam"], layers=layers)
    for layers, rule in ((0, "be at least 1"), (1.5, "be a number or a list of names")):
        with pytest.raises(ValueError, match=f"`layers` must {rule}, but got {layers}"):
            recommend(model, data, methods=["gradcam"], layers=layers)
    with pytest.raises(ValueError, match=r"`methods` must hold one at least that is no control, but got \['control_c"):
        recommend(model, data, methods=["control_center"])
    with pytest.raises(ValueError, match="`methods` must have names that differ from method@layer of others"):
        recommend(model, data, methods={"a": "gradcam", "a@features": "saliency"}, layers=1)
    with pytest.raises(ValueError, match="`methods` must apply to the model"):
        recommend(lambda images: model(images), data, methods=["gradcam"])
    for metrics, budget, what in ((["deletion"], 100, "all controls"), (["iou"], 200, "a method beside the controls")):
        with pytest.raises(ValueError, match=f"`budget` must suffice for {what} on 20 images, but got {budget}"):
            recommend(model, data, methods=["smoothgrad"], metrics=metrics, budget=budget, progress=False)


def inside(heatmaps, masks):
    return (heatmaps * masks).sum((1, 2, 3))
