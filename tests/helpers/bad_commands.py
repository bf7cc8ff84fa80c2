"""Bad files, options and disks, for every command that reads or writes them."""

import atexit
import errno
import gzip
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import torch

from sibx import build_dataset, build_model, evaluate
from sibx.cli import main
from sibx.datasets import Part
from sibx.models.checkpoint import save_checkpoint
from tests.helpers.bad_files import FILES, in_folder, picture
from tests.helpers.bad_input import Case

DATA = ("--dataset", "synthetic", "--image-size", "32", "--limit", "4")
SCORES = ("--methods", "saliency", "--metrics", "foreground_focus")
TRAIN = ("--model", "tiny_cnn", "--epochs", "1", "--batch-size", "4")
CHECKPOINT = ("--checkpoint", "model.pt")
# Every command in small, as it runs in a folder that `made` has filled, without its --out.
COMMANDS: dict[str, tuple[str, ...]] = {
    "explain": ("good.png", *CHECKPOINT, "--methods", "vjp", "--image-size", "32"),
    "finetune": (*DATA, *TRAIN, *CHECKPOINT),
    "evaluate": (*CHECKPOINT, *DATA, *SCORES),
    "reliance": (*CHECKPOINT, *DATA, "--backgrounds", "only_fg"),
    "robustness": (*CHECKPOINT, *DATA, "--attacks", "--corruptions", "gaussian_noise", "--severities", "1"),
    "recommend": (*CHECKPOINT, *DATA, *SCORES),
    "export": ("model.pt", "--to", "state_dict"),
    "report": ("scores",),
}
WITH_DATA = ("finetune", "evaluate", "reliance", "robustness", "recommend")
WITH_MODEL = ("explain", *WITH_DATA, "export")
OUT = "out"


@cache
def made() -> Path:
    """Return a folder with what commands read: a picture, a model and scores."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    (folder / "good.png").write_bytes(picture())
    data = build_dataset("synthetic", image_size=32)
    model = build_model("tiny_cnn", 8)
    told = {"classes": data.classes, "normalization": data.normalization, "image_size": 32}
    save_checkpoint(folder / "model.pt", model, **told)
    options = {"methods": ["saliency"], "metrics": ["foreground_focus"], "progress": False}
    evaluate(model, Part(data, range(4)), labels={"training": "ce"}, out_dir=folder / "scores", **options)
    return folder


def command_cases() -> Iterator[Case]:
    """Yield the cases of the command line."""
    yield from _model_cases()
    yield from _option_cases()
    yield from _file_cases()
    written = ("explain", "finetune", "evaluate", "export", "report")
    yield _case("out", "a file", tuple(COMMANDS), prepare=partial(_write, OUT, b""))
    yield _case("out", "below a file", written, prepare=partial(_write, "file", b""), out="file/out")
    yield _case("out", "on a full disk", written, failing=("os.fsync", errno.ENOSPC))
    yield _case("out", "in a folder that is read-only", written, failing=("pathlib.Path.mkdir", errno.EACCES))


def _model_cases() -> Iterator[Case]:
    for given, spoil in CHECKPOINTS.items():
        commands = ("explain",) if given == "without settings" else WITH_MODEL  # which is no harm
        yield _case("checkpoint", given, commands, prepare=partial(_spoil_checkpoint, spoil))
    for given, text in NOTES.items():
        write = partial(_write, "finetune.json", text.encode())
        yield _case("finetune.json", given, ("explain", "export"), prepare=write)


def _option_cases() -> Iterator[Case]:
    for given, name in {"meta": "meta", "unknown": "gpu"}.items():
        yield _case("device", given, ("explain", *WITH_DATA, "doctor"), "--device", name)
    for size in ("0", "-1", "x", "99999999"):
        yield _case("image-size", size, ("explain", *WITH_DATA, "export"), "--image-size", size)
    for option, value in (("--limit", "0"), ("--batch-size", "0"), ("--dataset", "nothing"), ("--dataset", "folder")):
        yield _case(option.lstrip("-"), value, WITH_DATA, option, value)
    for given, target in {"no class": "cat", "beyond the classes": "8", "below 0": "-1", "²": "²"}.items():
        yield _case("target", given, ("explain",), f"--target={target}")


def _file_cases() -> Iterator[Case]:
    for given, content in CONFIGS.items():
        write = partial(_write, "config.yaml", content)
        yield _case("config", given, ("finetune", "evaluate", "study"), "--config", "config.yaml", prepare=write)
    for given, content in {"a text": b"{", "of no class": b'{"cat": 1}', "zero bytes": b""}.items():
        write = partial(_write, "map.json", content)
        yield _case("class-map", given, ("explain", "evaluate", "reliance"), "--class-map", "map.json", prepare=write)
    for given, spoil_results in RESULTS.items():
        yield _case("results", given, ("report",), prepare=lambda f, s=spoil_results: s(f / "scores"))
    for given, spoil in FILES.items():
        yield _case("images", given, ("explain",), prepare=lambda f, s=spoil: s(f / "bad.png"), first="bad.png")


def _case(
    argument: str,
    given: str,
    commands: tuple[str, ...],
    *words: str,
    prepare: Callable[[Path], object] = lambda _: None,
    out: str = OUT,
    first: str = "",
    failing: tuple[str, int] | None = None,
) -> Case:
    """A case of some commands: with these words, in a folder so prepared, before what ``first`` names."""
    calls = {}
    for name in commands:
        line = (name, *filter(None, [first]), *COMMANDS.get(name, ()), *words)
        to = () if name == "doctor" else ("--out", out)
        calls[name] = partial(_run, (*line, *to), prepare, failing)
    return Case("commands", argument, given, calls)


def _run(words: tuple[str, ...], prepare: Callable[[Path], object], failing: tuple[str, int] | None) -> str:
    def act(folder: Path) -> str:
        shutil.copytree(made(), folder, dirs_exist_ok=True)
        prepare(folder)
        before = _files(folder)
        code, said = _main(words, folder, failing)
        if code == 0:
            return "handled: done"
        lines = said.replace(f"{folder}/", "").strip().splitlines()
        assert all(line.startswith("sibx: error: ") for line in lines), f"not one line per error: {said}"
        if code == 1:
            assert any(name.endswith("good.overlay.png") for name in _files(folder)), "the others are not explained"
            return "handled: named, the others explained"
        assert (code, len(lines)) == (2, 1), f"exit code {code}: {said}"
        assert _files(folder) == before, f"half-written: {sorted(_files(folder) - before)}"
        raise ValueError(lines[0].removeprefix("sibx: error: "))

    return in_folder(act)


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _main(words: tuple[str, ...], folder: Path, failing: tuple[str, int] | None) -> tuple[int, str]:
    """Run a command in a folder, maybe on a disk that fails; return its exit code and what it said on stderr."""
    said, home = io.StringIO(), Path.cwd()

    def fail(*_: object, **__: object) -> None:
        raise OSError(failing[1], os.strerror(failing[1]))

    os.chdir(folder)
    try:
        with ExitStack() as around:
            around.enter_context(redirect_stdout(io.StringIO()))
            around.enter_context(redirect_stderr(said))
            around.enter_context(warnings.catch_warnings(action="ignore"))
            if failing:
                around.enter_context(patch(failing[0], fail))
            return main(list(words)), said.getvalue()
    except SystemExit as stop:
        return int(stop.code or 0), said.getvalue()
    finally:
        os.chdir(home)


def _write(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)


def _spoil_checkpoint(spoil: Callable[[Path], object], folder: Path) -> None:
    spoil(folder / "model.pt")


def _with(**changed: object) -> Callable[[Path], None]:
    """What replaces parts of a checkpoint; None removes a part."""

    def change(path: Path) -> None:
        content = torch.load(path, weights_only=True) | changed
        torch.save({name: value for name, value in content.items() if value is not None}, path)

    return change


class Harmful:
    """What a pickle may do when it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("harmed",)


def _another_network(path: Path) -> None:
    torch.save(torch.load(path, weights_only=True) | {"state": build_model("tiny_cnn", 3).state_dict()}, path)


def _replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "a directory": _replace_by_directory,
    "zero bytes": lambda path: path.write_bytes(b""),
    "a text": lambda path: path.write_text("no model"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:3000]),
    "a pickle that runs code": lambda path: torch.save(Harmful(), path),
    "a list": lambda path: torch.save([1], path),
    "weights alone": lambda path: torch.save(build_model("tiny_cnn", 8).state_dict(), path),
    "without classes": _with(classes=None),
    "with numbers as classes": _with(classes=[1, 2]),
    "without weights": _with(state=None),
    "with a text as weights": _with(state="x"),
    "without settings": _with(config=None),
    "of another network": _another_network,
    "that says nonsense of itself": _with(about={"model": 5, "scores": "x", "normalization": 3}),
}
NOTES = {
    "no JSON": "{",
    "a list": "[1]",
    "with a normalization that is none": json.dumps({"normalization": {"mean": [0.5]}}),
    "with a deviation of 0": json.dumps({"normalization": {"mean": [0, 0, 0], "std": [0, 0, 0]}}),
    "with a side of 1e9": json.dumps({"image_size": 10**9}),
    "with a side of 0": json.dumps({"image_size": 0}),
    "with an unknown output": json.dumps({"output": "x"}),
}
CONFIGS = {
    "zero bytes": b"",
    "no YAML": b"a: [",
    "a list": b"- a",
    "in Latin-1": "dataset: café".encode("latin-1"),
    "with an unknown option": b"colour: red",
    "with an option twice": b"seed: 1\nseed: 2",
    "with a config": b"config: other.yaml",
    "with an object of Python": b"dataset: !!python/object/apply:os.mkdir [harmed]",
}


def _lines(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / "results.csv.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()).decode()).encode()))


def _cut(name: str, folder: Path) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:60])


RESULTS: Mapping[str, Callable[[Path], object]] = {
    "truncated": partial(_cut, "results.csv.gz"),
    "truncated curves": lambda folder: (folder / "curves.csv.gz").write_bytes(b"\x1f\x8b\x08"),
    "not compressed": partial(_write, "results.csv.gz", b"hello"),
    "zero bytes": partial(_write, "results.csv.gz", b""),
    "other columns": lambda folder: _lines(folder, lambda _: "a,b\n1,2\n"),
    "no row": lambda folder: _lines(folder, lambda text: text.partition("\n")[0] + "\n"),
    "a text as a value": lambda folder: _lines(folder, lambda text: text[: text.rindex(",")] + ",oops\n"),
    "a row that is too short": lambda folder: _lines(folder, lambda text: text + "a,b\n"),
    "a row that is too long": lambda folder: _lines(folder, lambda text: text + text.split("\n")[1] + ",1\n"),
    "run.json no JSON": partial(_write, "run.json", b"{"),
    "run.json a list": partial(_write, "run.json", b"[1]"),
    "run.json with nonsense": partial(_write, "run.json", b'{"skipped": 3, "label_rates": 5}'),
    "run.json missing": lambda folder: (folder / "run.json").unlink(),
}
