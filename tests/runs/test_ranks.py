"""fine_tune in two processes takes the steps of one, writes its files once, and resumes."""

import dataclasses
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN
from sibx.objectives import GroupDROConfig, GuidanceConfig, SIBConfig
from sibx.train import TrainConfig, accuracy, fine_tune

RANKS = 2
PLAIN = TrainConfig(epochs=2, batch_size=8, learning_rate=0.05, optimizer="sgd", clip_norm=5.0)
RUNS = {
    "cross-entropy": PLAIN,
    "micro-batches": dataclasses.replace(PLAIN, accumulate=2, balanced=True, ema=0.5),
    "s-ib": dataclasses.replace(
        PLAIN, objective=SIBConfig.recommended("given"), accumulate=2, warm_up=1.0, augmentation="flip_crop"
    ),
    "s-ib, own masks": dataclasses.replace(PLAIN, objective=SIBConfig.recommended("self"), keep="best"),
    "s-ib in input space": dataclasses.replace(PLAIN, objective=SIBConfig.published(), batch_size=4),
    "guidance": dataclasses.replace(PLAIN, objective=GuidanceConfig("energy-cam", 0.5)),
    "group-dro": dataclasses.replace(PLAIN, objective=GroupDROConfig(step_size=0.5)),
}


# BatchNorm sees a rank's images alone, so these are other steps than one process takes.
ALONE = dataclasses.replace(PLAIN, epochs=1, batch_norm="train", ema=0.5, keep="best")


def data(split, size):
    return InMemoryDataset.load(SyntheticDataset(split, 32, size=size))


def tune(config, norm="group", **options):
    torch.manual_seed(dist.get_rank() if dist.is_initialized() else 0)  # the first rank's weights count
    net = TinyCNN(8, width=8, norm=norm)
    return fine_tune(net, data("train", 20), val_data=data("val", 21), config=config, progress=False, **options)


def train_on_a_share(rank, folder):
    """What every process runs; an exception in one of them fails the test."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=RANKS, timeout=timedelta(seconds=100)
    )
    results = {name: tune(config, out_dir=folder / name) for name, config in RUNS.items()}
    again = tune(RUNS["s-ib"], out_dir=folder / "s-ib", resume=True)
    assert again.history == results["s-ib"].history
    dist.barrier()  # the other rank may still be reading
    (folder / "s-ib").joinpath("checkpoint-000000004.pt").unlink() if rank == 0 else None
    dist.barrier()
    half = tune(RUNS["s-ib"], out_dir=folder / "s-ib", resume=True)
    first, second = (torch.nn.utils.parameters_to_vector(r.model.parameters()) for r in (half, again))
    assert torch.equal(first, second)
    assert accuracy(again.model, data("val", 1)) in (0, 1)  # the second rank has no image
    with pytest.raises(ValueError, match="`batch_size` must be divisible by accumulate x processes = 6, but got 9"):
        tune(dataclasses.replace(PLAIN, batch_size=9, accumulate=3))
    results["alone"] = tune(ALONE, norm="batch")
    assert accuracy(results["alone"].model, data("val", 21)) == results["alone"].history[0]["val_accuracy"]
    saved = {name: {"weights": r.model.state_dict(), "history": r.history} for name, r in results.items()}
    torch.save(saved, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(train_on_a_share, (folder,), nprocs=RANKS)
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.mark.slow  # starting two interpreters takes several seconds
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_equal_one(name, results):
    folder, of_ranks = results
    expected = tune(RUNS[name])
    for of_rank in of_ranks:
        for key, tensor in expected.model.state_dict().items():
            assert torch.allclose(of_rank[name]["weights"][key], tensor, atol=1e-5), key
        for theirs, ours in zip(of_rank[name]["history"], expected.history, strict=True):
            assert theirs == pytest.approx(ours, rel=1e-3, abs=1e-5, nan_ok=True)
    assert len({str(of_rank[name]["history"]) for of_rank in of_ranks}) == 1
    names = {p.name for p in (folder / name).iterdir()}
    assert {"log.csv", "model.pt"} < names
    assert len(names) == 4


@pytest.mark.slow
def test_ranks_return_one_model_whatever_their_batches_statistics(results):
    _, of_ranks = results
    first, second = (of_rank["alone"]["weights"] for of_rank in of_ranks)
    assert all(torch.equal(second[key], tensor) for key, tensor in first.items())


def test_batch_norm_is_not_synchronized_on_a_cpu():
    config = TrainConfig(sync_batch_norm=True, batch_norm="train", batch_size=8)
    with pytest.raises(ValueError, match="`sync_batch_norm` must be False on a CPU"):
        tune(config)


def test_synchronized_batch_norm_needs_train_mode():
    with pytest.raises(ValueError, match="`batch_norm` must be 'train' for sync_batch_norm=True, but got 'eval'"):
        TrainConfig(sync_batch_norm=True)
