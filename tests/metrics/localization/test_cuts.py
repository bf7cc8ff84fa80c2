"""The IoU of a map cut at one threshold for all images, and the choice of that threshold on other images."""

import numpy as np
import pytest
import torch

from sibx import build_dataset, evaluate
from sibx.cli import main
from sibx.datasets import InMemoryDataset
from sibx.evaluation import Results, choose_thresholds
from sibx.metrics import best_iou, chosen_iou, iou_at
from sibx.models import TinyCNN
from sibx.models.checkpoint import save_checkpoint
from tests.references import TWINS

CURVE = "iou_over_thresholds"


@pytest.mark.parametrize("levels", [None, 4])
def test_is_the_definition(levels):
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(5, 1, 8, 9, generator=generator, dtype=torch.float64) * 3 + 1
    maps = (maps * levels).round() if levels else maps
    maps[4] = 2  # flat
    masks = torch.rand(5, 1, 8, 9, generator=generator) < 0.3
    for threshold in (0.01, 0.25, 0.5, 1):
        found = iou_at(maps, masks, threshold=threshold)
        expected = [
            TWINS[iou_at](a, s, threshold) for a, s in zip(maps[:, 0].numpy(), masks[:, 0].numpy(), strict=True)
        ]
        assert found.numpy() == pytest.approx(expected)
        assert (found <= best_iou(maps, masks) + 1e-12).all()
    undefined = torch.zeros_like(masks)
    undefined[..., 6:] = True
    kept = iou_at(maps[..., :6], masks[..., :6], threshold=0.4)
    assert torch.equal(iou_at(maps, masks, threshold=0.4, undefined=undefined), kept)
    nothing = iou_at(maps * torch.tensor([0, torch.nan, torch.inf, 1, 1]).view(-1, 1, 1, 1), masks, threshold=0.5)
    assert nothing.isnan().tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (0, "be above 0, where every pixel is above, but got 0"),
        (1.5, r"lie in \[0, 1\]"),
        (torch.nan, r"lie in \[0, 1\]"),
    ],
)
def test_errors(threshold, message):
    maps, masks = torch.rand(1, 1, 4, 4), torch.ones(1, 1, 4, 4).bool()
    for call in (lambda: iou_at(maps, masks, threshold=threshold), lambda: chosen_iou({"sib": threshold})):
        with pytest.raises(ValueError, match=f"`threshold` must {message}"):
            call()


def ring(level):
    """A method that gives the object 1, the pixels right of it a level, and all others 0."""

    def explain(model, images, targets):
        masks = images[:, :1] > 0
        return masks.float() + level * (masks.roll(1, 3) & ~masks).float()

    return explain


@pytest.fixture(scope="module")
def squares():
    """Images that are their own masks: of the validation split and of the test split."""

    def shown(split):
        data = build_dataset("synthetic", split=split, image_size=16)
        return InMemoryDataset(
            data, [s._replace(image=s.mask.float().expand(3, -1, -1)) for s in map(data.__getitem__, range(4))]
        )

    return shown("val"), shown("test-id")


OPTIONS = {"methods": {"soft": ring(0.3), "hard": ring(0.62)}, "progress": False}


@pytest.fixture(scope="module")
def on_val(squares):
    return evaluate(model(), squares[0], metrics=[CURVE], **OPTIONS)


def test_the_lowest_of_the_best(squares, on_val):
    """What is right of the object has to fall, and nothing more."""
    found = choose_thresholds(on_val)
    assert found == {"soft": 0.31, "hard": 0.63}
    results = evaluate(model(), squares[1], metrics=["best_iou", chosen_iou(found)], **OPTIONS)
    assert set(results.rows["metric"]) == {"best_iou", "iou_at_chosen"}
    assert results.rows["value"].tolist() == [1.0] * 16
    curves = on_val.curves[(on_val.curves["method"] == "soft") & (on_val.curves["x"] == 0.3)]
    assert (curves["y"] < 1).all()


def test_refusals(squares, on_val):
    with pytest.raises(ValueError, match=r"`thresholds` must hold one for every method, hard too, but got \['soft'\]"):
        evaluate(model(), squares[1], metrics=[chosen_iou({"soft": 0.5})], **OPTIONS)
    without = evaluate(model(), squares[0], metrics=["best_iou"], **OPTIONS)
    with pytest.raises(ValueError, match=f"`validation` must be of the metric {CURVE}, but got"):
        choose_thresholds(without)
    on_test = evaluate(model(), squares[1], metrics=[CURVE], **OPTIONS)
    with pytest.raises(ValueError, match="`validation` must be of one data set, split, model and training"):
        choose_thresholds(Results.concat([on_val, on_test]))
    with pytest.raises(ValueError, match="`validation` must be Results, but got 'DataFrame'"):
        choose_thresholds(on_val.rows)
    with pytest.raises(ValueError, match="`thresholds` must be a mapping"):
        chosen_iou([("soft", 0.5)])


def test_a_run_goes_on_with_its_own_thresholds_only(squares, tmp_path):
    """Scores of two thresholds in one table would be of neither."""

    def run(threshold, **options):
        metrics = [chosen_iou({"soft": threshold, "hard": 0.5})]
        return evaluate(model(), squares[1], metrics=metrics, out_dir=tmp_path, **options, **OPTIONS)

    first = run(0.25).rows
    assert run(0.25, resume=True).rows.equals(first)
    with pytest.raises(ValueError, match=r"`metrics` must .*formula of iou_at_chosen = .*0.25 for soft.* 0.5 for soft"):
        run(0.5, resume=True)


def model():
    torch.manual_seed(0)
    return TinyCNN(8, width=4).eval()


def test_command_line(tmp_path, capsys):
    classes = build_dataset("synthetic", split="val").classes
    save_checkpoint(tmp_path / "model.pt", TinyCNN(8), classes=classes)
    words = ["evaluate", "--model", "tiny_cnn", "--checkpoint", tmp_path / "model.pt", "--device", "cpu"]
    words += ["--dataset", "synthetic", "--image-size", 16, "--limit", 2, "--methods", "saliency"]

    def run(*more):
        return main([str(word) for word in (*words, *more)])

    val, test = tmp_path / "val", tmp_path / "test"
    assert run("--split", "val", "--metrics", CURVE, "--out", val) == 0
    assert run("--split", "test", "--metrics", "best_iou", "--thresholds-from", val, "--out", test) == 0
    rows = Results.load(test).rows.pivot(index="image_id", columns="metric", values="value")
    assert np.isfinite(rows).all(axis=None)
    assert (rows["iou_at_chosen"] <= rows["best_iou"]).all()
    capsys.readouterr()
    assert run("--split", "val", "--thresholds-from", val, "--out", tmp_path / "no") == 2
    assert "`thresholds_from` must hold results of other images than those that are scored" in capsys.readouterr().err
