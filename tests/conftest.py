"""Shared fixtures: small models and images, the real data where it is at hand, and the scripts of experiments."""

import gc
import importlib
import ipaddress
import os
import socket
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch

from sibx.attribution import METHODS, build_method
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.evaluation import heatmaps_of
from sibx.images.normalization import IMAGENET
from sibx.metrics import Explained
from sibx.models import TinyCNN
from sibx.studies import closing
from tests.helpers.fuzzing import load_profile

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"

gc.set_threshold(100_000, 50, 50)  # all that torch and pandas load is looked through less often: a tenth of the time
load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


MEASURED = 3  # cases of a test of many cases for which coverage is noted: it takes a third as long again


def pytest_collection_modifyitems(items):
    """Note coverage for the first cases of every test; what the others alone would reach counts as not covered."""
    seen = Counter()
    for item in items:
        test = item.path, getattr(item, "originalname", item.name)
        seen[test] += 1
        if seen[test] > MEASURED:
            item.add_marker(pytest.mark.no_cover)


def _guarded(function, address_of):
    """A function of sockets that refuses every address but those of this machine."""

    def guard(*arguments, **options):
        address = address_of(*arguments)
        host = address[0] if isinstance(address, tuple) else ""  # a path is a socket of this machine
        host = host.decode() if isinstance(host, bytes) else host
        if host not in (None, "", "localhost", socket.gethostname()):
            try:
                own = ipaddress.ip_address(host).is_loopback
            except ValueError:
                own = False
            if not own:
                raise RuntimeError(f"a test wants to reach {host}, and no test may leave this machine")
        return function(*arguments, **options)

    return guard


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """Tests need no network; downloads that the documentation names are replaced where they are tested."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name), lambda _, address: address))
        patch.setattr(socket, "getaddrinfo", _guarded(socket.getaddrinfo, lambda host, *_: (host,)))
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def script(monkeypatch):
    """Imports one of the scripts of benchmarks/experiments, which import their neighbors; then they are forgotten."""
    folder = ROOT / "benchmarks" / "experiments"
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def brief(monkeypatch):
    """Studies without their report, which takes more time than all else of a small one."""
    monkeypatch.setattr(closing, "write_report", lambda *_, **__: Path("report.html"))


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TinyCNN(num_classes=5, width=8).eval()


@pytest.fixture
def binary():
    """A network with one logit z, and the same network with the two logits -z/2 and z/2."""
    torch.manual_seed(0)
    one, two = TinyCNN(1, width=8).eval(), TinyCNN(2, width=8).eval()
    state = one.state_dict()
    heads = {k: torch.cat([-v, v]) / 2 for k, v in state.items() if k.startswith("classifier")}
    two.load_state_dict(state | heads)
    return one, two


@pytest.fixture
def explained(model, images):
    """What every metric of the table can score: positive heatmaps with ties, masks, undefined pixels."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    masks[..., 8:24, 4:20] = True
    undefined = torch.zeros_like(masks)
    undefined[..., 12:18] = True
    return Explained(
        heatmaps=(torch.rand(4, 1, 32, 32, generator=generator) * 50).ceil() / 50,
        masks=masks,
        undefined=undefined,
        images=images,
        targets=torch.tensor([0, 1, 4, 2]),
        model=model,
        normalization=IMAGENET,
        baseline=torch.zeros_like,
        explain=explain_with(model),
        explain_with=explain_with,
    )


def explain_with(model):
    """The saliency maps of a model, as metrics that explain again are handed them."""
    return partial(heatmaps_of, METHODS["saliency"], build_method("saliency", model))


@pytest.fixture
def batch():
    """Images, labels and masks for a training step."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 32, 32, dtype=torch.float64, generator=generator)
    masks = torch.zeros(6, 1, 32, 32, dtype=torch.bool)
    masks[:, :, 8:24, 4:20] = True
    return images, torch.tensor([0, 1, 2, 3, 4, 0]), masks


@pytest.fixture
def net():
    """A network without statistics of the batch, in double precision."""
    torch.manual_seed(1)
    return TinyCNN(num_classes=5, width=8, norm="group").double()


@pytest.fixture(scope="session")
def shapes():
    return InMemoryDataset.load(SyntheticDataset("test-id", 32, size=24))


@pytest.fixture(scope="session")
def shared_data():
    if not SHARED.is_dir():
        pytest.skip(f"the real data is not beside the repository: no folder {SHARED.name} in ../shared")
    return SHARED
