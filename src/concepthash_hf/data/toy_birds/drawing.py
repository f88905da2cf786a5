"""Draws one toy bird: its pose, its parts, its light, and where every part is."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .scenery import Colour, background, draw_perch, jitter, light_field, mix, shade
from .silhouettes import SILHOUETTES, Frame, Points, Silhouette, ellipse
from .species import PARTS, VALUES, Species, check_value, find_species

_FINE = 4  # birds are drawn this many times larger, then averaged down

_INK: dict[str, Colour] = {
    "red": (206, 58, 50),
    "orange": (240, 136, 40),
    "yellow": (248, 206, 62),
    "green": (58, 134, 82),
    "blue": (52, 106, 190),
    "black": (48, 46, 58),
    "white": (250, 247, 240),
    "grey": (138, 148, 160),
    "brown": (132, 96, 70),
}
_CREAM: Colour = (244, 230, 204)
_MARKINGS: dict[str, Colour] = {"barred": (58, 44, 44), "spotted": (186, 84, 46), "streaked": (110, 96, 88)}


@dataclass(frozen=True)
class ToyBird:
    """A drawn bird and all that is known about it.

    Attributes:
        image: The picture, RGB, `size` x `size`.
        species: The species it was drawn as.
        attributes: The value of every part in `VALUES`; those of the species, unless a part was changed.
        seed: With the species, decides pose, light and background.
        fine_parts: Part map four times as fine as the picture, (4 * size, 4 * size) uint8; 0 is the background,
            otherwise the position in `PARTS` plus one.
    """

    image: Image.Image
    species: Species
    attributes: Mapping[str, str]
    seed: int
    fine_parts: np.ndarray

    @property
    def size(self) -> int:
        """Width and height of the picture in pixels."""
        return self.image.width

    @property
    def parts(self) -> np.ndarray:
        """The part in the middle of every pixel, (size, size) uint8; values as in `fine_parts`."""
        return self.fine_parts[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE]

    def coverage(self, part: str) -> np.ndarray:
        """How much of every pixel the part covers, (size, size) float64 in [0, 1].

        The pixels with a coverage above zero are exactly those that a change of the part can alter.
        """
        if part not in PARTS:
            raise ValueError(f"a toy bird has no part {part!r}; its parts are: {', '.join(PARTS)}")
        inside = self.fine_parts == PARTS.index(part) + 1
        return inside.reshape(self.size, _FINE, self.size, _FINE).mean(axis=(1, 3))


def draw_bird(species: Species | str, seed: int, size: int = 96) -> ToyBird:
    """Draws a bird of a species.

    Pose, light and background follow from the seed and the name of the species, and from nothing else; the same bird
    can be drawn at any size.

    Args:
        species: A species, or the name of one in `SPECIES`.
        seed: Which bird, 0 or more.
        size: Width and height of the picture in pixels.

    Example:
        >>> bird = draw_bird("red-crowned barred finch", seed=7)
        >>> bird.image.size, bird.attributes["crown"]
        ((96, 96), 'red')
    """
    if isinstance(species, str):
        species = find_species(species)
    return _draw(species, species.attributes, seed, size)


def change_part(bird: ToyBird, part: str, value: str) -> ToyBird:
    """Redraws a bird with another value of one part, and nothing else changed.

    Every pixel that the part does not touch in either picture (``coverage(part) == 0``) stays exactly as it is.

    Args:
        bird: The bird; it is left as it is.
        part: One of `VALUES`.
        value: One of ``VALUES[part]``.

    Raises:
        ValueError: The part or the value is not known.

    Example:
        >>> blue = change_part(draw_bird("red-crowned barred finch", seed=7), "crown", "blue")
        >>> blue.attributes["crown"], blue.species.name
        ('blue', 'red-crowned barred finch')
    """
    attributes = {**bird.attributes, part: check_value(part, value)}
    return _draw(bird.species, attributes, bird.seed, bird.size)


@dataclass(frozen=True)
class _Affine:
    """x' = a x + b y + c, y' = d x + e y + f; sums written out, so that every machine rounds alike."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def __call__(self, points: Points) -> Points:
        x, y = points[:, 0], points[:, 1]
        return np.stack([self.a * x + self.b * y + self.c, self.d * x + self.e * y + self.f], axis=1)

    def after(self, other: "_Affine") -> "_Affine":
        """The map that does `other` first and then this."""
        (cx, cy), (ux, uy), (vx, vy) = self(
            np.array([[other.c, other.f], [other.a, other.d], [other.b, other.e]])
        ).tolist()
        return _Affine(ux - self.c, vx - self.c, cx, uy - self.f, vy - self.f, cy)


def _turn(pivot: tuple[float, float], degrees: float, stretch: float = 1.0) -> _Affine:
    """Stretches along x and rotates, around the pivot."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    a, b, d, e = cos * stretch, -sin, sin * stretch, cos
    x, y = pivot
    return _Affine(a, b, x - a * x - b * y, d, e, y - d * x - e * y)


@dataclass(frozen=True)
class _Pose:
    """Where the bird stands and how it holds itself."""

    foot: tuple[float, float]  # fine pixels
    body: _Affine  # bird to fine pixels
    head: _Affine

    @classmethod
    def draw(cls, rng: np.random.Generator, outline: Silhouette, width: int) -> "_Pose":
        x, y = rng.uniform(0.4, 0.6), rng.uniform(0.75, 0.87)
        scale = rng.uniform(0.5, 0.74) * outline.size * width
        side = -1.0 if rng.random() < 0.5 else 1.0
        lean, tilt, turn = rng.uniform(-17, 17), rng.uniform(-15, 15), rng.uniform(0.75, 1.0)
        foot = (x * width, y * width)
        stand = _Affine(side * scale, 0, foot[0] + side * outline.shift * scale, 0, -scale, foot[1])
        body = stand.after(_turn((0, 0), lean))
        return cls(foot, body, body.after(_turn(outline.neck, tilt, turn)))


class _Canvas:
    """A picture and its part map, drawn together."""

    def __init__(self, picture: Image.Image):
        self.picture = picture
        self.parts = Image.new("L", picture.size, 0)
        self._pen, self._part_pen = ImageDraw.Draw(picture), ImageDraw.Draw(self.parts)

    def mask(self, polygons: Sequence[Points], within: Image.Image | None = None) -> Image.Image:
        mask = Image.new("L", self.picture.size, 0)
        pen = ImageDraw.Draw(mask)
        for polygon in polygons:
            pen.polygon(_flat(polygon), fill=255)
        return mask if within is None else ImageChops.darker(mask, within)

    def fill(self, part: str, colour: Colour, mask: Image.Image) -> None:
        self.paint(colour, mask)
        _stamp(self.parts, PARTS.index(part) + 1, mask)

    def fill_polygon(self, part: str, colour: Colour, polygon: Points) -> None:
        self._pen.polygon(_flat(polygon), fill=colour)
        self._part_pen.polygon(_flat(polygon), fill=PARTS.index(part) + 1)

    def fill_line(self, part: str, colour: Colour, line: Points, width: float) -> None:
        self._pen.line(_flat(line), fill=colour, width=round(width), joint="curve")
        self._part_pen.line(_flat(line), fill=PARTS.index(part) + 1, width=round(width), joint="curve")

    def paint(self, colour: Colour, mask: Image.Image) -> None:
        _stamp(self.picture, colour, mask)


def _stamp(picture: Image.Image, value: Colour | int, mask: Image.Image) -> None:
    """Pastes a colour through a mask, touching only the box around the mask (much faster than the whole picture)."""
    if box := mask.getbbox():
        picture.paste(value, box, mask.crop(box))


def _flat(points: Points) -> list[float]:
    return np.rint(points).ravel().tolist()


def _draw(species: Species, attributes: Mapping[str, str], seed: int, size: int) -> ToyBird:
    if seed < 0 or size < 16:
        raise ValueError(f"a toy bird needs a seed of 0 or more and a size of 16 pixels or more, got {seed=}, {size=}")
    # a generator of its own for every bird: the same bird whatever was drawn before it
    rng = np.random.default_rng([seed, zlib.crc32(species.name.encode())])
    outline = SILHOUETTES[species.family]
    width = size * _FINE

    pose = _Pose.draw(rng, outline, width)
    canvas = _Canvas(background(rng, size).resize((width, width), Image.Resampling.NEAREST))
    draw_perch(rng, canvas.picture, pose.foot)
    _draw_parts(rng, canvas, outline, pose, attributes)

    parts = np.asarray(canvas.parts)
    picture = _ink_edges(np.asarray(canvas.picture), parts)
    image = Image.fromarray(picture).reduce(_FINE)
    image = _light(rng, image, canvas.parts.point([0] + [255] * 255).reduce(_FINE))
    return ToyBird(image, species, attributes, seed, parts)


def _draw_parts(
    rng: np.random.Generator, canvas: _Canvas, outline: Silhouette, pose: _Pose, attributes: Mapping[str, str]
) -> None:
    """Draws the bird, back to front."""
    # every colour is drawn from the generator in a fixed order, whatever the attributes
    plumage = jitter(rng, outline.colour, 0.09)
    ink = {part: jitter(rng, _INK.get(attributes[part], _CREAM), 0.07) for part in VALUES}
    markings = jitter(rng, _MARKINGS.get(attributes["belly"], _CREAM), 0.08)
    limbs = jitter(rng, (150, 112, 84), 0.08)
    unit = math.hypot(pose.body.a, pose.body.d)

    tail = canvas.mask([pose.body(outline.tail)])
    canvas.fill("tail", ink["tail"], tail)
    canvas.paint(shade(ink["tail"], 0.8), canvas.mask(_quills(outline.tail_frame, pose.body, 3), tail))
    _draw_legs(canvas, outline, pose, limbs, unit)

    for plume in outline.plume:
        canvas.fill_polygon("crown", ink["crown"], pose.head(plume))
    body, head = canvas.mask([pose.body(outline.body)]), canvas.mask([pose.head(outline.head)])
    canvas.fill("body", plumage, body)
    belly = canvas.mask([pose.body(outline.belly)], body)
    canvas.fill("belly", ink["belly"], belly)
    canvas.paint(markings, canvas.mask(_pattern(outline, attributes["belly"], pose.body), belly))
    canvas.fill("body", plumage, head)
    for face in outline.face:
        canvas.fill("body", mix(plumage, _CREAM, 0.75), canvas.mask([pose.head(face)], head))
    throat = canvas.mask([pose.head(outline.throat)], ImageChops.lighter(body, head))
    canvas.fill("throat", ink["throat"], throat)
    for shape, frame in zip(outline.wings, outline.wing_frames, strict=True):
        _draw_wing(canvas, shape, frame, pose.body, ink["wing"])
    crown = canvas.mask([pose.head(shape) for shape in outline.crown], head)
    canvas.fill("crown", ink["crown"], crown)
    _draw_beak(canvas, outline, pose, ink["beak"], unit)
    _draw_eyes(canvas, outline, pose, plumage)


def _draw_legs(canvas: _Canvas, outline: Silhouette, pose: _Pose, colour: Colour, unit: float) -> None:
    for x, y in outline.hips:
        foot = (0.9 * x, 0.0)
        canvas.fill_line("legs", colour, pose.body(np.array([(x, y), foot])), 0.03 * unit)
        for toe in (-0.06, 0.02, 0.08):
            canvas.fill_line("legs", colour, pose.body(np.array([foot, (foot[0] + toe, -0.022)])), 0.022 * unit)


def _draw_wing(canvas: _Canvas, shape: Points, frame: Frame, place: _Affine, colour: Colour) -> None:
    """A folded wing: coverts in scallops near the shoulder, long quills towards the tip."""
    wing = canvas.mask([place(shape)])
    canvas.fill("wing", colour, wing)
    dark, light = shade(colour, 0.74), shade(colour, 1.22)
    canvas.paint(shade(colour, 0.86), canvas.mask([place(_band(frame, 0.52, 1.2))], wing))
    canvas.paint(dark, canvas.mask(_quills(frame, place, 4), wing))
    for along, tone in ((0.52, light), (0.5, colour), (0.28, light), (0.26, colour)):
        canvas.paint(tone, canvas.mask([place(s) for s in _scallops(frame, along)], wing))


def _local(frame: Frame) -> _Affine:
    """Maps (u, v), u along the frame from 0 to 1, v across it from -1/2 to 1/2, to the bird's coordinates."""
    (x0, y0), (x1, y1), width = frame
    ux, uy = x1 - x0, y1 - y0
    length = math.hypot(ux, uy)
    return _Affine(ux, -uy / length * width, x0, uy, ux / length * width, y0)


def _band(frame: Frame, start: float, stop: float) -> Points:
    return _local(frame)(np.array([(start, -2.0), (stop, -2.0), (stop, 2.0), (start, 2.0)]))


def _scallops(frame: Frame, along: float) -> list[Points]:
    """A row of overlapping round feathers that ends at `along`, with everything before it."""
    local = _local(frame)
    (x0, y0), (x1, y1), width = frame
    depth = 0.17 * width / math.hypot(x1 - x0, y1 - y0)
    rounds = [local(ellipse(along - depth, v, depth * 1.6, 0.19)) for v in (-0.6, -0.3, 0.0, 0.3, 0.6)]
    return [_band(frame, -1.0, along - depth), *rounds]


def _quills(frame: Frame, place: _Affine, count: int) -> list[Points]:
    """Thin dark lines between long feathers."""
    local = _local(frame)
    lines = []
    for i in range(count):
        v = (i + 0.5) / count - 0.5
        thick = 0.045
        lines.append(place(local(np.array([(0.3, v - thick), (1.05, 0.8 * v), (0.3, v + thick)]))))
    return lines


def _pattern(outline: Silhouette, pattern: str, place: _Affine) -> list[Points]:
    """The markings of a belly."""
    (x, y), (ax, ay) = outline.belly_frame
    length = math.hypot(ax, ay)
    ax, ay = ax / length, ay / length
    local = _Affine(ax, -ay, x, ay, ax, y)  # u along the body, v across it
    rows = range(-5, 6)
    if pattern == "barred":
        return [place(local(_bar(0.115 * i, 0.032))) for i in rows]
    if pattern == "spotted":
        spots = [(0.1 * i, 0.12 * (j + 0.5 * (i % 2))) for i in rows for j in rows]
        return [place(local(ellipse(u, v, 0.032, 0.034))) for u, v in spots]
    if pattern == "streaked":
        drops = [(0.16 * (i + 0.5 * (j % 2)), 0.08 * j) for i in rows for j in rows]
        return [place(local(ellipse(u, v, 0.066, 0.02))) for u, v in drops]
    return []


def _bar(u: float, half: float) -> Points:
    """A gently waving bar across the body."""
    vs = [0.05 * i for i in range(-10, 11)]
    upper = [(u + half + 0.012 * math.sin(18 * v), v) for v in vs]
    lower = [(u - half + 0.012 * math.sin(18 * v), v) for v in vs]
    return np.array(upper + lower[::-1])


def _draw_beak(canvas: _Canvas, outline: Silhouette, pose: _Pose, colour: Colour, unit: float) -> None:
    beak = canvas.mask([pose.head(outline.beak)])
    canvas.fill("beak", colour, beak)
    if outline.gape:
        line = Image.new("L", canvas.picture.size, 0)
        ImageDraw.Draw(line).line(_flat(pose.head(np.array(outline.gape))), fill=255, width=max(1, round(0.02 * unit)))
        canvas.paint(shade(colour, 0.6), ImageChops.darker(line, beak))


def _draw_eyes(canvas: _Canvas, outline: Silhouette, pose: _Pose, plumage: Colour) -> None:
    r = outline.eye_radius
    big = len(outline.eyes) > 1  # an owl's, with a golden iris
    for x, y in outline.eyes:
        canvas.fill_polygon("eye", (246, 190, 60) if big else (250, 244, 230), pose.head(ellipse(x, y, 1.3 * r)))
        canvas.fill_polygon("eye", (34, 28, 32), pose.head(ellipse(x, y, 0.75 * r if big else r)))
        canvas.fill_polygon("eye", (255, 255, 255), pose.head(ellipse(x + 0.3 * r, y + 0.35 * r, 0.34 * r)))


def _ink_edges(picture: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Darkens the rim of every part, as a fine pen would."""
    edge = np.zeros(parts.shape, dtype=bool)
    reach = max(1, round(parts.shape[0] / 192))
    edge[reach:] |= parts[reach:] != parts[:-reach]
    edge[:-reach] |= parts[:-reach] != parts[reach:]
    edge[:, reach:] |= parts[:, reach:] != parts[:, :-reach]
    edge[:, :-reach] |= parts[:, :-reach] != parts[:, reach:]
    edge &= parts > 0
    inked = picture.copy()
    inked[edge] = (inked[edge].astype(np.uint16) * 7 // 10).astype(np.uint8)
    return inked


def _light(rng: np.random.Generator, image: Image.Image, silhouette: Image.Image) -> Image.Image:
    """Lights the whole picture, and rounds the bird: brighter towards the sun, darker away from it."""
    size = image.width
    field = light_field(rng, size)
    sun_x = rng.uniform(-0.8, 0.8)
    soft = np.asarray(silhouette.filter(ImageFilter.GaussianBlur(size / 16))).astype(np.float64) / 255
    step = max(1, size // 24)
    padded = np.pad(soft, step, mode="edge")
    slope_y = padded[2 * step :, step:-step] - padded[: -2 * step, step:-step]
    slope_x = padded[step:-step, 2 * step :] - padded[step:-step, : -2 * step]
    rounding = 0.42 * (slope_y - sun_x * slope_x) * (np.asarray(silhouette).astype(np.float64) / 255)
    lit = np.asarray(image).astype(np.float64) * (field * (1 + rounding[:, :, None]))
    return Image.fromarray(np.clip(np.rint(lit), 0, 255).astype(np.uint8))
