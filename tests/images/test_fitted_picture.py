"""Pictures of any size, as a network sees them and back."""

import pytest
import torch

from sibx.images import fit_picture


def spotted(height, width, top, left):
    """A black picture with a white square of 20 px, and the square as a mask."""
    picture = torch.zeros(3, height, width)
    picture[:, top : top + 20, left : left + 20] = 1
    return picture


@pytest.mark.parametrize("fit", ["whole", "pad", "crop", "own"])
@pytest.mark.parametrize(("height", "width"), [(200, 300), (300, 200), (64, 64), (40, 60), (129, 257)])
def test_a_map_comes_back_to_the_place_it_speaks_of(height, width, fit):
    """The map that is the picture as seen, drawn at the picture's size, is the picture but for the blur."""
    seen = fit_picture(spotted(height, width, height // 2 - 10, width // 2 - 10), 64, fit)
    back = seen.back(seen.pixels[None, :1])[0, 0]
    assert back.shape == seen.shown.shape[1:]
    assert (back - seen.shown[0]).abs().mean() < 0.02
    rows, columns = torch.where(back > 0.5)
    rows_shown, columns_shown = torch.where(seen.shown[0] > 0.5)
    assert abs(rows.float().mean() - rows_shown.float().mean()) < 1
    assert abs(columns.float().mean() - columns_shown.float().mean()) < 1


@pytest.mark.parametrize(
    ("fit", "seen", "shown"),
    [
        ("whole", (64, 128), (100, 200)),
        ("pad", (64, 64), (100, 200)),
        ("crop", (64, 64), (100, 100)),
        ("own", (100, 200), (100, 200)),
    ],
)
def test_what_the_network_sees(fit, seen, shown):
    fitted = fit_picture(torch.rand(3, 100, 200), 64, fit)
    assert fitted.pixels.shape[1:] == seen
    assert fitted.shown.shape[1:] == shown


def test_padding_has_the_color_that_says_the_least():
    fitted = fit_picture(torch.ones(3, 10, 20), 64, "pad", fill=(0.1, 0.2, 0.3))
    assert fitted.box == (16, 0, 32, 64)
    assert torch.equal(fitted.pixels[:, 0, 0], torch.tensor((0.1, 0.2, 0.3)))
    assert fitted.pixels[:, 16:48].min() > 0.99


def test_a_small_picture_is_drawn_as_the_network_sees_it():
    """Or its maps would be made coarser than they are."""
    assert fit_picture(torch.rand(3, 20, 30), 64).shown.shape == (3, 64, 96)


@pytest.mark.parametrize("size", [(5000, 1), (1, 5000), (9000, 2000)])
def test_a_strip_needs_no_memory(size):
    """Its shorter side is not made as long as the network's size."""
    assert fit_picture(torch.rand(3, *size), 224).pixels.shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.rand(3, 8, 8), 0), "`size` must be at least 1"),
        ((torch.rand(8, 8), 64), r"`pixels` must have the shape \(C, H, W\)"),
        ((torch.rand(3, 0, 8), 64), r"`pixels` must have the shape \(C, H, W\)"),
        ((torch.rand(3, 8, 8), 64, "fill"), "`fit` must be one of whole, pad, crop, own"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_picture(*arguments)


def test_maps_of_something_else_are_refused():
    with pytest.raises(ValueError, match="`heatmaps` must have the size of pixels"):
        fit_picture(torch.rand(3, 40, 80), 64).back(torch.rand(1, 1, 64, 64))
