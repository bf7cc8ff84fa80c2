"""Images and their maps, looked at in a notebook."""

from collections.abc import Iterable, Mapping

from matplotlib.figure import Figure
from torch import Tensor

from sibx._checks import check_images, check_masks, check_same_batch, require
from sibx.attribution import to_heatmap
from sibx.images import Normalization
from sibx.report.sheet_rows import SheetRow, draw_rows

MOST = 20  # rows; more belong into a file, or on pages


def show(
    images: Tensor,
    heatmaps: Tensor | Mapping[str, Tensor],
    *,
    masks: Tensor | None = None,
    titles: Iterable[object] | None = None,
    normalization: Normalization | None = None,
) -> Figure:
    """Show images and what heatmaps or attributions say about them: a row per image, each map over the image.

    Every map has its own scale, to the 99.5 % quantile of its size: from 0 up, or around 0, in two colors, where it is
    negative anywhere. An undefined map (zero everywhere or not finite) is left blank and says so.

    Args:
        images: images (B, C, H, W), B at most 20, or a single one (C, H, W): in [0, 1], or as the model takes them.
        heatmaps: title -> maps (B, 1, h, w), or attributions (B, C, h, w), whose channels are added up, of any size;
            or such a tensor alone.
        masks: masks (B, 1, H, W) bool, whose outlines are drawn; None = no outlines.
        titles: what stands over the images, B texts or numbers; None = nothing.
        normalization: the normalization of the images, ``about(model).normalization``; None = they are in [0, 1].

    Returns:
        A matplotlib Figure, which a notebook shows as the last value of a cell; ``figure.savefig(path)`` writes it.

    Raises:
        ValueError: a wrong shape or dtype, too many images, or images outside [0, 1] without a normalization.

    Example:
        >>> model, images = build_model("tiny_cnn", num_classes=5), torch.rand(2, 3, 32, 32)
        >>> maps = {name: explain(model, images, name) for name in ("sib", "gradcam")}
        >>> figure = show(images, maps, titles=["first", "second"])
        >>> len(figure.axes)
        6
    """
    images = images[None] if isinstance(images, Tensor) and images.ndim == 3 else images
    check_images(images)
    require(len(images) > 0, "images", "be at least one", len(images))
    require(len(images) <= MOST, "images", f"be at most {MOST}", len(images))
    named = heatmaps if isinstance(heatmaps, Mapping) else {"": heatmaps}
    columns = {str(title): _map(f"heatmaps[{title!r}]", maps, images) for title, maps in named.items()}
    if masks is not None:
        check_masks(masks, images)
    given = [""] * len(images) if titles is None else titles.tolist() if isinstance(titles, Tensor) else titles
    texts = [str(title) for title in given]
    require(len(texts) == len(images), "titles", f"be {len(images)}, one per image", texts)
    pixels = images.detach() if normalization is None else normalization.inverse(images.detach()).clamp(0, 1)
    low, high = float(pixels.min()), float(pixels.max())
    require(0 <= low <= high <= 1, "images", "lie in [0, 1], or come with their normalization", (low, high))
    return draw_rows(
        [
            SheetRow(
                name="",
                pixels=pixels[i : i + 1],
                title=texts[i],
                heatmaps={title: maps[i : i + 1] for title, maps in columns.items()},
                mask=None if masks is None else masks[i : i + 1],
            )
            for i in range(len(images))
        ]
    )


def _map(argument: str, maps: Tensor, images: Tensor) -> Tensor:
    """Return maps with one channel, at the size of the images."""
    check_images(maps, argument)
    check_same_batch(images, **{argument: maps})
    return to_heatmap(maps.detach(), (images.shape[2], images.shape[3]), "sum")
