"""Performance information curves: answers over the bytes of the picture."""

import numpy as np
import pytest
import torch

from sibx.images import Normalization
from sibx.images.baselines import make_baseline
from sibx.metrics import METRICS, Explained, aic, sic
from tests.references import TWINS
from tests.references import curves as reference

NORMALIZATION = Normalization((0.5,) * 3, (0.25,) * 3)
SIDE = 32


def edges(x):
    """Logits of a model that is sure of class 1 where the middle is sharp, and of class 0 where nothing is."""
    middle = x[..., 8:24, 8:24].double()
    contrast = middle.diff(dim=-1).abs().mean((1, 2, 3))
    return torch.stack([torch.zeros_like(contrast), 20 * (contrast - 0.6)], 1)


@pytest.fixture(scope="module")
def case():
    """Three pictures of noise, with maps of the middle, of the border above, and at random; with many ties."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(3, 3, SIDE, SIDE, generator=generator)
    maps = torch.rand(3, 1, SIDE, SIDE, generator=generator).mul(10).ceil() / 10
    maps[0, :, 8:24, 8:24] += 1
    maps[1, :, :8] += 1
    return edges, NORMALIZATION(pixels), maps, torch.tensor([1, 1, 1])


def by_hand(score, images, maps, row, target):
    """The score of one image by its slow twin."""

    def answer(frame):
        chances = edges(torch.from_numpy(frame)[None]).softmax(1)[0]
        return float(chances[target]) if score is sic else float(chances.argmax() == target)

    places = torch.randperm(SIDE**2, generator=torch.Generator().manual_seed(4)).argsort().tolist()
    order = reference.ordered(maps[row, 0].numpy(), places)
    blurred = make_baseline(images, "blur")[row].numpy()
    return TWINS[score](answer, lambda frame: frame * 0.25 + 0.5, images[row].numpy(), blurred, order)


@pytest.mark.parametrize("score", [sic, aic])
def test_is_the_definition(case, score):
    model, images, maps, targets = case
    curves = score(*case, normalization=NORMALIZATION, batch_size=7, seed=4)
    expected = [by_hand(score, images, maps, row, 1) for row in range(3)]
    assert curves.auc.numpy() == pytest.approx(expected)
    assert curves.auc[0] > curves.auc[2] > 0  # what the model looks at first, and anything
    assert curves.auc[0] > curves.auc[1]
    assert (curves.information.diff() >= 0).all()
    assert curves.information[:, [0, -1]].tolist() == curves.performance[:, [0, -1]].tolist() == 3 * [[0, 1]]
    alone = score(model, images[2:], maps[2:], targets[2:], normalization=NORMALIZATION, seed=4)
    assert torch.equal(alone.auc, curves.auc[2:])
    one_logit = score(lambda x: model(x)[:, 1:], *case[1:], normalization=NORMALIZATION, seed=4)
    assert torch.allclose(one_logit.auc, curves.auc)


def test_images_of_which_the_curve_says_nothing(case):
    """Of a class that only the blurred image has; where the model is not sure; and of a picture without edges."""
    model, images, maps, _ = case
    images = torch.cat([images[:2], 0 * images[2:]])
    scores = [score(model, images, maps, torch.tensor([1, 0, 0]), normalization=NORMALIZATION) for score in (sic, aic)]
    assert [s.auc.isnan().tolist() for s in scores] == 2 * [[False, True, True]]

    def unsure(x):
        return model(x).clamp(max=1)  # 73 %

    doubtful = [score(unsure, *case[1:], normalization=NORMALIZATION).auc for score in (sic, aic)]
    assert doubtful[0].isnan().all()
    assert doubtful[1].isfinite().all()
    raw = [score(*case, normalization=NORMALIZATION, output="raw").auc for score in (sic, aic)]
    assert torch.cat(raw).isnan().all()
    nothing = sic(model, images, 0 * maps, torch.tensor([1, 1, 1]), normalization=NORMALIZATION)
    assert nothing.auc.isnan().all()


def test_both_scores_of_an_evaluation_share_everything(case):
    model, images, maps, targets = case
    passed = []

    def counted(x):
        passed.append(len(x))
        return model(x)

    nowhere = torch.zeros_like(maps, dtype=torch.bool)
    e = Explained(
        heatmaps=maps.clone().index_fill_(0, torch.tensor([1]), 0),
        masks=nowhere,
        undefined=nowhere,
        images=images,
        targets=targets,
        model=counted,
        normalization=NORMALIZATION,
        seed=4,
    )
    for name, score in (("sic", sic), ("aic", aic)):
        expected = score(*case, normalization=NORMALIZATION, seed=4).auc
        assert METRICS[name].score(e)[[0, 2]].tolist() == expected[[0, 2]].tolist()
        x, y = e.curves[name]
        assert x.tolist() == pytest.approx(np.linspace(0, 1, 21))
        assert y.isnan().all(1).tolist() == [False, True, False]
        assert y[0, [0, -1]].tolist() == [0, 1]
        assert torch.trapezoid(y[0], x).item() == pytest.approx(expected[0].item(), abs=0.05)
    assert sum(passed) == 3 * 15


def test_errors(case):
    model, images, maps, targets = case
    with pytest.raises(ValueError, match="`images` must have 1 or 3 channels, to be pictures, but got"):
        sic(model, images[:, :2], maps, targets, normalization=Normalization((0.5,) * 2, (0.5,) * 2))
    gray = images[:, :1].clone()
    assert aic(edges, gray, maps, targets, normalization=Normalization((0.5,), (0.25,))).auc.isfinite().all()
