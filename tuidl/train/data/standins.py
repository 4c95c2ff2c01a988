"""Built-in data sets, drawn or collected on the spot: for where there is no network, and for quick tests.

The pictures depend on the seed only. On another processor or with another numpy a few pixels can differ by one grey
level, because `exp` and matrix products are rounded differently there; the sum in a run's origin tells.
"""

import ast
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuidl.errors import DataError

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Depth = NDArray[Any]  # floating point; numpy's typing loses which one

DOTS = 56  # soft dots along the strokes of one digit, close enough to run into each other

# Each way of writing a digit: strokes apart by ";", each the control points "x,y" of a smooth curve, with x to the
# right and y down, both within -100 ... 100. Some digits are written in two ways.
_DIGITS = (
    (0, "0,-100 -50,-70 -62,0 -50,70 0,100 50,70 62,0 50,-70 0,-100"),
    (1, "0,-100 0,0 0,100"),
    (1, "-35,-60 8,-100; 8,-100 5,0 3,100"),
    (2, "-55,-60 -20,-100 40,-90 50,-40 0,25 -60,95; -60,95 0,92 65,95"),
    (2, "-50,-75 10,-100 50,-60 10,20 -50,80 -45,45 0,75 60,95"),
    (3, "-50,-80 0,-100 48,-65 30,-15 -10,-5; -10,-5 45,10 58,55 10,100 -55,75"),
    (4, "-30,-95 -50,-20 -60,20; -60,20 0,15 65,10; 35,-70 30,20 25,100"),
    (4, "30,-100 -20,-35 -65,30; -65,30 0,30 65,30; 30,-100 30,0 30,100"),
    (5, "55,-95 0,-97 -42,-92; -42,-92 -48,-50 -50,-15; -50,-15 10,-30 55,15 40,80 -10,100 -60,75"),
    (6, "40,-95 -20,-60 -55,15 -40,80 10,100 52,60 30,10 -15,10 -50,50"),
    (7, "-60,-90 0,-92 60,-90; 60,-90 15,0 -20,100"),
    (7, "-60,-85 0,-92 60,-90; 60,-90 15,0 -10,100; -30,5 10,0 50,0"),
    (8, "5,-5 -45,-50 0,-100 45,-55 0,-5 -52,50 0,100 55,50 5,-5"),
    (9, "50,-50 10,-100 -45,-65 -30,-10 20,-10 50,-50; 50,-60 45,20 10,100"),
    (9, "45,-75 0,-100 -45,-60 -20,-15 30,-30 48,-70; 48,-70 50,20 20,85 -40,90"),
)


def _strokes(way: str) -> list[Floats]:
    """Return the strokes of one way of writing as control points [points, (x, y)] within -1 ... 1."""
    return [
        np.array([point.split(",") for point in stroke.split()], np.float32) / np.float32(100)
        for stroke in way.split(";")
    ]


def balanced_labels(count: int, classes: int, rng: np.random.Generator) -> Ints:
    """Return `count` classes [count] in random order, each as often as the others (give or take one)."""
    return rng.permutation(np.arange(count, dtype=np.int64) % classes)


def drawn_digits(count: int, seed: int) -> tuple[Bytes, Ints]:
    """Draw `count` digits; return images [count, 1, 28, 28] (ink is 255) and their classes [count].

    A stroke is a row of soft round dots along a Catmull-Rom curve whose control points are moved at random. A round
    Gaussian dot is the product of one in x and one in y, so an image is the product of two small matrices.
    """
    rng = np.random.default_rng(seed)
    labels = balanced_labels(count, 10, rng)
    images = np.zeros((count, 1, 28, 28), np.uint8)
    choice = rng.integers(0, 2, count)  # decides which of its ways each digit is written in
    for number in range(10):
        ways = [_strokes(way) for digit, way in _DIGITS if digit == number]
        for way, strokes in enumerate(ways):
            chosen = np.flatnonzero((labels == number) & (choice % len(ways) == way))
            for part in np.array_split(chosen, len(chosen) // 1024 + 1):
                images[part, 0] = _draw_strokes(strokes, len(part), rng)
    return images, labels


def _draw_strokes(strokes: list[Floats], count: int, rng: np.random.Generator) -> Bytes:
    """Return `count` different drawings [count, 28, 28] of one way to write a digit."""
    lengths = [float(np.linalg.norm(np.diff(stroke, axis=0), axis=1).sum()) for stroke in strokes]
    dots = []
    for stroke, length in zip(strokes, lengths, strict=True):
        control = stroke + rng.normal(0, 0.09, (count, len(stroke), 2)).astype(np.float32)
        dots.append(_curve(len(stroke), max(2, round(DOTS * length / sum(lengths)))) @ control)
    points = np.concatenate(dots, axis=1)  # [count, dots, (x, y)]
    points = points @ _random_affine(count, rng) * 9.2 + rng.normal(13.5, 1.3, (count, 1, 2)).astype(np.float32)

    width = rng.uniform(0.55, 1.25, (count, 1, 1)).astype(np.float32)  # standard deviation of a dot in pixels
    place = np.arange(28, dtype=np.float32)
    across = np.exp(-((points[:, :, :1] - place) ** 2) / (2 * width**2))  # [count, dots, 28]
    down = np.exp(-((points[:, :, 1:] - place) ** 2) / (2 * width**2))
    spacing = 9.2 * sum(lengths) / DOTS
    dotted = down.transpose(0, 2, 1) @ across  # [count, 28, 28], the sum of all dots
    ink = np.minimum(dotted * (0.6 * spacing / width), 1)
    ink = ink * rng.uniform(0.7, 1, (count, 1, 1)) + rng.normal(0, 0.06, ink.shape)
    return np.asarray(np.clip(ink * 255, 0, 255), np.uint8)


def _curve(controls: int, dots: int) -> Floats:
    """Return the matrix [dots, controls] that takes control points to dots on their Catmull-Rom curve.

    Between the points b and c, with the neighbours a and d and s from 0 to 1, the curve is
    (2b + (c - a)s + (2a - 5b + 4c - d)s^2 + (3b - a - 3c + d)s^3) / 2 (Catmull and Rom, 1974).
    """
    time = np.linspace(0, controls - 1, dots)
    start = np.minimum(time.astype(int), controls - 2)
    s = time - start
    weights = (-s + 2 * s**2 - s**3, 2 - 5 * s**2 + 3 * s**3, s + 4 * s**2 - 3 * s**3, s**3 - s**2)
    matrix = np.zeros((dots, controls), np.float32)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        np.add.at(matrix, (np.arange(dots), np.clip(start + offset, 0, controls - 1)), weight / 2)
    return matrix


def _random_affine(count: int, rng: np.random.Generator) -> Floats:
    """Return matrices [count, 2, 2] for row vectors (x, y): stretched, slanted and turned at random."""
    angle, slant = rng.normal(0, 0.17, count), rng.normal(0, 0.22, count)
    wide, high = rng.uniform(0.7, 1.1, count), rng.uniform(0.75, 1.05, count)
    cos, sin = np.cos(angle), np.sin(angle)
    # (x, y) -> (wide x - slant y, high y), then turned
    return np.stack(
        [np.stack([wide * cos, wide * sin], -1), np.stack([-slant * cos - high * sin, -slant * sin + high * cos], -1)],
        -2,
    ).astype(np.float32)


def drawn_shapes(count: int, seed: int) -> tuple[Bytes, Ints]:
    """Draw `count` coloured shapes; return images [count, 3, 32, 32] and their classes [count].

    Place, size, angle and both colours are random, the ground is wavy and noisy and carries lines that mean nothing.
    The same pixel is bright in one image of a class and dark in the next: a network must look for edges.
    """
    rng = np.random.default_rng(seed)
    labels = balanced_labels(count, 10, rng)
    images = np.zeros((count, 3, 32, 32), np.uint8)
    for part in np.array_split(np.arange(count), count // 512 + 1):
        images[part] = _draw_shapes(labels[part], rng)
    return images, labels


def _draw_shapes(labels: Ints, rng: np.random.Generator) -> Bytes:
    """Return one image [N, 3, 32, 32] for each of the classes [N]."""
    count = len(labels)

    def uniform(low: float, high: float, *shape: int) -> Floats:
        return rng.uniform(low, high, (count, *shape)).astype(np.float32)

    y, x = np.meshgrid(np.arange(32, dtype=np.float32), np.arange(32, dtype=np.float32), indexing="ij")
    ground, colour = uniform(0.1, 0.9, 3, 1, 1), uniform(0, 1, 3, 1, 1)
    # A shape in the colour of its ground could not be seen: move the colour away where they are near.
    near = np.abs(colour - ground).max(axis=1, keepdims=True) < 0.45
    colour = np.where(near, np.where(ground > 0.5, ground - 0.45, ground + 0.45), colour)

    wave = np.sin(x * uniform(-0.5, 0.5, 1, 1) + y * uniform(-0.5, 0.5, 1, 1) + uniform(0, 6.3, 1, 1))
    picture = ground + wave[:, None] * uniform(-0.15, 0.15, 3, 1, 1)
    for _ in range(2):  # lines of any colour right across
        angle = uniform(0, np.pi, 1, 1)
        distance = np.abs((x - uniform(0, 32, 1, 1)) * np.cos(angle) + (y - uniform(0, 32, 1, 1)) * np.sin(angle))
        line = np.clip(1.2 - distance, 0, 1)[:, None]
        picture = picture + line * (uniform(0, 1, 3, 1, 1) - picture)

    size, turn = uniform(6.5, 11.5, 1, 1), uniform(-0.45, 0.45, 1, 1)
    right, below = x - uniform(10, 21, 1, 1), y - uniform(10, 21, 1, 1)
    u = (right * np.cos(turn) + below * np.sin(turn)) / size
    v = (below * np.cos(turn) - right * np.sin(turn)) / size
    depth = np.empty_like(u)
    for shape, inside in enumerate(_SHAPES):
        chosen = labels == shape
        depth[chosen] = inside(u[chosen], v[chosen])
    covered = np.clip(depth * size + 0.5, 0, 1)[:, None]  # soft over one pixel at the edge
    shading = 1 + uniform(-0.2, 0.2, 1, 1, 1) * u[:, None]
    picture = picture + covered * (colour * shading - picture)
    picture += rng.standard_normal(picture.shape, np.float32) * uniform(0.01, 0.06, 1, 1, 1)
    return np.asarray(np.clip(picture * 255, 0, 255), np.uint8)


def _polygon(u: Floats, v: Floats, corners: int, star: float = 1.0) -> Depth:
    """Return how deep (u, v) lies in a regular polygon or, with `star` below 1, in a star with these corners."""
    half = np.pi / corners
    angle = np.abs((np.arctan2(u, -v) + half) % (2 * half) - half)  # 0 towards a corner, `half` between two
    radius = np.hypot(u, v)
    inner = star * np.cos(half)  # distance from the centre of the notch between two corners
    # The edge runs from the corner (1, 0) to the notch; depth is the distance to that line.
    notch_x, notch_y = inner * np.cos(half), inner * np.sin(half)
    length = np.hypot(notch_x - 1, notch_y)
    return np.asarray((notch_y * (1 - radius * np.cos(angle)) - (1 - notch_x) * radius * np.sin(angle)) / length)


def _box(u: Floats, v: Floats, half_width: float, half_height: float) -> Depth:
    """Return how deep (u, v) lies in a rectangle around the centre."""
    return np.minimum(half_width - np.abs(u), half_height - np.abs(v))


# How deep a point lies inside each shape, in the order of the labels; negative is outside, 1 is the size of the shape.
_SHAPES: tuple[Callable[[Floats, Floats], Depth], ...] = (
    lambda u, v: 0.9 - np.hypot(u, v),  # circle
    lambda u, v: _box(u, v, 0.8, 0.8),  # square
    lambda u, v: _polygon(u, v, 3),  # triangle
    lambda u, v: _polygon(u, v, 5, star=0.5),  # star
    lambda u, v: np.maximum(_box(u, v, 0.95, 0.28), _box(u, v, 0.28, 0.95)),  # cross
    lambda u, v: 0.22 - np.abs(np.hypot(u, v) - 0.72),  # ring
    lambda u, v: np.minimum(_box(u, v, 0.85, 0.85), -_box(u, v, 0.45, 0.45)),  # frame
    lambda u, v: np.minimum(0.95 - np.hypot(u, v), np.hypot(u - 0.45, v) - 0.75),  # crescent
    lambda u, v: np.minimum(0.95 - np.hypot(u, v + 0.35), v + 0.35),  # half disc
    lambda u, v: np.minimum(0.22 - np.abs(np.abs(v) - 0.55), 0.85 - np.abs(u)),  # bars
)


def python_docs() -> str:
    """Return the help topics and docstrings of this Python's standard library: about 1.2 million characters.

    Modules are parsed, never imported. Only printable ASCII and line breaks are kept. The pieces come in an order that
    depends on their content alone and mixes topics with modules, so that the last part of the text is like the first.

    Raises:
        DataError: this Python comes without its sources.
    """
    pieces = [_plain(piece) for piece in (*_help_topics(), *_module_docs())]
    if sum(map(len, pieces)) < 100_000:
        raise DataError(
            "this Python comes without its documentation; use a text of your own with data.name=text data.path=FILE"
        )
    return "\n".join(sorted(pieces, key=lambda piece: hashlib.sha256(piece.encode()).digest()))


def _plain(text: str) -> str:
    """Return `text` with nothing but line breaks and printable ASCII characters."""
    return "".join(char for char in text if char == "\n" or " " <= char <= "~")


def _help_topics() -> Iterator[str]:
    """Yield the texts that `help("topic")` shows."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some systems package it apart
        return
    yield from topics.values()


def _module_docs() -> Iterator[str]:
    """Yield, for each public module of the standard library that is one file, its docstrings."""
    for name in sorted(sys.stdlib_module_names):
        path = Path(os.__file__).with_name(f"{name}.py")
        if name.startswith("_") or not path.is_file():
            continue
        try:
            nodes = list(ast.walk(ast.parse(path.read_bytes())))
        except (OSError, SyntaxError, ValueError):
            continue
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docs = [ast.get_docstring(node) for node in nodes if isinstance(node, documented)]
        yield "\n\n".join(doc for doc in docs if doc) + "\n"
