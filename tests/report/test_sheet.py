"""One picture and what several methods say about it."""

import io

import pytest
import torch
from PIL import Image

from sibx.report import SheetRow, draw_rows, draw_sheet


def drawn(figure):
    stream = io.BytesIO()
    figure.savefig(stream, dpi=figure.dpi, format="png")
    return Image.open(stream)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (100, 700), (1200, 1600)])
@pytest.mark.parametrize("count", [1, 5, 7])
def test_cells_have_the_proportions_of_the_picture(height, width, count):
    figure = draw_sheet(
        torch.rand(1, 3, height, width), {f"m{i}": torch.rand(1, 1, height, width) for i in range(count)}
    )
    assert len(figure.axes) == 1 + count
    assert len({round(axes.get_position().x0, 6) for axes in figure.axes}) <= 5
    for axes in figure.axes:
        box = axes.get_window_extent()
        assert box.width / box.height == pytest.approx(width / height, rel=0.01)
        assert box.width * 1.01 > min(width, 1560 * width / max(width, height))  # a pixel for every pixel


def test_what_is_drawn_is_the_picture():
    pixels = torch.zeros(1, 3, 520, 520)
    pixels[:, 0, :260] = 1  # the upper half is red
    figure = draw_sheet(pixels, {"map": torch.rand(1, 1, 520, 520)}, "7 cat (0.9)")
    assert [axes.get_title() for axes in figure.axes] == ["7 cat (0.9)", "map"]
    box = figure.axes[0].get_window_extent()
    picture = drawn(figure).convert("RGB")
    x = round(box.x0 + box.width / 2)
    assert picture.getpixel((x, round(picture.height - box.y1 + box.height / 4))) == (255, 0, 0)
    assert picture.getpixel((x, round(picture.height - box.y1 + box.height * 3 / 4))) == (0, 0, 0)


def test_the_mask_is_outlined():
    mask = torch.zeros(1, 1, 60, 80, dtype=torch.bool)
    mask[..., 10:30, 20:50] = True
    figure = draw_sheet(torch.rand(1, 3, 60, 80), {"map": torch.rand(1, 1, 60, 80)}, mask=mask)
    assert all(len(axes.lines) == 1 for axes in figure.axes)


def test_undefined_maps_say_so():
    figure = draw_sheet(torch.rand(1, 3, 60, 80), {"zero": torch.zeros(1, 1, 60, 80)})
    assert figure.axes[1].texts[0].get_text() == "undefined"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heatmaps": {"a": torch.rand(1, 3, 60, 80)}}, r"`heatmaps\['a'\]` must be a floating-point"),
        ({"heatmaps": {"a": torch.rand(2, 1, 60, 80)}}, "must"),
        ({"heatmaps": {}, "mask": torch.zeros(1, 1, 60, 70, dtype=torch.bool)}, "`mask` must"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        draw_sheet(torch.rand(1, 3, 60, 80), **options)


def test_rows_of_several_pictures():
    """Each in its proportions; text that is too long loses its middle, and a missing map leaves its cell empty."""
    wide, high = torch.rand(1, 3, 60, 120), torch.rand(1, 3, 900, 600)
    maps = {"Saliency": torch.rand(1, 1, 60, 120), "Grad-CAM": torch.rand(1, 1, 60, 120)}
    rows = [
        SheetRow("folder/" + 40 * "x" + "/picture\nbefore", wide, "12 " + 60 * "y" + " (0.912)", maps),
        SheetRow("b", high, "13 (0.5)", {"Grad-CAM": torch.rand(1, 1, 900, 600)}).smaller(300),
    ]
    assert rows[1].pixels.shape == rows[1].heatmaps["Grad-CAM"].repeat(1, 3, 1, 1).shape == (1, 3, 300, 200)
    assert rows[0].smaller(300) is rows[0]
    figure = draw_rows(rows)
    cells = [figure.axes[:3], figure.axes[3:]]
    assert [len(axes.images) for row in cells for axes in row] == [1, 2, 2, 1, 0, 2]
    for row, proportions in zip(cells, (2, 2 / 3), strict=True):
        for axes in row:
            box = axes.get_window_extent()
            assert box.width / box.height == pytest.approx(proportions, rel=0.01)
    (name, model), title = cells[0][0].get_ylabel().split("\n"), cells[0][0].get_title()
    assert name.startswith("folder/")
    assert name.endswith("picture")
    assert model == "before"
    assert title.startswith("12 y")
    assert title.endswith("y (0.912)")
    assert "…" in name
    assert "…" in title
    with pytest.raises(ValueError, match="`rows` must hold at least one"):
        draw_rows([])
    with pytest.raises(ValueError, match=r"`heatmaps\['a'\]` must be a floating-point"):
        draw_rows([SheetRow("", wide, "", {"a": torch.rand(1, 3, 60, 120)})])
