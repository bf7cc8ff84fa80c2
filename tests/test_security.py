"""What a file of somebody else can do: nothing runs that is hidden in it, whichever reader it is given to."""

import io
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from sibx import Results
from sibx.attribution.layer_statistics import LayerStatistics
from sibx.cli import main
from sibx.cli.loading import read_map
from sibx.cli.settings_file import load_yaml
from sibx.datasets import FolderDataset
from sibx.models import load_model
from sibx.models.checkpoint import read_checkpoint, read_notes
from sibx.models.zoo import read_weights
from sibx.report import load_gallery
from sibx.studies import Place, Study
from sibx.studies.study_bench import Workbench
from sibx.train.checkpoints import FORMAT, Checkpoints


class Payload:
    """Leaves a file where it was run."""

    def __reduce__(self):
        return Path.touch, (Path("it-ran"),)


def by_torch(content, *, zipped=True):
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def by_numpy(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def objects():
    return np.array([Payload()], dtype=object)


PICKLES = {
    "plain": lambda: pickle.dumps(Payload()),
    "of torch": lambda: by_torch(Payload()),
    "of an old torch": lambda: by_torch({"a": Payload()}, zipped=False),
    "among weights": lambda: by_torch({"format": "sibx-checkpoint-1", "state": {"a": Payload()}, "classes": None}),
    "in a run": lambda: by_torch({"format": FORMAT, "identity": {}, "state": Payload(), "sha256": ""}),
    "of NumPy": lambda: by_numpy(notes=objects()),
    "in a picture": lambda: by_numpy(notes=np.array('[["d", "s", "m", "i", "c", []]]'), **{"0/picture": objects()}),
}


def study_start(path):
    """A study that goes on from a checkpoint that another one left."""
    study = Study(options={"synthetic": {"size": 8}}, image_size=16)
    start, *_, training = study.jobs()
    bench = Workbench(study, Place(), path.parent, "cpu", progress=False)
    (path.parent / start.file).parent.mkdir(parents=True)
    path.rename(path.parent / start.file)
    bench._network(training, trained=True)


def of_folder(name, read):
    """A reader that is given a folder with the file under its own name."""

    def reader(path):
        path.with_name("run.json").write_text("{}")  # beside a table
        return read(path.rename(path.with_name(name)).parent)

    return reader


READERS = {
    "weights": lambda path: read_weights(str(path)),
    "checkpoint": read_checkpoint,
    "statistics of a layer": LayerStatistics.load,
    "model": lambda path: load_model(path, "tiny_cnn"),
    "notes": of_folder("finetune.json", read_notes),
    "training": of_folder("checkpoint-000000001.pt", lambda folder: Checkpoints(folder, {}).load()),
    "study": study_start,
    "gallery": of_folder("gallery.npz", load_gallery),
    "table": of_folder("results.csv.gz", Results.load),
    "info": of_folder("run.json", Results.load),
    "index": of_folder("index.csv", lambda folder: FolderDataset(str(folder))),
    "class map": lambda path: read_map(str(path)),
}


def test_a_payload_runs_where_it_is_unpickled(tmp_path, monkeypatch):
    """Or the other tests would say nothing."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Payload()))
    assert Path("it-ran").exists()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.filterwarnings("ignore:the checkpoint .* cannot be read", "ignore:Detected pickle protocol")
def test_no_pickle_runs(reader, tmp_path, monkeypatch):
    for kind, make in PICKLES.items():
        folder = tmp_path / kind
        folder.mkdir()
        monkeypatch.chdir(folder)
        (folder / "file").write_bytes(make())
        with pytest.raises((ValueError, OSError)):
            READERS[reader](folder / "file")
        assert not Path("it-ran").exists(), kind


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [it-ran]]",
        "a: !!python/object/new:os.system [touch it-ran]",
        "!!python/name:os.system ''",
    ],
)
def test_no_yaml_makes_an_object(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="could not determine a constructor"):
        load_yaml(text, "it")
    Path("file.yaml").write_text(text)
    with pytest.raises(ValueError, match="`class_map` must be"):
        read_map("file.yaml")
    assert main(["study", "--config", "file.yaml"]) == 2
    assert main(["study", "--options", "{" + text + "}"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not Path("it-ran").exists()


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "example.org"])
def test_tests_reach_nobody(address):
    with pytest.raises(RuntimeError, match="a test wants to reach"):
        socket.create_connection((address, 80), timeout=1)
