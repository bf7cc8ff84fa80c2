"""Two processes, half of the batch each, give the gradient of one process with the whole batch."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sibx.models import TinyCNN
from sibx.objectives import HSIC, Contrast, Given, GradNorm, Share, SIBConfig, SIBLoss, Variance
from sibx.runs import gather_rows
from sibx.runs.ranks import previous_rows

RANKS, BATCH = 2, 8
GIVEN = SIBConfig.recommended(masks="given")
CONFIGS = {
    "published": SIBConfig.published(),
    # Weights with which no term is lost beside the cross-entropy.
    "published, strong": SIBConfig(foreground=HSIC(10), background=Variance(1e6)),
    "script": SIBConfig(form="exponential", foreground=HSIC(10), background=Variance(10)),
    "recommended": GIVEN,
    # By the name that the layer has in the model, not in what wraps it.
    "named layer": SIBConfig.recommended(layers={"features.6": 1.0}),
    "recommended, no swap": dataclasses.replace(GIVEN, swap=0),
    "gaussian": dataclasses.replace(GIVEN, foreground=HSIC(10, "gaussian", "unbiased", projection=64)),
    "balanced": dataclasses.replace(GIVEN, balance=GradNorm()),
    "share": dataclasses.replace(GIVEN, balance=Share()),
    "contrast": dataclasses.replace(GIVEN, background=Contrast()),
}


def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32, dtype=torch.float64, generator=generator)
    masks = torch.zeros(BATCH, 1, 32, 32, dtype=torch.bool)
    for i in range(BATCH):
        masks[i, :, 4 : 16 + i, 2 + i : 18 + i] = True
    masks[[1, 2, 6]] = False  # two left out on the first rank, one on the second
    return images, torch.arange(BATCH) % 5, masks


def network():
    torch.manual_seed(1)
    return TinyCNN(num_classes=5, width=8, norm="group").double()


def step(model, config, images, labels, masks):
    """Return the scalar terms and the parameter gradients of one step."""
    model.zero_grad()
    loss, masks = SIBLoss(config), masks if config.needs_masks else None
    terms = loss(model, images, labels, masks)
    terms.total.backward()
    scalars = {k: v.detach() for k, v in terms._asdict().items() if v.ndim == 0}
    norms = loss.gradient_norms(model, images, labels, masks)
    scalars |= {f"norm of {k}": torch.tensor(v, dtype=torch.float64) for k, v in norms.items()}
    scalars |= loss.state_dict()
    return scalars, torch.cat([p.grad.flatten() for p in model.parameters()])


def train_on_a_share(rank: int, folder: Path) -> None:
    """What every process runs; an exception in one of them fails the test."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=RANKS, timeout=timedelta(seconds=60)
    )
    own = slice(rank * BATCH // RANKS, (rank + 1) * BATCH // RANKS)
    images, labels, masks = (t[own] for t in batch())
    model: nn.Module = DistributedDataParallel(network())
    results = {name: step(model, config, images, labels, masks) for name, config in CONFIGS.items()}
    torch.save(results, folder / f"{rank}.pt")
    check_gather(rank)
    dist.destroy_process_group()


def check_gather(rank: int) -> None:
    rows = torch.arange(6.0).view(3, 2).add(10 * rank).requires_grad_()
    everything = torch.cat([torch.arange(6.0).view(3, 2), torch.arange(6.0).view(3, 2) + 10])
    assert torch.equal(gather_rows(rows), everything)
    assert torch.equal(gather_rows(rows.detach().long()), everything.long())
    assert torch.equal(previous_rows(rows), everything.roll(1, 0)[3 * rank : 3 * rank + 3])
    last_of_first = torch.tensor([False, False, rank == 0])
    assert torch.equal(previous_rows(rows, last_of_first), everything[2].expand(3, -1))
    weights = torch.arange(12.0).view(6, 2)
    ((rank + 1) * weights * gather_rows(rows.T.contiguous().T)).sum().backward()
    assert torch.equal(rows.grad, 3 * weights[3 * rank : 3 * rank + 3])  # summed over the ranks' losses: 1 + 2
    with pytest.raises(ValueError, match=r"`rows` must have one count and one width .*got \[\(3, 2\), \(2, 2\)\]"):
        gather_rows(rows[: 3 - rank])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(train_on_a_share, (folder,), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.slow  # the work is half a second; starting two interpreters takes several
@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_equal_one(name, results):
    scalars, gradient = step(network(), CONFIGS[name], *batch())
    accuracy = 1e-6 if isinstance(CONFIGS[name].balance, GradNorm) else 1e-10  # the running scales are float32
    states = [[v for k, v in of_rank[name][0].items() if k.startswith("balance")] for of_rank in results]
    assert all(map(torch.equal, *states))
    for of_rank in results:
        theirs, averaged = of_rank[name]
        assert (averaged - gradient).norm() <= accuracy * gradient.norm()
        assert theirs.keys() == scalars.keys()
        for key, value in scalars.items():
            assert torch.allclose(theirs[key], value, rtol=accuracy, atol=0, equal_nan=True), key
    if CONFIGS[name].masks == Given():
        assert scalars["background"] != 0  # five images are left


def test_a_plain_mean_over_ranks_would_not_do():
    """What the gathering is for: the mean of the halves' gradients is another one."""
    _, gradient = step(network(), GIVEN, *batch())
    halves = [step(network(), GIVEN, *(t[half] for t in batch()))[1] for half in (slice(0, 4), slice(4, 8))]
    assert (sum(halves) / 2 - gradient).norm() > 1e-3 * gradient.norm()


def test_alone_it_is_the_identity():
    rows = torch.randn(3, 2)
    assert gather_rows(rows) is rows
    assert torch.equal(previous_rows(rows), rows.roll(1, 0))


def test_previous_rows_among_some():
    rows = torch.arange(6.0)
    for among, expected in (("011010", [4, 4, 1, 2, 2, 4]), ("000100", [3] * 6), ("000000", [5, 0, 1, 2, 3, 4])):
        marked = torch.tensor([c == "1" for c in among])
        assert previous_rows(rows, marked).tolist() == expected
