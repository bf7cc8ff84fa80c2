"""What a study would cost."""

import pytest
import torch

from sibx.cli import main
from sibx.models import MODELS, about, build_model
from sibx.studies import Study, estimate
from sibx.studies.estimate import Gauge, Passes, measure, passes_of
from sibx.train import TRAININGS
from tests.helpers.studies import ROOT
from tests.studies.test_study import FILES, understood


@pytest.mark.parametrize("file", FILES)
def test_every_study_can_be_planned(file, monkeypatch, capsys, tmp_path):
    one = Passes(1, 1)
    gauge = Gauge(one, one, one, dict.fromkeys(TRAININGS, one), one)
    monkeypatch.setattr(estimate, "measure", lambda *_: gauge)
    config = f"--config={ROOT / 'benchmarks' / 'studies' / file}"
    assert main(["study", config, "--dry-run", f"--out={tmp_path}"]) == 0
    lines = [[cell.strip() for cell in row.split("|")] for row in capsys.readouterr().out.splitlines() if "| " in row]
    total = next(cells for cells in lines if cells[1] == "all")
    study, _ = understood(config)
    assert int(total[2]) == len(study.jobs())
    assert total[3] == "0"
    counted = not study.weights or study.images  # photographs that are not at hand count as none
    assert (int(total[4].replace(",", "")) > 100) == bool(counted)
    assert not list(tmp_path.iterdir())


def test_own_masks_are_counted_once_for_every_way_to_read_them():
    study = Study(trainings=["ce", "sib-self", "sib-self-shuffled", "sib-self-cut", "sib-self-fixed"], image_size=32)
    nothing, masks = Passes(), Passes(5, 3)
    gauge = Gauge(nothing, nothing, masks, dict.fromkeys(study.trainings, nothing), nothing)
    counted = {job: passes_of(study, job, {"train": 16}, gauge) for job in study.jobs() if job.kind != "start"}
    read = [passes for job, passes in counted.items() if job.kind == "masks"]
    assert sum(read, Passes()) == masks * (2 * 16)
    assert all(passes == nothing for job, passes in counted.items() if job.kind == "training")


def test_passes_are_counted():
    study = Study(
        trainings=["ce", "sib", "sib-published", "background-swap"],
        methods=["saliency", "smoothgrad", "gradcam"],
        controls=["control_random"],
    )
    gauge = measure(study, "tiny_cnn", 32, torch.device("cpu"))
    assert (gauge.explain.forward, gauge.explain.backward) == (1 + 16 + 1, 1 + 16)  # Grad-CAM: not to the first layer
    assert (gauge.perturb.forward, gauge.perturb.backward) == (57 * 4, 0)
    assert {name: (p.forward, p.backward) for name, p in gauge.step.items()} == {
        "ce": (1, 1),
        "sib": (1, 3),  # two gradients more are measured for the share
        "sib-published": (1, 2),  # R in input space
        "background-swap": (2, 2),
    }
    into_input = Study(
        trainings=["sib"], layers={"tiny_cnn": {"input": 1, "features.12": 1}}, methods=["vjp"], faithfulness=[]
    )
    step = measure(into_input, "tiny_cnn", 32, torch.device("cpu")).step["sib"]
    assert (step.forward, step.backward) == (1, 4)
    assert gauge.time(Passes(2, 0)) == pytest.approx(2 * gauge.seconds.forward)


def test_a_network_is_measured_on_images_as_it_knows_them(tmp_path):
    """Else a dry run would warn of numbers that the study never feeds it."""
    torch.save(build_model("efficientnet_lite0", 3).state_dict(), tmp_path / "weights.pt")
    study = Study(
        **{"model": "efficientnet_lite0", "weights": str(tmp_path / "weights.pt"), "trainings": ["ce"]},
        **{"methods": ["gradcam"], "controls": [], "faithfulness": []},
    )
    assert about(study.build("efficientnet_lite0", 8)).normalization == MODELS["efficientnet_lite0"].normalization
    assert measure(study, "efficientnet_lite0", 32, torch.device("cpu")).explain.forward == 1
