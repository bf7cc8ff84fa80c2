"""A model that sees the cells of a grid of images one by one: explanations of it that lie elsewhere are wrong."""

from typing import Any

from torch import Tensor, nn

from sibx._checks import check_integer, require
from sibx.models.finding import resolve_layer
from sibx.models.layers import module_of, name_of
from sibx.models.scored import unwrap


class CellsApart(nn.Module):
    """A classifier of single images that reads a grid of N x N images cell by cell: one score per cell and class.

    What lies in one cell cannot change the scores of another, so the whole of an explanation belongs into the cell of
    the score that it explains. ``GridDataset(data, apart=True)`` has the labels.

    Args:
        model: the classifier, images (B, C, H, W) -> logits (B, K).
        side: number N of cells along a side, at least 2.
        layer: layer that CAM methods look at, its name or the module; None = ``find_cam_layer``. Its maps of the cells
            are laid out as those of one large image, in the module ``cells``, which is the layer to name, with
            ``align="half_pixel"``: no unit looks beyond its cell. Where they are tokens (a transformer) there is no
            such layer: other methods than CAMs explain.

    Raises:
        ValueError: a model that is no module, ``side`` below 2, an unknown layer, or, in the forward pass, images that
            cannot be cut into N x N cells, or a model with a single logit.

    Source: DiFull of Rao et al., arXiv 2205.10435.

    Example:
        >>> model = CellsApart(build_model("tiny_cnn", num_classes=5))
        >>> images = torch.rand(2, 3, 64, 64)
        >>> model(images).shape  # four cells of five classes
        torch.Size([2, 20])
        >>> heatmaps = explain(model, images, "saliency", target=2 * 5 + 3)  # class 3 in the third cell, bottom left
        >>> heatmaps[:, :, :32].max(), heatmaps[..., 32:].max()  # above it, and to the right
        (tensor(0.), tensor(0.))
    """

    def __init__(self, model: nn.Module, side: int = 2, layer: nn.Module | str | None = None):
        super().__init__()
        require(isinstance(model, nn.Module), "model", "be a torch.nn.Module", model)
        check_integer("side", side, 2)
        self.model, self.side, self.cells = model, side, nn.Identity()
        self.layer = name_of(unwrap(model), module_of(resolve_layer(model, layer)))
        require(self.layer is not None, "layer", "be a module of the model", layer)

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores (B, N^2 K) of grids (B, C, N H, N W), in the order of cells (row by row) and classes."""
        fits = all(length % self.side == 0 for length in images.shape[2:])
        require(fits, "images", f"have sides that are multiples of {self.side}", images)
        # A name and a hook for one pass: the model stays as it is, and copies of it have a layer of their own.
        layer = unwrap(self.model).get_submodule(str(self.layer))
        handle = layer.register_forward_hook(self._lay_out)
        try:
            logits: Tensor = self.model(self._cut(images))
        finally:
            handle.remove()
        require(logits.shape[1] > 1, "model", "have a score for every class, two or more", tuple(logits.shape))
        return logits.reshape(len(images), -1)

    def _lay_out(self, _: nn.Module, __: Any, maps: Tensor) -> Tensor:
        """Show the maps of all cells as one to whoever looks at ``cells``; tokens are no maps, and stay."""
        return self._cut(self.cells(self._join(maps))) if maps.ndim == 4 else maps

    def _cut(self, images: Tensor) -> Tensor:
        """(B, C, N H, N W) -> (B N^2, C, H, W)."""
        rows = images.unflatten(3, (self.side, -1)).unflatten(2, (self.side, -1))  # (B, C, N, H, N, W)
        return rows.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    def _join(self, cells: Tensor) -> Tensor:
        """(B N^2, C, H, W) -> (B, C, N H, N W)."""
        rows = cells.unflatten(0, (-1, self.side, self.side))  # (B, N, N, C, H, W)
        return rows.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
