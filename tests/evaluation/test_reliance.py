"""Evaluations of a classifier: on classifiers whose reliance is known, and what must not matter."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sibx import Results, evaluate_reliance, evaluate_robustness
from sibx._seeds import image_seeds
from sibx.datasets import InMemoryDataset, MaskedSample, SyntheticDataset
from sibx.evaluation import worst_group
from sibx.evaluation.columns import COLUMNS
from sibx.images import BACKGROUNDS, BackgroundSpec, Normalization, corrupt
from sibx.images.backgrounds import choose_donors, inpaint
from sibx.models import TinyCNN
from tests.helpers.tables import assert_read_back
from tests.references import background as reference
from tests.references.robustness import fgsm

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "classifier.md").read_text(encoding="utf-8")


def test_image_seeds_come_from_names():
    seeds = image_seeds(["a", "b"], 0, "same")
    assert image_seeds(["b"], 0, "same") == seeds[1:]
    assert len({*seeds, *image_seeds(["a", "b"], 1, "same"), *image_seeds(["a", "b"], 0, "other")}) == 6


# Reliance


class ColorSet(InMemoryDataset):
    """Squares on plain ground: the class is the square's color and the ground's, classes 0, 1, 2 red, green, blue."""

    def __init__(self, labels=(0, 1, 2, 0, 1, 2, 0, 1, 2), size=32):
        self.name, self.split, self.classes = "colors", "test", ("red", "green", "blue")
        self.normalization = Normalization((0.5,) * 3, (0.25,) * 3)
        self.samples = [self.sample(i, label, size) for i, label in enumerate(labels)]

    def sample(self, index, label, size):
        mask = torch.zeros(1, size, size, dtype=torch.bool)
        mask[:, 12:20, 12:20] = True
        pixels = torch.full((3, size, size), 0.1)
        pixels[label % 3] = 0.5
        pixels[label % 3, 12:20, 12:20] = 0.9
        image = self.normalization(pixels)
        return MaskedSample(image, mask, label, f"image {index}", label, torch.zeros_like(mask))


class Reader(torch.nn.Module):
    """Predicts the strongest color of one patch."""

    def __init__(self, patch):
        super().__init__()
        self.patch, self.weight = patch, torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        return images[:, :, self.patch, self.patch].mean((2, 3)) * self.weight


def accuracies(results):
    return results.rows.groupby("metric", observed=True)["value"].mean().to_dict()


def test_a_classifier_that_reads_the_background():
    means = accuracies(evaluate_reliance(Reader(slice(0, 8)), ColorSet(), progress=False))
    assert means.pop("only_fg") == pytest.approx(1 / 3)  # black everywhere: the first class
    assert {name for name, mean in means.items() if mean == 1} == {
        *("original", "no_fg", "only_bg_b", "only_bg_t", "only_bg_i", "mixed_same", "bg_gap")
    }
    assert means["mixed_rand"] == means["mixed_next"] == 0


def test_a_classifier_that_reads_the_object():
    means = accuracies(evaluate_reliance(Reader(slice(14, 18)), ColorSet(), progress=False))
    assert all(means[name] == 1 for name in ("original", "only_fg", "mixed_same", "mixed_rand", "mixed_next"))
    assert means["bg_gap"] == 0
    assert means["no_fg"] == means["only_bg_b"] == pytest.approx(1 / 3)


def test_rows():
    data = ColorSet()
    data.samples[3] = data.samples[3]._replace(mask=torch.zeros_like(data.samples[3].mask))
    data.samples[4] = data.samples[4]._replace(mask=torch.ones_like(data.samples[4].mask))
    results = evaluate_reliance(Reader(slice(14, 18)), data, labels={"training": "ce"}, progress=False)
    names = ["original", *BACKGROUNDS, "bg_gap"]
    assert tuple(results.rows.columns) == COLUMNS
    assert list(results.rows["metric"].unique()) == names
    assert not results.rows.duplicated(["image_id", "metric"]).any()
    assert len(results.rows) == 9 * len(names)
    assert set(results.rows["method"]) == {"classifier"}
    assert (results.rows["target"] == results.rows["label"]).all()
    assert (results.rows["predicted"] == results.rows["label"]).all()
    undefined = results.rows[results.rows["value"].isna()]
    assert set(undefined["image_id"]) == {"image 3", "image 4"}
    assert len(undefined) == 2 * (len(names) - 1)
    summary = results.summary().set_index("metric")
    assert (summary["undefined"] == [0] + [2] * (len(names) - 1)).all()
    assert results.info["backgrounds"] == list(BACKGROUNDS)


def test_values_are_the_definition(shapes):
    """One image by hand; and the batch size does not matter."""
    torch.manual_seed(0)
    net = TinyCNN(8, width=4).double().train()
    data = InMemoryDataset(shapes, [s._replace(image=s.image.double()) for s in shapes.samples])
    whole, parts = (evaluate_reliance(net, data, batch_size=size, progress=False).rows for size in (24, 5))
    assert net.training
    keys = ["image_id", "metric"]
    a, b = (r.sort_values(keys)["value"].to_numpy() for r in (whole, parts))
    assert np.array_equal(a, b, equal_nan=True)
    ids, labels = [s.id for s in data.samples], data.labels
    donors = choose_donors(labels, torch.ones(24, dtype=torch.bool), "other", image_seeds(ids, 0, "other"), 8)
    net.eval()
    for i in range(4):
        pixels = [data.normalization.inverse(data[j].image).clamp(0, 1) for j in (i, donors[i])]
        background = inpaint(pixels[1][None], data[donors[i]].mask[None])[0].numpy()
        mixed = torch.from_numpy(reference.mix(pixels[0].numpy(), data[i].mask[0].numpy(), background))
        with torch.no_grad():
            right = net(data.normalization(mixed)[None]).argmax().item() == labels[i]
        assert whole.query("metric == 'mixed_rand' and image_id == @ids[@i]")["value"].item() == right


def test_seed_changes_the_backgrounds(shapes):
    seen = []

    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, images):
            seen.append(images)
            return torch.zeros(len(images), 8)

    for seed in (0, 0, 1):
        evaluate_reliance(Spy(), shapes, backgrounds=["mixed_same"], batch_size=24, seed=seed, progress=False)
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[1], seen[5])


def test_paired_differences_and_files(tmp_path):
    data = ColorSet()
    models = {"ce": Reader(slice(0, 8)), "sib": Reader(slice(14, 18))}
    both = Results.concat(evaluate_reliance(m, data, labels={"training": t}, progress=False) for t, m in models.items())
    table = both.difference("sib", "ce").set_index("metric")
    assert table.loc["bg_gap", "mean"] == -1
    assert table.loc["mixed_rand", "low"] == 1
    loaded = Results.load(both.save(tmp_path)).rows
    assert loaded["value"].to_numpy() == pytest.approx(both.rows["value"].to_numpy())


class Tired(Reader):
    """Stops at its n-th call."""

    def __init__(self, calls):
        super().__init__(slice(14, 18))
        self.calls = calls

    def forward(self, images):
        self.calls -= 1
        if not self.calls:
            raise InterruptedError
        return super().forward(images)


@pytest.mark.parametrize(
    ("run", "options", "other", "name"),
    [
        (evaluate_reliance, {"backgrounds": ["only_fg", "mixed_rand"]}, {"backgrounds": ["only_fg"]}, "backgrounds"),
        (evaluate_robustness, {"attacks": ["fgsm"], "severities": [1]}, {"attacks": [], "severities": [1]}, "attacks"),
    ],
)
def test_an_interrupted_evaluation_goes_on(run, options, other, name, tmp_path):
    data, request = ColorSet(), {"batch_size": 2, "progress": False}
    whole = run(Tired(0), data, out_dir=tmp_path / "whole", notes={"weights": "mine"}, **options, **request)
    assert whole.info["weights"] == "mine"
    assert_read_back(whole.rows, run(Tired(0), data, **options, **request).rows)
    with pytest.raises(InterruptedError):
        run(Tired(13), data, out_dir=tmp_path / "parts", **options, **request)
    assert 0 < len(list((tmp_path / "parts").glob("part-*"))) < 5
    with pytest.raises(ValueError, match=f"`{name}` must be that of the results in"):
        run(Tired(0), data, out_dir=tmp_path / "parts", resume=True, **other, **request)
    for column in ("dataset", "split", "training"):  # its rows would have two names
        with pytest.raises(ValueError, match=f"`labels` must be that of .* got {column} = 'other'"):
            run(Tired(0), data, out_dir=tmp_path / "parts", resume=True, labels={column: "other"}, **options, **request)
    # Numbers of NumPy are numbers.
    same = {**options, **request, "batch_size": np.int64(2), "seed": np.int64(0)}
    run(Tired(0), data, out_dir=tmp_path / "parts", resume=True, **same)
    assert Results.open(tmp_path / "parts").info["seed"] == 0
    first, second = ((tmp_path / folder / "results.csv.gz").read_bytes() for folder in ("whole", "parts"))
    assert first == second


def test_few_conditions_and_own_ones():
    gray = BackgroundSpec("gray", "on gray", lambda s, _: torch.where(s.objects, s.pixels, 0.5))
    rows = evaluate_reliance(Reader(slice(14, 18)), ColorSet(), backgrounds=[gray], progress=False).rows
    assert rows.groupby("metric", observed=True)["value"].mean().to_dict() == {"original": 1, "gray": 1}
    # Mixed-Same needs another image of the class.
    rows = evaluate_reliance(Reader(slice(0, 8)), ColorSet((0, 1, 1)), backgrounds=["mixed_same"], progress=False).rows
    assert rows[rows["metric"] == "mixed_same"]["value"].isna().tolist() == [True, False, False]


def test_without_masks_everything_is_undefined():
    data = ColorSet()
    data.samples = [s._replace(mask=torch.zeros_like(s.mask)) for s in data.samples]
    rows = evaluate_reliance(Reader(slice(0, 8)), data, progress=False).rows
    assert (rows["value"].isna() == (rows["metric"] != "original")).all()


def test_not_a_number_is_no_hit():
    model = Reader(slice(0, 8))
    model.weight.data.fill_(torch.nan)
    means = accuracies(evaluate_reliance(model, ColorSet(), backgrounds=["only_fg"], progress=False))
    assert means == {"original": 0, "only_fg": 0}


def test_any_function_is_a_model():
    def red(images):
        return images.mean((2, 3))

    rows = evaluate_reliance(red, ColorSet(), backgrounds=["mixed_rand"], progress=False).rows
    assert rows["value"].notna().all()
    rows = evaluate_robustness(red, ColorSet(), corruptions=[], progress=False).rows
    assert list(rows["metric"].unique()) == ["clean", "fgsm_0.5", "fgsm_1", "fgsm_2", "pgd_0.5", "pgd_1", "pgd_2"]


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_the_guide_names_every_background(name):
    assert f"`{name}`" in GUIDE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backgrounds": ["mixed_random"]}, "`backgrounds` must be one of .*did you mean 'mixed_rand'"),
        ({"backgrounds": "mixed_random"}, "`backgrounds` must be one of .*did you mean 'mixed_rand'"),
        ({"backgrounds": ["no_fg", "no_fg"]}, "`backgrounds` must name none twice, but got"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"dataset": ColorSet(())}, "`dataset` must hold at least one image"),
        ({"dataset": ColorSet((0, 3))}, r"`labels` must lie in 0..2"),
        ({"model": torch.nn.Conv2d(3, 1, 1)}, "`model` must return logits of shape"),
    ],
)
def test_errors_of_reliance(change, message):
    good = {"model": Reader(slice(0, 8)), "dataset": ColorSet(), "backgrounds": ["only_fg"]}
    with pytest.raises(ValueError, match=message):
        evaluate_reliance(**{**good, **change}, progress=False)


# Groups


def test_worst_group():
    data = InMemoryDataset.load(SyntheticDataset("test-decorrelated", 32, size=40))
    torch.manual_seed(0)
    results = evaluate_reliance(TinyCNN(8, width=4), data, backgrounds=["only_fg"], progress=False)
    lines = worst_group(results).set_index("metric")
    for metric, cell in results.rows.groupby("metric", observed=True):
        group, accuracy = reference.worst_group(cell["value"].tolist(), cell["group"].tolist())
        assert lines.loc[metric, "mean"] == accuracy
        assert lines.loc[metric, "n"] == (cell["group"] == lines.loc[metric, "group"]).sum()
        assert accuracy <= cell["value"].mean()
        assert cell[cell["group"] == group]["value"].mean() == accuracy
    with pytest.raises(ValueError, match=r"`by` must be one of .*but got 'group'"):
        worst_group(results, ["metric", "group"])


def test_worst_group_leaves_out_what_is_undefined():
    results = evaluate_reliance(Reader(slice(0, 8)), ColorSet((0, 0, 1, 1, 2)), backgrounds=[], progress=False)
    rows = results.rows.assign(value=[1.0, np.nan, 1.0, 0.0, np.nan])
    line = worst_group(Results(rows, results.curves)).iloc[0]
    assert (line["group"], line["mean"], line["n"], line["undefined"]) == (1, 0.5, 2, 0)
    none = worst_group(Results(rows.assign(group=-1), results.curves)).iloc[0]
    assert (none["group"], none["n"]) == (-1, 0)
    assert np.isnan(none["mean"])


# Robustness


OPTIONS = {"epsilons": [2 / 255], "steps": 2, "corruptions": ["gaussian_noise", "contrast"], "severities": [1, 5]}
NAMES = ["clean", "fgsm_2", "pgd_2", "gaussian_noise_1", "gaussian_noise_5", "contrast_1", "contrast_5"]


@pytest.fixture
def data(shapes):
    return InMemoryDataset(shapes, [s._replace(image=s.image.double()) for s in shapes.samples[:9]])


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return TinyCNN(8, width=4, norm="group").double().train()


def test_rows_and_values(data, classifier):
    results = evaluate_robustness(classifier, data, **OPTIONS, labels={"training": "ce"}, progress=False)
    rows = results.rows
    assert classifier.training
    assert tuple(rows.columns) == COLUMNS
    assert list(rows["metric"].unique()) == [*NAMES, "corruption_mean"]
    assert len(rows) == 9 * 8
    assert set(rows["training"]) == {"ce"}
    assert results.info["epsilons"] == [2 / 255]
    wide = rows.pivot(index="image_id", columns="metric", values="value")
    assert set(np.unique(wide[NAMES])) <= {0.0, 1.0}
    assert wide["corruption_mean"].to_numpy() == pytest.approx(wide[NAMES[3:]].mean(axis=1).to_numpy())
    clean = rows[rows["metric"] == "clean"]
    assert (clean["value"] == (clean["predicted"] == clean["label"])).all()
    classifier.eval()
    for sample in data.samples[:3]:
        pixels = data.normalization.inverse(sample.image).clamp(0, 1)
        noisy = corrupt(pixels[None], "gaussian_noise", 5, image_seeds([sample.id], 0, "gaussian_noise_5"))
        attacked = fgsm(lambda x: classifier(data.normalization(x)), pixels, sample.label, 2 / 255)
        for name, changed in (("gaussian_noise_5", noisy), ("fgsm_2", attacked[None])):
            right = classifier(data.normalization(changed)).argmax().item() == sample.label
            assert wide.loc[sample.id, name] == right


def test_neither_batches_nor_neighbors_matter(data, classifier):
    whole = evaluate_robustness(classifier, data, **OPTIONS, progress=False).rows
    parts = evaluate_robustness(classifier, data, **OPTIONS, batch_size=2, progress=False).rows
    some = InMemoryDataset(data, data.samples[5:])
    few = evaluate_robustness(classifier, some, **OPTIONS, progress=False).rows
    keys = ["image_id", "metric"]
    values = [r.set_index(keys)["value"].sort_index() for r in (whole, parts, few)]
    assert values[0].equals(values[1])
    assert values[0].loc[values[2].index].equals(values[2])


def test_attacks_break_what_noise_of_their_size_does_not():
    """A linear model whose every pixel weighs a little: FGSM moves them all the same way."""
    data = ColorSet(size=64)
    results = evaluate_robustness(
        Reader(slice(None)),
        data,
        epsilons=[0.25],
        corruptions=["gaussian_noise"],
        severities=[5],
        progress=False,
    )
    means = results.rows.groupby("metric", observed=True)["value"].mean()
    assert means["clean"] == means["gaussian_noise_5"] == 1
    assert means["fgsm_63.75"] == means["pgd_63.75"] == 0


def test_conditions_can_be_left_out(data, classifier):
    rows = evaluate_robustness(classifier, data, attacks=[], corruptions=[], progress=False).rows
    assert list(rows["metric"].unique()) == ["clean"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attacks": ["fgms"]}, "`attacks` must be one of fgsm, pgd, but got 'fgms' .did you mean 'fgsm'"),
        ({"attacks": "fgms"}, "`attacks` must be one of fgsm, pgd, but got 'fgms' .did you mean 'fgsm'"),
        ({"corruptions": "fog"}, "`corruptions` must be one of .*, but got 'fog'"),
        ({"attacks": ["pgd", "pgd"]}, "`attacks` must name none twice, but got"),
        ({"epsilons": [8]}, r"`epsilons` must lie in \[0, 1\], but got 8"),
        ({"corruptions": ["fog"]}, "`corruptions` must be one of"),
        ({"severities": [0]}, r"`severities` must lie in \[1, 5\]"),
        ({"severities": [1, 1]}, "`severities` must name none twice"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"steps": 0}, "`steps` must be at least 1"),
    ],
)
def test_errors_of_robustness(change, message, data, classifier):
    with pytest.raises(ValueError, match=message):
        evaluate_robustness(classifier, data, **{**OPTIONS, **change}, progress=False)
