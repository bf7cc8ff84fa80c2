"""A pre-trained network on data of other classes: class_map, and no accuracy without one."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sibx import build_dataset, evaluate, evaluate_reliance, evaluate_robustness, explain
from sibx.cli import main
from sibx.datasets import InMemoryDataset
from sibx.evaluation.class_match import NO_ACCURACY
from sibx.models import TinyCNN, build_model, class_names, map_classes, probabilities
from sibx.models.checkpoint import save_checkpoint
from sibx.models.class_map import read_class_map

FOUR = {"methods": ["saliency", "gradcam"], "metrics": ["foreground_focus", "deletion"], "progress": False}


@pytest.fixture(scope="module")
def few(shapes):
    return InMemoryDataset.load(shapes, range(16))  # two of each of 8 classes


@pytest.fixture(scope="module")
def net():
    """20 outputs for data of 8 classes; class k stands at 2 k + 1 and 2 k + 2."""
    torch.manual_seed(0)
    return TinyCNN(20, width=8).eval()


def pairs(data):
    return {name: [2 * k + 1, 2 * k + 2] for k, name in enumerate(data.classes)}


class TestScores:
    def test_probabilities_of_a_class_are_summed(self, net, few):
        images = torch.stack([s.image for s in few.samples])
        before = probabilities(net(images))
        after = probabilities(map_classes(net, list(pairs(few).values()))(images))
        assert torch.allclose(after[:, 3], before[:, [7, 8]].sum(1))
        assert torch.allclose(after[:, -1], before[:, [0, 17, 18, 19]].sum(1))

    def test_the_largest_of_independent_labels(self, net, few):
        images = torch.stack([s.image for s in few.samples])
        scores = map_classes(net, [[0, 5], [2]], "sigmoid")(images)
        assert torch.equal(scores, torch.stack([net(images)[:, [0, 5]].amax(1), net(images)[:, 2]], 1))

    def test_a_single_logit_turned_round(self):
        one = TinyCNN(1).eval()
        images = torch.rand(3, 3, 32, 32)
        assert torch.equal(map_classes(one, [[1], [0]])(images), -one(images))
        with pytest.raises(ValueError, match="`class_map` must name both classes of a model with one logit"):
            map_classes(one, [[0, 1]])(images)


class TestEvaluate:
    def test_by_hand(self, net, few):
        results = evaluate(net, few, class_map=pairs(few), target="label", **FOUR)
        images = torch.stack([s.image for s in few.samples])
        with torch.no_grad():
            found = torch.stack([net(images)[:, outputs].logsumexp(1) for outputs in pairs(few).values()], 1)
            rest = net(images)[:, [0, 17, 18, 19]].logsumexp(1, keepdim=True)
        predicted = torch.cat([found, rest], 1).argmax(1)
        rows = results.rows.drop_duplicates("image_id")
        assert rows["predicted"].tolist() == predicted.tolist()
        right = (predicted == torch.tensor([s.label for s in few.samples])).double().mean().item()
        assert results.accuracy()["mean"].item() == pytest.approx(right)
        assert results.info["class_map"] == pairs(few)
        assert "no_accuracy" not in results.info

    def test_without_a_map_there_is_no_accuracy(self, net, few):
        results = evaluate(net, few, **FOUR)
        assert (results.rows["predicted"] == -1).all()
        assert results.accuracy()["n"].item() == 0
        assert results.info["no_accuracy"] == NO_ACCURACY
        assert results.rows["value"].notna().mean() > 0.8  # Grad-CAM has empty maps
        assert results.rows["target"].max() > 7  # the network's own class is explained

    def test_labels_need_one(self, net, few):
        message = r"be of a model with the data's 8 classes \(`class_map` says which .*but got '20 classes'"
        for call in (
            lambda: evaluate(net, few, target="label", **FOUR),
            lambda: evaluate_reliance(net, few, backgrounds=["only_fg"], progress=False),
            lambda: evaluate_robustness(net, few, attacks=[], corruptions=[], progress=False),
        ):
            with pytest.raises(ValueError, match=message):
                call()

    def test_samples_of_other_classes_are_left_out(self, net, few):
        two = {few.classes[5]: 9, few.classes[2]: [4, 6]}
        with pytest.warns(UserWarning, match="12 of 16 samples are left out: class_map does not name"):
            rows = evaluate(net, few, class_map=two, target="label", **FOUR).rows
        assert rows["image_id"].nunique() == 4
        names = {s.id: few.classes[s.label] for s in few.samples}
        assert {(names[i], label) for i, label in zip(rows["image_id"], rows["label"], strict=True)} == {
            (few.classes[2], 0),
            (few.classes[5], 1),
        }

    def test_reliance_and_robustness(self, net, few):
        """A map that names every class in order is no map."""
        eight = TinyCNN(8, width=8).eval()
        turned = {name: 7 - k for k, name in enumerate(few.classes)}
        with torch.no_grad():
            back = TinyCNN(8, width=8).eval()
            back.load_state_dict(eight.state_dict())
            back.classifier.weight.copy_(eight.classifier.weight.flip(0))
            back.classifier.bias.copy_(eight.classifier.bias.flip(0))
        reliance = [{"backgrounds": ["only_fg", "mixed_rand"], "progress": False}]
        robustness = [{"attacks": ["fgsm"], "epsilons": [2 / 255], "corruptions": ["contrast"], "progress": False}]
        for function, options in ((evaluate_reliance, *reliance), (evaluate_robustness, *robustness)):
            mapped = function(back, few, class_map=turned, **options).rows
            assert mapped["value"].equals(function(eight, few, **options).rows["value"])

    def test_functions_are_models(self, net, few):
        rows = [
            evaluate(m, few, class_map=pairs(few), methods=["saliency"], metrics=["iou"], progress=False).rows
            for m in (net, lambda images: net(images))
        ]
        assert rows[0].equals(rows[1])


class TestNames:
    NAMES = ("tabby, Tabby cat", "golden_retriever", "sports car", "crane", "crane")

    def test_names_that_agree(self):
        classes = ("Tabby-cat", "golden retriever", "boat", "crane")
        assert read_class_map("names", classes, self.NAMES) == {0: (0,), 1: (1,), 3: (3, 4)}

    def test_imagenet(self):
        model = build_model("efficientnet_lite0", 1000, None)
        assert class_names(model) is None
        vars(model)["classes"] = ("cat", "dog")
        assert class_names(torch.nn.DataParallel(model)) == ("cat", "dog")

    def test_of_a_model_that_tells_them(self, few):
        torch.manual_seed(0)
        net = TinyCNN(9, width=8).eval()
        net.classes = (*few.classes[::-1], "other")
        rows = evaluate(net, few, class_map="names", target="label", **FOUR).rows
        same = evaluate(net, few, class_map={k: 7 - k for k in range(8)}, target="label", **FOUR).rows
        assert rows.equals(same)
        by_name = evaluate(net, few, class_map={n: n for n in few.classes}, target="label", **FOUR).rows
        assert rows.equals(by_name)

    @pytest.mark.parametrize(
        ("class_map", "message"),
        [
            ("name", "`class_map` must be one of names"),
            ("names", "be a mapping for a model that does not tell its classes"),
            ({}, "name an output for a class of"),
            ({"dragon": 1}, "name every class as one of"),
            ({0: "cat"}, "name every output as an index"),
            ({0: 20}, r"name outputs in 0..19, the model's, but got 20"),
            ({0: 1, 1: [1, 2]}, r"name every output for one class, but got \[1\]"),
            ({9: 1}, "name every class as one of"),
            (3, "be a mapping or one of names, wordnet, but got 3"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.*samples are left out")
    def test_refusals(self, net, few, class_map, message):
        with pytest.raises(ValueError, match=message):
            evaluate(net, few, class_map=class_map, **FOUR)


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_command_line(ending, tmp_path, capsys):
    torch.manual_seed(0)
    torch.save(build_model("resnet18", 20).state_dict(), tmp_path / "w.pt")
    classes = build_dataset("synthetic", image_size=32).classes
    content = {name: [k, k + 8] for k, name in enumerate(classes)}
    path = tmp_path / f"map.{ending}"
    path.write_text(json.dumps(content))  # which YAML is, too
    words = ["--model", "resnet18", "--weights", tmp_path / "w.pt", "--num-classes", 20, "--dataset", "synthetic"]
    words = [*map(str, words), "--image-size", "32", "--limit", "8", "--device", "cpu"]
    scored = ["--methods", "saliency", "--metrics", "iou", "--gallery", "1"]
    assert main(["evaluate", *words, *scored, "--out", str(tmp_path / "none")]) == 0
    assert f"no accuracy: {NO_ACCURACY}" in capsys.readouterr().out
    mapped = ["--class-map", str(path)]
    assert main(["evaluate", *words, *scored, *mapped, "--target", "label", "--out", str(tmp_path / "some")]) == 0
    assert "accuracy 0." in capsys.readouterr().out
    assert json.loads((tmp_path / "some" / "run.json").read_text())["class_map"] == content
    assert main(["reliance", *words, *mapped, "--backgrounds", "only_fg", "--out", str(tmp_path / "rely")]) == 0
    assert main(["reliance", *words, "--backgrounds", "only_fg", "--out", str(tmp_path / "no")]) == 2
    path.write_text("{")
    assert main(["evaluate", *words, *scored, *mapped, "--out", str(tmp_path / "bad")]) == 2
    assert "`class_map` must be a JSON or YAML file, or one of names, wordnet" in capsys.readouterr().err


class TestExplain:
    """The target by the names of a map: what evaluate explains for the label."""

    def test_a_class_of_the_map(self, net, few):
        images = torch.stack([s.image for s in few.samples[:2]])
        mapped = map_classes(net, list(pairs(few).values()))
        for target, same in ((few.classes[3], 3), ([few.classes[3], few.classes[0]], [3, 0]), (None, None)):
            found = explain(net, images, "saliency", target, class_map=pairs(few))
            assert torch.equal(found, explain(mapped, images, "saliency", same))
        by_number = explain(net, images, "gradcam", torch.tensor([7, 2]), class_map={2: [1, 2], 7: 4})
        assert torch.equal(by_number, explain(map_classes(net, [[1, 2], [4]]), images, "gradcam", [1, 0]))

    def test_by_the_names_of_the_outputs(self, few):
        torch.manual_seed(0)
        net = TinyCNN(3, width=8).eval()
        net.classes = ("tabby, cat", "dog", "fish")
        images = few.samples[0].image[None]
        found = explain(net, images, "saliency", "Cat", class_map="names")
        assert torch.equal(found, explain(map_classes(net, [[0]]), images, "saliency", 0))
        assert torch.equal(found, explain(net, images, "saliency", "x", class_map={"x": "tabby, cat"}))

    @pytest.mark.parametrize(
        ("target", "class_map", "message"),
        [
            ("dog", {"cat": 1}, r"`target` must be of the classes that class_map names, \['cat'\], but got \['dog'\]"),
            (0, {"cat": 1}, r"`target` must be of the classes .* but got \['0'\]"),
            (None, "names", "`class_map` must be a mapping where no target names a class"),
            ("cat", "names", "`class_map` must be a mapping for a model that does not tell its classes"),
            ("cat", "name", "`class_map` must be one of names"),
            ("cat", 3, "`class_map` must be a mapping or one of names, wordnet, but got 3"),
            ("cat", {"cat": 20}, r"`class_map` must name outputs in 0\.\.19"),
        ],
    )
    def test_refusals(self, net, few, target, class_map, message):
        with pytest.raises(ValueError, match=message):
            explain(net, few.samples[0].image[None], "saliency", target, class_map=class_map)

    def test_command_line(self, tmp_path, capsys):
        torch.manual_seed(0)
        save_checkpoint(tmp_path / "model.pt", TinyCNN(4), classes=("tabby", "siamese", "dog", "fish"))
        (tmp_path / "map.json").write_text(json.dumps({"cat": ["tabby", 1], "fish": "fish"}))
        Image.new("RGB", (40, 40), (90, 20, 200)).save(tmp_path / "x.png")
        words = ["explain", tmp_path / "x.png", "--checkpoint", tmp_path / "model.pt", "--model", "tiny_cnn"]
        words = [str(w) for w in (*words, "--image-size", 32, "--device", "cpu", "--methods", "saliency")]

        def run(*more):
            done = main([*words, "--out", str(tmp_path / "out"), *more])
            return done, "".join(capsys.readouterr())

        done, text = run("--class-map", str(tmp_path / "map.json"), "--target", "cat")
        assert done == 0, text
        assert "explained: 0 cat" in text
        assert "another class" in text
        arrays = np.load(tmp_path / "out" / "x.maps.npz")["saliency"]
        assert run("--class-map", "names", "--target", "dog")[1].count("explained: 0 dog") == 1
        assert not np.allclose(arrays, np.load(tmp_path / "out" / "x.maps.npz")["saliency"])
        done, text = run("--class-map", str(tmp_path / "map.json"), "--target", "dog")
        assert done == 2
        assert "`target` must be of the classes that class_map names, ['cat', 'fish'], but got ['dog']" in text
