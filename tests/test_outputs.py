"""What the numbers of a model are: classes, probabilities, losses and hits, against their slow forms."""

import math
import warnings

import pytest
import torch

from sibx._outputs import KINDS, kind_of, predicted_beside, warn_of_probabilities
from sibx.models import by_class, criterion_for, hits, predicted, probabilities, scores_for
from tests.references import outputs as slow

CASES = {"softmax": ("softmax", 4), "binary": ("sigmoid", 1), "sigmoid": ("sigmoid", 4), "raw": ("raw", 4)}
NAN = math.nan


@pytest.fixture(params=CASES)
def case(request):
    """A kind, its word, and the scores of six images."""
    word, columns = CASES[request.param]
    scores = 3 * torch.randn(6, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return request.param, word, scores


def test_every_kind_has_a_case():
    assert set(CASES) == set(KINDS)


class TestTwins:
    def test_classes_and_probabilities(self, case):
        kind, word, scores = case
        for fast, twin in ((by_class, slow.by_class), (probabilities, slow.probabilities)):
            expected = torch.tensor([twin(row, kind) for row in scores.tolist()], dtype=torch.float64)
            torch.testing.assert_close(fast(scores, word), expected)

    def test_hits(self, case):
        kind, word, scores = case
        if kind == "raw":
            with pytest.raises(ValueError, match="`output` must be 'softmax' or 'sigmoid' for an accuracy"):
                hits(scores, torch.zeros(6, dtype=torch.int64), word)
            return
        for label in range(by_class(scores, word).shape[1]):
            expected = [slow.hits(row, label, kind) for row in scores.tolist()]
            assert hits(scores, torch.full((6,), label), word).tolist() == expected

    def test_losses(self, case):
        kind, word, scores = case
        if kind == "raw":
            with pytest.raises(ValueError, match="`criterion` must be given for output='raw'"):
                criterion_for("raw")
            return
        labels = torch.tensor([0, 1, 1, 0, 0, 1])
        if kind == "sigmoid":
            rows = [[1, 0, NAN, 0], [NAN, NAN, 1, 1], [0, 0, 0, 0], [1, 1, 1, NAN], [NAN, 0, 0, 0], [1, 0, 1, 0]]
            labels = torch.tensor(rows, dtype=torch.float64)
        losses = [slow.loss(row, truth, kind) for row, truth in zip(scores.tolist(), labels.tolist(), strict=True)]
        known = [1] * 6 if labels.ndim == 1 else (~labels.isnan()).sum(1).tolist()
        expected = sum(value * count for value, count in zip(losses, known, strict=True)) / sum(known)
        assert criterion_for(word)(scores, labels).item() == pytest.approx(expected)

    def test_log_probabilities_and_margins(self, case):
        """What attacks climb has the sign of the loss: it is above 0 where the label is less likely than not."""
        kind, word, scores = case
        meaning, of_classes = KINDS[kind], by_class(scores, word)
        assert kind_of(scores, word) is meaning
        if meaning.margin is None:
            assert meaning.log_probabilities is None
            return
        torch.testing.assert_close(meaning.log_probabilities(of_classes).exp(), probabilities(scores, word))
        for label in range(of_classes.shape[1]):
            margin = meaning.margin(of_classes, torch.full((6,), label))
            assert (margin > 0).tolist() == (probabilities(scores, word)[:, label] < 0.5).tolist()


def test_a_binary_model_is_a_softmax_of_two_classes():
    """Probabilities, predictions, hits and the loss of one logit z are those of the two logits (0, z)."""
    one = torch.linspace(-4, 4, 9, dtype=torch.float64).unsqueeze(1)
    two, labels = torch.cat([torch.zeros_like(one), one], 1), torch.tensor([0, 1, 1] * 3)
    torch.testing.assert_close(probabilities(one), probabilities(two))
    torch.testing.assert_close(criterion_for()(one, labels), criterion_for()(two, labels))
    assert predicted(one).tolist() == predicted(two).tolist() == [0] * 5 + [1] * 4
    assert hits(one, labels).tolist() == hits(two, labels).tolist()


def test_two_certain_labels():
    """Labels do not share one unit of probability."""
    scores = torch.tensor([[6.0, 6.0, -6.0, -6.0]])
    assert probabilities(scores)[0, 0].item() == pytest.approx(0.5, abs=1e-5)
    assert probabilities(scores, "sigmoid")[0].tolist() == pytest.approx([0.99753, 0.99753, 0.00247, 0.00247], abs=1e-5)
    assert [hits(scores, torch.tensor([k]), "sigmoid").item() for k in range(4)] == [1, 1, 0, 0]


def test_what_is_predicted_beside_a_label():
    """Of several labels each that is likely; else the best other one, though a label that is unlikely be the best."""
    scores = torch.tensor([[1.0, 5.0, -1.0], [1.0, 5.0, -1.0], [-1.0, -5.0, -2.0], [2.0, 1.0, 0.0]])
    labels = torch.tensor([0, 2, 0, 7])
    assert predicted_beside(scores, labels, "sigmoid").tolist() == [0, 1, 2, 0]
    assert (predicted_beside(scores, labels, "sigmoid") == labels)[:3].tolist() == hits(
        scores[:3], labels[:3], "sigmoid"
    ).bool().tolist()
    for output in ("softmax", "raw"):
        assert predicted_beside(scores, labels, output).tolist() == [1, 1, 0, 0]


def test_all_labels_of_an_image():
    """The share of the known ones that are right; a NaN among the scores is not."""
    scores = torch.tensor([[1.0, -1.0, 2.0], [NAN, -1.0, -2.0], [1.0, 1.0, 1.0]])
    labels = torch.tensor([[1, 1, NAN], [0, 0, NAN], [NAN] * 3])
    assert hits(scores, labels, "sigmoid").tolist() == pytest.approx([0.5, 0.5, NAN], nan_ok=True)
    with pytest.raises(ValueError, match="`output` must be 'sigmoid' for several labels per image"):
        hits(scores, labels)


def test_how_many_scores_a_model_needs():
    assert [scores_for(2, output) for output in ("auto", "softmax", "raw", "sigmoid")] == [2, 2, 2, 1]
    assert scores_for(2, "sigmoid", several=True) == 2
    with pytest.raises(ValueError, match=r"`output` must be 'softmax' \(or 'auto'\) for more than two classes"):
        scores_for(3, "sigmoid")


def test_a_nan_is_never_right():
    scores = torch.tensor([[NAN], [2.0]])
    assert hits(scores, torch.tensor([0, 1])).tolist() == [0, 1]
    assert predicted(scores).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: probabilities(torch.zeros(2, 1), "softmax"),
            "`output` must be 'sigmoid' or 'raw' for a model with one",
        ),
        (lambda: probabilities(torch.zeros(2, 3), "logits"), "`output` must be one of auto, softmax, sigmoid, raw"),
        (lambda: hits(torch.zeros(2, 1), torch.tensor([0, 2])), r"`labels` must lie in 0..1"),
        (lambda: criterion_for()(torch.zeros(2, 3), torch.tensor([0, 3])), r"`labels` must lie in 0..2"),
        (
            lambda: criterion_for("sigmoid")(torch.zeros(2, 3), torch.tensor([0, 1])),
            r"`labels` must be a floating-point tensor of shape \(2, 3\)",
        ),
        (lambda: criterion_for("sigmoid")(torch.zeros(1, 2), torch.tensor([[0.5, 1]])), "`labels` must be 0, 1 or NaN"),
        (
            lambda: criterion_for("sigmoid")(torch.zeros(1, 2), torch.ones(1, 2).long()),
            "`labels` must be a floating-point",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class TestNotice:
    """A model that ends in what ``output`` would apply again is noticed, one that does not is left alone."""

    scores = 3 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0))

    @pytest.mark.parametrize("ending", ["softmax", "log_softmax"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_of_classes(self, ending, dtype):
        with pytest.warns(UserWarning, match=f"seems to end in a {ending}, and output='auto'"):
            warn_of_probabilities(getattr(self.scores.to(dtype), ending)(1))

    @pytest.mark.parametrize("columns", [1, 4])
    def test_of_a_sigmoid(self, columns):
        with pytest.warns(UserWarning, match="seems to end in a sigmoid, and output='sigmoid'"):
            warn_of_probabilities(self.scores[:, :columns].sigmoid(), "sigmoid")

    @pytest.mark.parametrize(
        "scores",
        [
            scores,
            scores[:, :1],
            scores[:, :1].sigmoid()[:1],
            scores[:0],
            scores.abs(),
            0.1 + scores / 100,
            -scores.abs(),
        ],
    )
    def test_of_nothing(self, scores):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_probabilities(scores)
            warn_of_probabilities(self.scores.softmax(1), "raw")
