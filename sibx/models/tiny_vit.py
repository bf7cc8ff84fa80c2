"""A small vision transformer that trains in minutes on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sibx._checks import check_choice, require


class TinyViT(nn.Module):
    """A vision transformer with a class token; 147k parameters at width 64.

    Positions are sines and cosines of the patch's row and column, so that images may have any size that is a multiple
    of the patch.

    Args:
        num_classes: number of classes K.
        width: length of a token, a multiple of 4 and of the number of heads.
        depth: number of blocks.
        heads: number of attention heads.
        patch: side of a patch in pixels.
        activation: which nonlinearity: ``"gelu"``, or ``"relu"`` (for methods that need ReLU modules).

    Input (B, 3, H, W) with H and W multiples of the patch; output logits (B, K). The token grid is (H/patch, W/patch).

    Raises:
        ValueError: an unknown activation, or a width that is no such multiple.
    """

    def __init__(
        self,
        num_classes: int = 8,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        patch: int = 8,
        activation: str = "gelu",
    ):
        super().__init__()
        check_choice("activation", activation, ("gelu", "relu"))
        require(width % 4 == width % heads == 0, "width", f"be a multiple of 4 and of {heads} heads", width)
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.Sequential(*(_Block(width, heads, activation) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K)."""
        patches = self.embed(images)  # (B, D, h, w)
        tokens = (patches + _places(patches)).flatten(2).transpose(1, 2)
        tokens = self.blocks(torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1))
        logits: Tensor = self.classifier(self.norm(tokens)[:, 0])
        return logits


class _Block(nn.Module):
    """Attention, then a layer of twice the width, each added to what came in."""

    def __init__(self, width: int, heads: int, activation: str):
        super().__init__()
        self.norm_1, self.attend, self.norm_2 = nn.LayerNorm(width), _Attention(width, heads), nn.LayerNorm(width)
        middle = nn.GELU() if activation == "gelu" else nn.ReLU()
        self.mix = nn.Sequential(nn.Linear(width, 2 * width), middle, nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, N, D)."""
        tokens = tokens + self.attend(self.norm_1(tokens))
        mixed: Tensor = tokens + self.mix(self.norm_2(tokens))
        return mixed


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.enter, self.leave = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what tokens (B, N, D) get from each other."""
        parts = self.enter(tokens).unflatten(2, (3, self.heads, -1))  # (B, N, 3, heads, D / heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended: Tensor = self.leave(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return attended


def _places(patches: Tensor) -> Tensor:
    """Return sines and cosines (D, h, w) of the places of patches (B, D, h, w)."""
    width, height, breadth = patches.shape[1:]
    waves = 100 ** -torch.linspace(0, 1, width // 4, device=patches.device)  # from 1 radian per patch to 1/100
    rows, columns = (torch.arange(n, device=patches.device).outer(waves) for n in (height, breadth))
    down, across = rows.T[:, :, None].expand(-1, -1, breadth), columns.T[:, None].expand(-1, height, -1)
    return torch.cat([down.sin(), down.cos(), across.sin(), across.cos()]).to(patches)
