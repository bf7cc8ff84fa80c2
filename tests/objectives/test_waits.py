"""How often a training step waits for a GPU."""

import pytest
import torch

from sibx.objectives import SIBConfig, SIBLoss
from tests.helpers.objectives import every_term
from tests.helpers.waits import Waits


@pytest.mark.parametrize(
    ("config", "waits"),
    [
        (SIBConfig.published(), []),
        # Which images have an object, and the share of the contributions that SignFlipGuard looks at.
        (
            every_term(layers={"features.6": 1.0, "features": 1.0}),
            ["nonzero", "_local_scalar_dense"],
        ),
    ],
    ids=["published", "given"],
)
def test_a_step_reads_next_to_nothing(batch, net, config, waits):
    images, labels, masks = batch
    masks = masks if config.needs_masks else None
    loss, parameters = SIBLoss(config), list(net.parameters())
    loss(net, images, labels, masks)  # measures where the layers' units look, once
    with Waits() as seen:
        loss(net, images, labels, masks).total.backward(inputs=parameters)
    assert seen.found == waits


def test_what_is_seen():
    values, marked = torch.arange(3.0, requires_grad=True), torch.tensor([True, False, True])
    with Waits() as seen:
        values[marked].sum().backward()
        int(values[0])
        values[torch.tensor([0, 2])]
        values[1:]
    assert seen.found == ["index", "index_put", "_local_scalar_dense"]
