"""What the page is told: maps as JSON for the viewer, predictions and thumbnails as HTML with names escaped."""

import base64
import json
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from markupsafe import Markup
from matplotlib import colormaps
from torch import Tensor

from sibx.app._opinions import Opinion, Why
from sibx.app._picked import UNKNOWN, Picture, shown
from sibx.report.maps import Scale, shared_scale

SMALL = 128 * 128  # pixels of a picture up to which every one of them is kept
QUALITY = 95  # of the JPEG of a larger one
THUMBNAIL = 96  # pixels of its longer side
FULL = 65535  # a map's largest value, as the page is told it
TOP = 5  # classes that are named
SERIAL = count(1)


def picture_uri(pixels: Tensor) -> str:
    """Return a picture (C, H, W) in [0, 1] as an address that holds all of it."""
    colors = cv2.cvtColor(shown(pixels).numpy(), cv2.COLOR_RGB2BGR)
    kind, options = ("png", []) if colors[..., 0].size <= SMALL else ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    _, code = cv2.imencode(f".{kind}", colors, options)
    return f"data:image/{kind};base64,{base64.b64encode(code.tobytes()).decode()}"


def thumbnail_uri(pixels: Tensor) -> str:
    """Return a small picture as an address that holds all of it."""
    height, width = pixels.shape[1:]
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = [max(1, round(side * scale)) for side in (height, width)]
    small = torch.nn.functional.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]
    return picture_uri(small)


def viewer_json(pixels: Tensor, uri: str, rows: Sequence[tuple[str, Sequence[Why]]]) -> str:
    """Return what the viewer draws: rows of maps over the picture, all on one scale.

    Args:
        pixels: the picture (C, H, W).
        uri: the picture as an address.
        rows: title and maps of every row.
    """
    maps = [why.values for _, whys in rows for why in whys if why.values is not None]
    scale = shared_scale(maps, signed=False)
    colors = _colors(scale)
    told = {
        "serial": next(SERIAL),
        "picture": uri,
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "scale": {
            "high": scale.high,
            "colors": base64.b64encode(colors.tobytes()).decode(),
            "stops": [f"rgb({r},{g},{b})" for r, g, b, _ in colors[::51].tolist()],
        },
        "rows": [{"title": title, "cells": [_cell(why) for why in whys]} for title, whys in rows],
    }
    return json.dumps(told)


def _colors(scale: Scale) -> np.ndarray:
    """Return the colors from the scale's low end to its high one, (256, 4) bytes: red, green, blue and opaque."""
    return np.round(colormaps[scale.colormap](np.linspace(0, 1, 256)) * 255).astype(np.uint8)


def _cell(why: Why) -> dict[str, Any]:
    """Return a map as integers from 0 to its largest value."""
    if why.values is None:
        return {"title": why.title, "problem": why.problem}
    high = float(why.values.max()) or 1.0
    codes = np.round(why.values / high * FULL).astype("<u2")
    return {
        "title": why.title,
        "problem": "",
        "height": codes.shape[0],
        "width": codes.shape[1],
        "high": high,
        "data": base64.b64encode(codes.tobytes()).decode(),
    }


def predictions_html(picture: Picture, opinions: Sequence[Opinion], label: int) -> str:
    """Return the most probable classes of every network, with bars.

    Args:
        picture: the picture.
        opinions: what the networks say about it.
        label: the picture's class, -1 where it is unknown.
    """
    parts = [Markup("<h3>{}</h3>").format(picture.name)]
    for opinion in opinions:
        top = opinion.rates.topk(min(TOP, len(opinion.rates)))
        lines = Markup("").join(
            _line(opinion.network.label(i), rate, right=i == label)
            for rate, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        )
        parts.append(Markup("<table><caption>{}</caption>{}</table>").format(opinion.network.name, lines))
    if label != UNKNOWN:
        parts.append(Markup("<p>labeled {}</p>").format(opinions[0].network.label(label)))
    return str(Markup("").join(parts))


def _line(name: str, rate: float, *, right: bool) -> Markup:
    bar = Markup('<i style="width:{:.1f}%"></i>').format(100 * min(1.0, max(0.0, rate)))
    mark = Markup(" <b>✓</b>") if right else ""
    return Markup("<tr><th>{}{}</th><td>{:.1%}</td><td>{}</td></tr>").format(name, mark, rate, bar)


def erased_html(opinions: Sequence[Opinion], found: Sequence[tuple[Tensor, Tensor]], target: int) -> str:
    """Return what erasing changed: the picture without the pixels, and the probability before and after.

    Args:
        opinions: what the networks said about the whole picture.
        found: changed picture and probabilities of every network.
        target: the class that is followed.
    """
    parts = []
    for opinion, (part, rates) in zip(opinions, found, strict=True):
        before, after, now = float(opinion.rates[target]), float(rates[target]), int(rates.argmax())
        parts.append(
            Markup(
                '<figure data-before="{before:.6f}" data-after="{after:.6f}"><img src="{uri}" alt="without the pixels">'
                "<figcaption>{name}: <b>{label}</b> {before:.1%} → <b>{after:.1%}</b>{other}</figcaption></figure>"
            ).format(
                uri=picture_uri(part),
                name=opinion.network.name,
                label=opinion.network.label(target),
                before=before,
                after=after,
                other="" if now == target else f"; now {opinion.network.label(now)} ({float(rates[now]):.1%})",
            )
        )
    return str(Markup("").join(parts))


class Thumbnail(NamedTuple):
    """A small picture: its name, pixels (C, H, W) or None where it cannot be read, and the line below it."""

    name: str
    pixels: Tensor | None
    note: str


def thumbnails_html(thumbnails: Mapping[int, Thumbnail]) -> str:
    """Return small pictures as buttons; the button's ``data-place`` is the picture's number."""
    button = Markup('<button type="button" data-place="{}" title="{}">{}<span>{}</span></button>')
    image = Markup('<img src="{}" alt="{}">')
    lines = (
        button.format(place, t.name, "" if t.pixels is None else image.format(thumbnail_uri(t.pixels), t.name), t.note)
        for place, t in thumbnails.items()
    )
    return str(Markup("").join(lines))


def problem_html(message: str) -> str:
    """Return what went wrong as a paragraph, "" where nothing did."""
    return str(Markup('<p role="alert">{}</p>').format(message)) if message else ""
