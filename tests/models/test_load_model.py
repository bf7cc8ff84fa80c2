"""A model file is enough: what load_model returns, and what other programs get of it."""

import json

import pytest
import torch

from sibx import about, build_model, explain, load_model
from sibx.cli import main
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.images import IMAGENET
from sibx.models import About, TinyCNN, export_model
from sibx.models.checkpoint import FORMAT, save_checkpoint
from sibx.train import TrainConfig, fine_tune

NAMES = tuple(f"name {k}" for k in range(8))
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=8))


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network = build_model("tiny_cnn", 8).eval()
    save_checkpoint(tmp_path / "model.pt", network, classes=NAMES, normalization=IMAGENET, image_size=32)
    return network, tmp_path / "model.pt"


class TestLoading:
    def test_a_file_of_fine_tune(self, data, tmp_path):
        torch.manual_seed(0)
        config = TrainConfig(epochs=1, batch_size=8)
        trained = fine_tune(build_model("tiny_cnn", 8), data, config=config, out_dir=tmp_path, progress=False).model
        network = load_model(tmp_path / "model.pt")
        assert not network.training
        assert torch.equal(network(IMAGES), trained.eval()(IMAGES))
        known = About(model="tiny_cnn", scores=8, classes=data.classes, normalization=data.normalization, image_size=32)
        assert about(network) == known
        assert about(torch.nn.DataParallel(network)) == known

    def test_a_file_of_the_command_line(self, tmp_path):
        words = ["finetune", "--dataset", "synthetic", "--image-size", "32", "--limit", "8", "--model", "tiny_cnn"]
        words += ["--training", "ce", "--epochs", "1", "--batch-size", "8", "--device", "cpu", "--out", str(tmp_path)]
        assert main(words) == 0
        known = about(load_model(tmp_path / "model.pt"))
        assert (known.image_size, known.model) == (32, "tiny_cnn")

    def test_a_file_of_before_with_its_notes(self, tmp_path):
        torch.manual_seed(0)
        content = {"format": FORMAT, "state": build_model("tiny_cnn", 1).state_dict(), "classes": ["no", "yes"]}
        torch.save(content | {"config": {}}, tmp_path / "model.pt")
        with pytest.raises(ValueError, match="`model` must be given for a file that does not say how build_model"):
            load_model(tmp_path / "model.pt")
        notes = {"model": "tiny_cnn", "scores": 1, "output": "sigmoid", "image_size": 64, "normalization": None}
        (tmp_path / "finetune.json").write_text(json.dumps(notes))
        known = about(load_model(tmp_path / "model.pt"))
        assert (known.output, known.image_size, known.classes) == ("sigmoid", 64, ("no", "yes"))

    def test_a_network_of_ones_own(self, tmp_path):
        network = TinyCNN(8, width=8).eval()
        save_checkpoint(tmp_path / "m.pt", network, classes=NAMES)
        other = load_model(tmp_path / "m.pt", TinyCNN(8, width=8))
        assert torch.equal(other(IMAGES), network(IMAGES))
        assert about(other).classes == NAMES
        with pytest.raises(ValueError, match="`model` must have the checkpoint's parameters"):
            load_model(tmp_path / "m.pt", "tiny_cnn")

    def test_what_a_model_knows_is_no_weight(self, saved):
        network, _ = saved
        assert set(network.state_dict()) == set(TinyCNN(8).state_dict())
        assert about(TinyCNN(8)) == About()


class Evil:
    def __reduce__(self):
        return (open, ("harm.txt", "w"))


class TestHostileFiles:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": "other"}, "of the format sibx-checkpoint-1"),
            ({"about": {"model": 3}}, "`path` must hold a model of the right kind, but got {'model': 3}"),
            ({"about": {"scores": 10**9, "model": "tiny_cnn"}}, "hold a scores of the right kind"),
            ({"about": {"output": "logits"}}, "hold a output of the right kind"),
            ({"about": {"normalization": {"mean": [1, 2], "std": ["x"]}}}, "hold a normalization of the right kind"),
            ({"about": {"model": "os:system"}}, "`name` must be one of"),
            ({"classes": [1, 2]}, "hold names of classes"),
            ({"state": {"a": torch.zeros(1)}}, "have the checkpoint's parameters"),
            ({"extra": Evil()}, "be a checkpoint that can be read"),
        ],
    )
    def test_refused(self, saved, tmp_path, monkeypatch, change, message):
        monkeypatch.chdir(tmp_path)
        content = torch.load(saved[1], weights_only=True)
        torch.save(content | change, saved[1])
        with pytest.raises(ValueError, match=message):
            load_model(saved[1])
        assert not (tmp_path / "harm.txt").exists()


def read(path, to, name="logits"):
    if to == "state_dict":
        network = TinyCNN(8)
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    if to == "torch_export":
        return torch.export.load(path).module()
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    return lambda images: torch.from_numpy(session.run([name], {"images": images.numpy()})[0])


class TestExport:
    @pytest.mark.parametrize("to", ["state_dict", "torch_export", "onnx"])
    def test_any_batch(self, saved, to, capsys):
        if to == "onnx":
            pytest.importorskip("onnxscript")
        network, path = saved
        assert main(["export", str(path), "--to", to]) == 0
        endings = {"state_dict": "model.state_dict.pt", "torch_export": "model.pt2", "onnx": "model.onnx"}
        written = path.with_name(endings[to])
        out = capsys.readouterr().out
        assert "images (B, 3, 32, 32) -> 8 scores" in out
        assert "largest difference from the network on noise: " in out
        assert "more than rounding" not in out
        for count in (1, 2, 5):
            images = torch.randn(count, 3, 32, 32)
            with torch.no_grad():
                assert torch.allclose(read(str(written), to)(images), network(images), atol=1e-5)

    @pytest.mark.parametrize(("to", "method"), [("torch_export", "sib"), ("onnx", "gradcam")])
    def test_with_heatmaps(self, saved, to, method, capsys):
        if to == "onnx":
            pytest.importorskip("onnxruntime")
        network, path = saved
        assert main(["export", str(path), "--to", to, "--explained", method]) == 0
        out = capsys.readouterr().out
        assert "-> 8 scores and heatmaps (B, 1, 32, 32)" in out
        assert "more than rounding" not in out
        images = torch.randn(5, 3, 32, 32)
        written = path.with_name("model.onnx" if to == "onnx" else "model.pt2")
        found = read(str(written), to, "heatmaps")(images)
        heatmaps = found if to == "onnx" else found[1]
        expected = explain(network, images, method)
        assert torch.allclose(heatmaps / expected.max(), expected / expected.max(), atol=1e-4)

    def test_heatmaps_are_no_weights(self, saved, capsys):
        assert main(["export", str(saved[1]), "--to", "state_dict", "--explained", "sib"]) == 2
        assert "`to` must be torch_export or onnx with --explained" in capsys.readouterr().err

    def test_nothing_is_overwritten(self, saved, capsys):
        path = saved[1]
        assert main(["export", str(path), "--to", "state_dict"]) == 0
        assert main(["export", str(path), "--to", "state_dict"]) == 2
        assert "`out` must be a new file (--force overwrites)" in capsys.readouterr().err
        assert main(["export", str(path), "--to", "state_dict", "--force"]) == 0
        before = path.read_bytes()
        assert main(["export", str(path), "--to", "state_dict", "--out", str(path), "--force"]) == 2
        assert path.read_bytes() == before

    def test_a_network_that_cannot_be_traced(self, tmp_path):
        class Moody(torch.nn.Module):
            def forward(self, images):
                return images.mean((2, 3)) if images.sum().item() > 0 else images.amax((2, 3))

        with pytest.raises(ValueError, match="`model` must be one that torch_export can hold, but got Moody"):
            export_model(Moody(), tmp_path / "m.pt2", "torch_export", image_size=8)
        assert not list(tmp_path.iterdir())

    def test_without_the_extra(self, saved, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
        with pytest.raises(ImportError, match="pip install 'sibx\\[onnx\\]'"):
            export_model(saved[0], tmp_path / "m.onnx", "onnx", image_size=32)
