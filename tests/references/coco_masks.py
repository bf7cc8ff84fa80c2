"""COCO's mask format, slowly, from its description (https://cocodataset.org/#format-data); polygons point by point."""

import math


def run_lengths(mask):
    """Lengths of runs of 0 and 1 in turn, column after column, beginning with 0."""
    counts, last = [0], False
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            if bool(mask[y, x]) != last:
                counts.append(0)
                last = not last
            counts[-1] += 1
    return counts


def pack(counts):
    """Signed numbers in groups of five bits, lowest first; from the fourth on, differences to the last but one."""
    characters = []
    for place, count in enumerate(counts):
        number = count - counts[place - 2] if place > 2 else count
        while True:
            bits, number = number % 32, math.floor(number / 32)
            done = number == (-1 if bits >= 16 else 0)
            characters.append(chr(48 + bits + (0 if done else 32)))
            if done:
                break
    return "".join(characters)


def fill_polygon(corners, size):
    """A pixel is inside if a line from its center to the left crosses an odd number of edges."""
    return [[_inside(corners, x + 0.5, y + 0.5) for x in range(size[1])] for y in range(size[0])]


def _inside(corners, x, y):
    inside = False
    for (x0, y0), (x1, y1) in _edges(corners):
        if min(y0, y1) <= y < max(y0, y1) and x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x:
            inside = not inside
    return inside


def distance(corners, x, y):
    """Distance of a point to the outline."""
    shortest = math.inf
    for (x0, y0), (x1, y1) in _edges(corners):
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        share = min(max(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length, 0), 1)
        shortest = min(shortest, math.hypot(x0 + share * (x1 - x0) - x, y0 + share * (y1 - y0) - y))
    return shortest


def _edges(corners):
    corners = [tuple(map(float, corner)) for corner in corners]
    return zip(corners, corners[1:] + corners[:1], strict=True)
