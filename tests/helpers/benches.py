"""A small workbench whose answers are known: networks that see colors, and pictures of colored squares."""

import torch
from torch import nn

from sibx.app import Network, Workbench
from sibx.datasets import MaskedDataset, MaskedSample
from sibx.images import Normalization
from sibx.models import Eye

SIDE, CLASSES, PICTURES = 64, ("red", "<b>green"), 14
HALF = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
WRONG = 5  # the picture that is labeled otherwise than it looks


class Colors(nn.Module):
    """Says how much redder than greener a picture is; ``blue`` counts as red too, which is a shortcut."""

    def __init__(self, blue):
        super().__init__()
        self.features = nn.Conv2d(3, 3, 4, stride=4, bias=False)
        colors = torch.full((3, 3), -0.5).fill_diagonal_(1.0)
        weights = [[1.0, 0.0, blue], [0.0, 1.0, 0.0]]
        with torch.no_grad():
            self.features.weight.copy_((colors / 16)[..., None, None].expand(3, 3, 4, 4))
        self.register_buffer("weights", torch.tensor(weights))

    def forward(self, images):
        return 12 * torch.relu(self.features(images)).mean((2, 3)) @ self.weights.T


class Squares(MaskedDataset):
    """A red or green square (the object) and a blue one on gray; even pictures are red."""

    name, split, classes, normalization = "squares", "test", CLASSES, HALF

    def __len__(self):
        return PICTURES

    def __getitem__(self, index):
        pixels, mask = torch.full((3, SIDE, SIDE), 0.5), torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
        mask[:, 24:48, 8:32] = True
        pixels[:, mask[0]] = torch.eye(3)[index % 2].view(3, 1).expand(-1, 576)
        blue = 4 + index  # larger from picture to picture
        pixels[:, 2 : 2 + blue, 40 : 40 + blue] = torch.eye(3)[2].view(3, 1, 1)
        label = index % 2 if index != WRONG else 0
        nothing = torch.zeros_like(mask)
        return MaskedSample(image=HALF(pixels), mask=mask, label=label, id=f"<i>{index}", group=-1, undefined=nothing)


def network(name, blue):
    eye = Eye(Colors(blue).eval(), torch.device("cpu"), HALF, SIDE)
    return Network(name=name, eye=eye, classes=CLASSES)


def bench(folder, **changes):
    """A workbench with a network that takes the shortcut and one that does not."""
    given = {"networks": (network("before", 0.5), network("after", 0.0)), "data": Squares(), "out_dir": folder}
    return Workbench(**(given | changes))
