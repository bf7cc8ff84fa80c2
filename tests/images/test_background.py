"""Backgrounds taken away and exchanged: against their slow forms, and what must not be seen."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sibx.images.backgrounds import BACKGROUNDS, bounding_boxes, choose_donors, inpaint, take_apart, takes_part, tile
from tests.references import background as reference


def random_case(seed, batch=3, size=20, share=0.01):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(batch, 3, size, size, generator=generator, dtype=torch.float64)
    masks, undefined = (torch.rand(batch, 1, size, size, generator=generator) < share for _ in range(2))
    masks[:, :, 7:10, 5:9] = True
    return pixels, masks, undefined


# Images


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([16, 20, 112, 224]))
def test_holes_are_the_definition(seed, size):
    """2 px at 224: 0 at 16 and 20 px, 1 at 112 px."""
    window = slice(0, 24)
    pixels, masks, undefined = random_case(seed, batch=2, size=size)
    scenes = take_apart(pixels, masks, undefined)
    assert torch.equal(scenes.objects, masks & ~undefined)
    cut = [t[:, 0, window, window].numpy() for t in (masks, undefined)]
    for row, (mask, maybe) in enumerate(zip(*cut, strict=True)):
        expected = reference.hole(mask, maybe, round(2 * size / 224))
        inner = slice(0, 20)  # the window's last rows do not see what lies beyond
        assert np.array_equal(scenes.holes[row, 0, inner, inner].numpy(), expected[inner, inner])
    assert torch.equal(take_apart(pixels, masks).objects, masks)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.005, 0.02]))
def test_boxes_and_tiles_are_the_definition(seed, share):
    pixels, masks, _ = random_case(seed, share=share)
    boxes = bounding_boxes(masks)
    tiled = tile(pixels, boxes)
    for row in range(3):
        expected = reference.box(masks[row, 0].numpy())
        assert np.array_equal(boxes[row, 0].numpy(), expected)
        if not (expected.any(0).all() and expected.any(1).all()):
            assert np.array_equal(tiled[row].numpy(), reference.tile(pixels[row].numpy(), expected))


@pytest.mark.parametrize("box", [(6, 10, 0, 20), (0, 20, 6, 10), (4, 16, 4, 16), (4, 15, 3, 16), (0, 7, 13, 20)])
def test_tiles_of_equal_margins(box):
    top, bottom, left, right = box
    masks = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    masks[..., top:bottom, left:right] = True
    pixels = random_case(0, batch=1)[0]
    assert np.array_equal(tile(pixels, masks)[0].numpy(), reference.tile(pixels[0].numpy(), masks[0, 0].numpy()))


def test_nothing_and_everything_to_fill():
    pixels, masks, _ = random_case(1)
    masks[0], masks[1] = False, True
    for fill in (lambda: tile(pixels, bounding_boxes(masks)), lambda: inpaint(pixels, masks)):
        filled = fill()
        assert torch.equal(filled[0], pixels[0])
        assert filled[1].isnan().all()
        assert filled[2].isfinite().all()
    assert tile(pixels[:0], masks[:0]).shape == inpaint(pixels[:0], masks[:0]).shape == (0, 3, 20, 20)


def test_inpainting_continues_the_surroundings():
    """A flat image stays nearly flat (it rounds at every step), a ramp roughly a ramp; the rest keeps its bits."""
    masks = torch.zeros(2, 1, 48, 48, dtype=torch.bool)
    masks[:, :, 16:32, 16:32] = True
    pixels = torch.full((2, 3, 48, 48), 51 / 255, dtype=torch.float64)
    pixels[1] = torch.linspace(0, 1, 48, dtype=torch.float64)
    hidden = torch.where(masks, torch.rand_like(pixels), pixels)
    filled = inpaint(hidden, masks)
    assert torch.equal(filled.masked_fill(masks, 0), hidden.masked_fill(masks, 0))
    assert (filled[0] - pixels[0]).abs().max() < 6 / 255
    assert (filled[1] - pixels[1]).abs().max() < 0.15
    assert torch.equal(filled, inpaint(pixels, masks))
    assert torch.equal(filled[1:], inpaint(hidden[1:], masks[1:]))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_conditions_are_the_definition(seed):
    pixels, masks, undefined = random_case(seed, size=24)
    other = random_case(seed + 1, size=24)[0]
    scenes = take_apart(pixels, masks, undefined)
    black = np.zeros((3, 24, 24))
    for row in range(3):
        image, mask, blank = pixels[row].numpy(), masks[row, 0].numpy(), undefined[row, 0].numpy()
        sure, hole = mask & ~blank, reference.hole(mask, blank, 0)
        boxed = reference.box(hole)
        expected = {
            "only_fg": reference.mix(image, sure, black),
            "no_fg": reference.mix(black, hole, image),
            "only_bg_b": reference.mix(black, boxed, image),
            "mixed_rand": reference.mix(image, sure, other[row].numpy()),
        }
        if not (boxed.any(0).all() and boxed.any(1).all()):
            expected["only_bg_t"] = reference.tile(image, boxed)
        for name, wanted in expected.items():
            assert np.array_equal(BACKGROUNDS[name].compose(scenes, other)[row].numpy(), wanted), name
    assert torch.equal(BACKGROUNDS["only_bg_i"].compose(scenes, other), inpaint(pixels, scenes.holes))


def test_undefined_pixels_are_never_shown():
    """Whatever they hold, no composed image depends on it."""
    pixels, masks, _ = random_case(2, size=64, share=0)
    undefined = torch.zeros_like(masks)
    undefined[:, :, 5:12, 3:7] = True
    loud = torch.where(undefined, torch.ones_like(pixels), pixels)
    for spec in BACKGROUNDS.values():
        quiet, other = (take_apart(p, masks, undefined) for p in (pixels, loud))
        lent = [inpaint(s.pixels, s.holes) for s in (quiet, other)]
        assert torch.equal(spec.compose(quiet, lent[0]), spec.compose(other, lent[1])), spec.name


def test_who_takes_part():
    """No object, object only, nothing but undefined pixels, a box of 90 % and one of more, a small object."""
    masks = torch.zeros(6, 1, 20, 20, dtype=torch.bool)
    undefined = torch.zeros_like(masks)
    masks[1] = True
    masks[2, :, :5] = undefined[2, :, :5] = True
    masks[3, :, :18] = True
    masks[4, :, 0, 0] = masks[4, :, 18, 19] = True
    masks[5, :, :5, :5] = True
    scenes = take_apart(torch.zeros(6, 3, 20, 20), masks, undefined)
    assert takes_part(scenes).tolist() == [False, False, False, True, True, True]
    assert takes_part(scenes, boxed=True).tolist() == [False, False, False, True, False, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, m: take_apart(x[0], m), "`pixels` must be a floating-point tensor of shape"),
        (lambda x, m: take_apart(x, m.double()), "`masks` must be a bool tensor"),
        (lambda x, m: take_apart(x, m, m[:1]), "`undefined` must be a bool tensor"),
        (lambda x, m: tile(x, m[:1]), "`boxes` must be a bool tensor"),
        (lambda x, m: inpaint(x.byte(), m), "`pixels` must be a floating-point tensor"),
        (lambda x, m: inpaint(x, m[:1]), "`holes` must be a bool tensor"),
    ],
)
def test_errors_of_images(call, message):
    pixels, masks, _ = random_case(0)
    with pytest.raises(ValueError, match=message):
        call(pixels, masks)


# Donors


LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 4])
USABLE = torch.tensor([1, 1, 1, 0, 1, 1, 1, 1, 1, 1], dtype=torch.bool)


@pytest.mark.parametrize("donor", ["same", "other", "next"])
def test_donors_are_drawn_uniformly(donor):
    """Classes first, then images: a large class lends no more than a small one. Class 3 has no images."""
    draws = torch.stack([choose_donors(LABELS, USABLE, donor, list(range(10 * s, 10 * s + 10)), 5) for s in range(400)])
    for i, label in enumerate(LABELS.tolist()):
        usable = {c: [j for j in range(10) if LABELS[j] == c and USABLE[j] and j != i] for c in range(5)}
        sources = {"same": [label], "next": [(label + 1) % 5], "other": [c for c in (0, 1, 2, 4) if c != label]}[donor]
        expected = {j: 1 / len(sources) / len(usable[c]) for c in sources for j in usable[c]} or {-1: 1.0}
        seen, counts = draws[:, i].unique(return_counts=True)
        assert set(seen.tolist()) == set(expected)
        for j, share in zip(seen.tolist(), (counts / 400).tolist(), strict=True):
            assert share == pytest.approx(expected[j], abs=0.1)  # 4 standard deviations or more


def test_a_choice_depends_on_its_own_seed():
    first = choose_donors(LABELS, USABLE, "other", list(range(10)), 5)
    assert torch.equal(choose_donors(LABELS, USABLE, "other", list(range(10)), 5), first)
    changed = choose_donors(LABELS, USABLE, "other", [99, *range(1, 10)], 5)
    assert torch.equal(changed[1:], first[1:])
    assert choose_donors(LABELS[:0], USABLE[:0], "same", [], 5).shape == (0,)
    assert choose_donors(LABELS * 0, USABLE, "other", list(range(10)), 1).tolist() == [-1] * 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"donor": "any"}, "`donor` must be one of same, other, next, but got 'any'"),
        ({"usable": USABLE[:3]}, "`usable` must have 10 rows"),
        ({"seeds": [1]}, "`seeds` must have 10 entries, one per image, but got 1"),
        ({"classes": 0}, "`classes` must be at least 1"),
    ],
)
def test_errors_of_donors(change, message):
    good = {"labels": LABELS, "usable": USABLE, "donor": "same", "seeds": list(range(10)), "classes": 5}
    with pytest.raises(ValueError, match=message):
        choose_donors(**{**good, **change})
