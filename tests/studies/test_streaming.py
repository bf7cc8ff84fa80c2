"""A study whose images do not fit into the memory that it may take."""

import pandas as pd
import pytest
import torch

from sibx import Results, Study
from sibx.cli import main
from sibx.datasets import InMemoryDataset
from sibx.models import MODELS, build_model, head_parameters
from sibx.studies import Place
from sibx.studies.study_bench import Workbench
from tests.helpers.studies import TINY

OWN = ["--trainings=[sib-shuffled, sib-self-cut]", "--processes=1"]


@pytest.mark.slow
def test_results_do_not_depend_on_what_is_kept_in_memory(tmp_path, brief):
    found = []
    for place in (["--memory=2"], ["--memory=0", "--workers=1"]):
        assert main(["study", *TINY, *OWN, *place, f"--out={tmp_path / place[0]}"]) == 0
        found.append(Results.load(tmp_path / place[0] / "synthetic-tiny_cnn"))
    one, two = found
    pd.testing.assert_frame_equal(one.rows, two.rows)
    logs = [{name: entry.get("mask_precision") for name, entry in f.info["training_log"].items()} for f in found]
    assert logs[0] == logs[1]
    assert logs[0]["sib-shuffled"] < 1


@pytest.mark.parametrize(("memory", "kept"), [(1, True), (0, False)])
def test_only_what_fits_is_kept(tmp_path, memory, kept):
    study = Study(options={"synthetic": {"size": 8}}, image_size=16)
    bench = Workbench(study, Place(memory=memory), tmp_path, "cpu", progress=False)
    splits = bench.splits(study.jobs()[0])
    assert [isinstance(data, InMemoryDataset) for data in splits.values()] == [kept] * len(splits)


def test_a_new_head_depends_on_the_seed_alone(tmp_path):
    """Not on whether the images were asked for before, for which a network is built to see what it was trained on."""
    torch.save(build_model("efficientnet_lite0", 3).state_dict(), tmp_path / "weights.pt")
    study = Study(
        model="efficientnet_lite0",
        weights=str(tmp_path / "weights.pt"),
        options={"synthetic": {"size": 4}},
        image_size=16,
    )
    bench, job = Workbench(study, Place(), tmp_path, torch.device("cpu"), progress=False), study.jobs()[0]
    first, again = (head_parameters(bench._network(job, trained=False))[0] for _ in range(2))
    torch.manual_seed(job.group.seed)
    assert torch.equal(first, head_parameters(study.build("efficientnet_lite0", 8))[0])
    assert torch.equal(first, again)
    assert bench.splits(job)["train"].normalization == MODELS["efficientnet_lite0"].normalization


@pytest.mark.parametrize(("place", "message"), [({"memory": -1}, "`memory`"), ({"workers": -1}, "`workers`")])
def test_numbers_below_0_are_refused(place, message):
    with pytest.raises(ValueError, match=message):
        Place(**place)
