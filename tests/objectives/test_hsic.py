"""HSIC and CKA: the definitions, unbiasedness, derivatives, undefined cases; the random projection."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx._hsic import RandomProjection, cka, hsic
from tests.references import hsic as reference

KERNELS = {"linear": reference.linear, "gaussian": reference.gaussian}
ESTIMATORS = {"biased": reference.biased, "unbiased": reference.unbiased}
every_kernel = pytest.mark.parametrize("kernel", KERNELS)
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@every_kernel
@every_estimator
class TestDefinition:
    @settings(max_examples=10, deadline=None)
    @given(b=st.integers(4, 7), d=st.integers(1, 5), e=st.integers(1, 5), seed=st.integers(0, 99))
    def test_equals_the_reference(self, kernel, estimator, b, d, e, seed):
        x, y = normal(b, d, seed=seed), normal(b, e, seed=seed + 100)
        k, m = KERNELS[kernel](x), KERNELS[kernel](y)
        expected = ESTIMATORS[estimator](k, m)
        ours = hsic(x, y, kernel=kernel, estimator=estimator)
        assert torch.isclose(ours, expected, atol=1e-12)
        assert torch.isclose(ours, hsic(y, x, kernel=kernel, estimator=estimator), atol=1e-12)
        assert torch.isclose(reference.unbiased(k, m), reference.unbiased_closed(k, m), atol=1e-12)
        own = ESTIMATORS[estimator](k, k) * ESTIMATORS[estimator](m, m)
        if own > 1e-9:  # with four rows the unbiased own terms can vanish
            ours = cka(x, y, kernel=kernel, estimator=estimator)
            assert torch.isclose(ours, expected / own.sqrt(), atol=1e-9)
            assert -1 - 1e-9 <= ours <= 1 + 1e-9

    def test_does_not_see_shifts_and_cka_not_scales(self, kernel, estimator):
        x, y = normal(9, 3), normal(9, 2, seed=1)
        options = {"kernel": kernel, "estimator": estimator}
        assert torch.isclose(hsic(x + 5, y - 2, **options), hsic(x, y, **options))
        assert torch.isclose(cka(3 * x, y, **options), cka(x, y, **options))
        assert torch.isclose(cka(x, 3 * x + 2, **options), torch.tensor(1.0, dtype=torch.float64))

    def test_gradients(self, kernel, estimator):
        """With a frozen bandwidth, by finite differences: it is a constant to the gradient."""
        x, y = normal(6, 3).requires_grad_(), normal(6, 2, seed=1).requires_grad_()
        widths = [reference.bandwidth(t.detach()) for t in (x, y)]

        def slow(a, b):
            if kernel == "linear":
                return ESTIMATORS[estimator](reference.linear(a), reference.linear(b))
            grams = [reference.gaussian(t, width) for t, width in zip((a, b), widths, strict=True)]
            return ESTIMATORS[estimator](*grams)

        def fast(a, b):
            return hsic(a, b, kernel=kernel, estimator=estimator)

        assert torch.autograd.gradcheck(fast if kernel == "linear" else slow, (x, y))
        for ours, theirs in zip(*(torch.autograd.grad(f(x, y), (x, y)) for f in (fast, slow)), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-12)

    @pytest.mark.parametrize("value", [0.0, 0.1, 1e3])
    @pytest.mark.parametrize("dependence", [hsic, cka])
    def test_constant_rows_share_nothing(self, kernel, estimator, dependence, value):
        constant = torch.full((8, 5), value, requires_grad=True)
        other = normal(8, 4).float()
        for pair in ((constant, other), (other, constant), (constant, constant)):
            shared = dependence(*pair, kernel=kernel, estimator=estimator)
            assert abs(shared) <= 1e-6
            assert torch.autograd.grad(shared, constant)[0].isfinite().all()


def test_unbiased_scores_independent_rows_zero_on_average():
    """Mean of 400 draws within 4 standard errors of zero; the biased one is far above."""
    for kernel in KERNELS:
        scores = {
            estimator: torch.stack(
                [hsic(normal(8, 3, seed=2 * s), normal(8, 3, seed=2 * s + 1), kernel=kernel, estimator=estimator)
                 for s in range(400)]
            )
            for estimator in ESTIMATORS
        }  # fmt: skip
        errors = {name: s.mean() / (s.std() / len(s) ** 0.5) for name, s in scores.items()}
        assert abs(errors["unbiased"]) < 4
        assert errors["biased"] > 20


def test_gaussian_kernel_sees_what_the_linear_one_does_not():
    x = normal(200, 1)
    y = x.square()
    assert cka(x, y, kernel="gaussian", estimator="unbiased") > 0.3 > 5 * cka(x, y, estimator="unbiased").abs()


def test_mostly_equal_rows_have_a_bandwidth():
    """More than half of the pairs at distance zero: the median is zero, the kernel tells equal from different."""
    x = torch.zeros(8, 3).requires_grad_()
    x.data[0] = 1
    indicator = torch.zeros(8, 1)
    indicator[0] = 1
    score = cka(x, indicator, kernel="gaussian")
    assert torch.isclose(score, torch.tensor(1.0), atol=1e-4)
    assert torch.autograd.grad(score, x)[0].isfinite().all()
    small, large = (hsic(scale * x, indicator, kernel="gaussian") for scale in (0.01, 1))
    assert torch.isclose(small, large)  # whatever the scale


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "unbiased"}, r"`a` must be a tensor \(B, D\) with B of at least 4"),
        ({"estimator": "ubiased"}, "`estimator` must be one of biased, unbiased, .*did you mean"),
        ({"kernel": "rbf"}, "`kernel` must be one of linear, gaussian, but got 'rbf'"),
    ],
)
def test_errors(options, message):
    for dependence in (hsic, cka):
        with pytest.raises(ValueError, match=message):
            dependence(torch.zeros(3, 2), torch.zeros(3, 2), **options)


@pytest.mark.parametrize(("estimator", "least"), [("biased", 2), ("unbiased", 4)])
def test_fewest_rows(estimator, least):
    for dependence in (hsic, cka):
        assert dependence(normal(least, 2), normal(least, 2), estimator=estimator).isfinite()
        with pytest.raises(ValueError, match=f"with B of at least {least}"):
            dependence(normal(least - 1, 2), normal(least - 1, 2), estimator=estimator)


class TestRandomProjection:
    def test_keeps_inner_products(self):
        rows = torch.nn.functional.normalize(normal(10, 3000), dim=1)
        projected = RandomProjection(512)(rows)
        assert projected.shape == (10, 512)
        assert projected.dtype == rows.dtype
        assert (projected @ projected.T - rows @ rows.T).abs().max() < 5 * 512**-0.5

    def test_is_fixed_by_seed_and_width(self):
        project = RandomProjection(8)
        rows = normal(4, 30)
        assert torch.equal(project(rows), project(rows))
        assert torch.equal(project(rows), RandomProjection(8)(rows))
        assert torch.allclose(project(rows.float()), project(rows).float(), atol=1e-5)
        assert not torch.allclose(project(rows), RandomProjection(8, seed=1)(rows))
        assert project(normal(4, 31)).shape == (4, 8)

    def test_narrow_rows_stay(self):
        rows = normal(4, 8)
        assert RandomProjection(8)(rows) is rows

    def test_errors(self):
        with pytest.raises(ValueError, match="`dimensions` must be at least 1, but got 0"):
            RandomProjection(0)
