"""Backgrounds, perches and light of the toy birds; none of them depends on the species."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

_GRID = 96  # backgrounds are soft, so they are painted once at this size and enlarged


def shade(colour: Colour, factor: float) -> Colour:
    """The colour darkened (factor below 1) or lightened towards white (above 1)."""
    if factor <= 1:
        return tuple(int(c * factor) for c in colour)  # type: ignore[return-value]
    return tuple(int(c + (255 - c) * min(factor - 1, 1.0)) for c in colour)  # type: ignore[return-value]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The first colour with a share of the second in it."""
    return tuple(int(a + (b - a) * share) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def jitter(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    """A slightly different colour: every channel off by up to `amount` of 255, half of it in common."""
    common, *own = rng.uniform(-0.5, 0.5, 4) * amount * 255
    return tuple(int(min(max(c + common + o, 0), 255)) for c, o in zip(colour, own, strict=True))  # type: ignore[return-value]


def _gradient(top: Colour, bottom: Colour) -> Image.Image:
    strip = Image.new("RGB", (1, 2))
    strip.putpixel((0, 0), top)
    strip.putpixel((0, 1), bottom)
    return strip.resize((_GRID, _GRID), Image.Resampling.BILINEAR)


def _blobs(
    rng: np.random.Generator, picture: Image.Image, colours: list[Colour], count: int, radius: float, blur: float
):
    """Soft round blobs all over the picture, as leaves and lights out of focus are."""
    draw = ImageDraw.Draw(picture)
    for x, y, r, squash, which in rng.uniform(0, 1, (count, 5)).tolist():
        rx = radius * (0.5 + r) * _GRID
        ry = rx * (0.6 + 0.4 * squash)
        x, y = x * _GRID, y * _GRID
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=jitter(rng, colours[int(which * len(colours))], 0.08))
    return picture.filter(ImageFilter.GaussianBlur(blur))


def _sky(rng: np.random.Generator) -> Image.Image:
    picture = _gradient(jitter(rng, (118, 178, 226), 0.14), jitter(rng, (222, 236, 240), 0.1))
    return _blobs(rng, picture, [(240, 245, 248), (228, 238, 246)], int(rng.integers(2, 7)), 0.12, 5)


def _foliage(rng: np.random.Generator) -> Image.Image:
    picture = _gradient(jitter(rng, (164, 200, 130), 0.14), jitter(rng, (92, 140, 88), 0.14))
    greens = [(128, 176, 98), (96, 148, 86), (190, 212, 140), (76, 122, 80), (222, 226, 160)]
    return _blobs(rng, picture, greens, 26, 0.1, 3.5)


def _blossom(rng: np.random.Generator) -> Image.Image:
    picture = _gradient(jitter(rng, (206, 222, 232), 0.1), jitter(rng, (238, 214, 220), 0.1))
    return _blobs(rng, picture, [(246, 190, 204), (250, 222, 226), (230, 164, 186), (186, 206, 160)], 22, 0.075, 2.6)


def _autumn(rng: np.random.Generator) -> Image.Image:
    picture = _gradient(jitter(rng, (238, 208, 150), 0.14), jitter(rng, (198, 138, 92), 0.14))
    return _blobs(rng, picture, [(226, 158, 84), (244, 204, 122), (188, 112, 78), (164, 150, 96)], 24, 0.09, 3.2)


def _dusk(rng: np.random.Generator) -> Image.Image:
    picture = _gradient(jitter(rng, (120, 118, 172), 0.14), jitter(rng, (246, 194, 160), 0.14))
    draw = ImageDraw.Draw(picture)
    for depth in range(2):  # rows of hills
        base, swing, phase = rng.uniform(0.55, 0.7) + 0.14 * depth, rng.uniform(0.02, 0.07), rng.uniform(0, 6.3)
        ridge = [(x, (base + swing * math.sin(phase + x / 16)) * _GRID) for x in range(0, _GRID + 4, 4)]
        colour = jitter(rng, ((150, 132, 168), (112, 104, 148))[depth], 0.12)
        draw.polygon([*ridge, (_GRID, _GRID), (0, _GRID)], fill=colour)
    return picture.filter(ImageFilter.GaussianBlur(2))


def _reeds(rng: np.random.Generator) -> Image.Image:
    picture = _gradient(jitter(rng, (212, 226, 214), 0.1), jitter(rng, (120, 164, 170), 0.14))
    draw = ImageDraw.Draw(picture)
    for x, lean, height, width, tone in rng.uniform(0, 1, (16, 5)).tolist():
        foot, top = x * _GRID, (x + 0.3 * (lean - 0.5)) * _GRID
        colour = mix((136, 160, 96), (196, 190, 126), tone)
        draw.line((foot, _GRID, top, (0.75 - 0.7 * height) * _GRID), fill=colour, width=2 + int(3 * width))
    return picture.filter(ImageFilter.GaussianBlur(1.8))


def _paper(rng: np.random.Generator) -> Image.Image:
    """Washes of water colour on paper."""
    washes = [(226, 206, 178), (196, 212, 204), (214, 200, 216), (232, 216, 160), (190, 206, 222)]
    tone = np.array(washes[int(rng.integers(len(washes)))], dtype=np.float64)
    coarse = np.clip(tone + rng.uniform(-34, 34, (7, 7, 1)) + rng.uniform(-12, 12, (7, 7, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(coarse).resize((_GRID, _GRID), Image.Resampling.BICUBIC)


_BACKGROUNDS = (_sky, _foliage, _blossom, _autumn, _dusk, _reeds, _paper)


def background(rng: np.random.Generator, size: int) -> Image.Image:
    """A soft background of a random kind, (size, size) RGB."""
    picture = _BACKGROUNDS[int(rng.integers(len(_BACKGROUNDS)))](rng)
    return picture if size == _GRID else picture.resize((size, size), Image.Resampling.BICUBIC)


def draw_perch(rng: np.random.Generator, picture: Image.Image, foot: tuple[float, float]) -> None:
    """Draws what the bird stands on, a branch, a mound or a rock, through the foot point (pixels of `picture`)."""
    kind = int(rng.integers(3))
    (_branch, _mound, _rock)[kind](rng, ImageDraw.Draw(picture), picture.width, foot)


def _branch(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int, foot: tuple[float, float]) -> None:
    bark = jitter(rng, (122, 92, 70), 0.12)
    slope, bend, thick = rng.uniform(-0.14, 0.14), rng.uniform(-0.12, 0.12), rng.uniform(0.022, 0.034) * size
    xs = [size * i / 24 for i in range(-1, 26)]
    # flat where the feet are: the bend starts from the foot point
    ys = [foot[1] + slope * (x - foot[0]) + bend * (x - foot[0]) ** 2 / size for x in xs]
    widths = [thick * (1.15 - 0.4 * i / len(xs)) for i in range(len(xs))]
    upper = list(zip(xs, ys, strict=True))
    lower = [(x, y + 2 * w) for x, y, w in zip(xs, ys, widths, strict=True)]
    _leaves(rng, draw, size, upper)
    draw.polygon(upper + lower[::-1], fill=bark)
    middle = [(x, y + 1.35 * w) for x, y, w in zip(xs, ys, widths, strict=True)]
    draw.polygon(middle + lower[::-1], fill=shade(bark, 0.78))
    draw.line(
        [(x, y + 0.35 * w) for x, y, w in zip(xs, ys, widths, strict=True)],
        fill=shade(bark, 1.22),
        width=max(1, size // 160),
    )


def _leaves(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int, along: list[tuple[float, float]]) -> None:
    """Pairs of pointed leaves on the branch."""
    tones = ((104, 154, 84), (146, 176, 92), (208, 150, 72), (84, 136, 96))
    green = jitter(rng, tones[int(rng.integers(len(tones)))], 0.1)
    for where, angle, length, tone in rng.uniform(0, 1, (int(rng.integers(0, 6)), 4)).tolist():
        x, y = along[int(where * len(along))]
        angle = (angle - 0.5) * 2.4 + (math.pi / 2 if tone > 0.3 else -math.pi / 2)
        length = (0.09 + 0.07 * length) * size
        ux, uy = math.cos(angle) * length, -math.sin(angle) * length
        leaf = []
        for side in (1, -1):
            for t in (0.0, 0.2, 0.45, 0.75, 1.0)[::side]:
                bulge = side * 0.9 * t * (1 - t)
                leaf.append((x + ux * t - uy * bulge, y + uy * t + ux * bulge))
        draw.polygon(leaf, fill=shade(green, 0.8 + 0.45 * tone))
        draw.line((x, y, x + 0.9 * ux, y + 0.9 * uy), fill=shade(green, 0.7), width=max(1, size // 200))


def _mound(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int, foot: tuple[float, float]) -> None:
    """A grassy mound."""
    grass = jitter(rng, ((122, 156, 92), (168, 164, 104), (104, 142, 104))[int(rng.integers(3))], 0.1)
    drop, flat = rng.uniform(0.25, 0.7), foot[1] - 0.004 * size
    xs = [size * i / 24 for i in range(-1, 26)]
    ridge = [(x, flat + drop * (x - foot[0]) ** 2 / size) for x in xs]
    for x, y, tone in rng.uniform(0, 1, (30, 3)).tolist():  # blades of grass behind the ridge
        at = x * size
        top = flat + drop * (at - foot[0]) ** 2 / size
        tip = (at + (tone - 0.5) * 0.06 * size, top - (0.02 + 0.035 * y) * size)
        draw.polygon(
            [(at - 0.008 * size, top + 2), tip, (at + 0.008 * size, top + 2)], fill=shade(grass, 0.8 + 0.3 * tone)
        )
    draw.polygon([*ridge, (size, size), (0, size)], fill=grass)
    draw.polygon([*[(x, y + 0.055 * size) for x, y in ridge], (size, size), (0, size)], fill=shade(grass, 0.86))


def _rock(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int, foot: tuple[float, float]) -> None:
    stone = jitter(rng, ((150, 148, 150), (168, 152, 134), (128, 136, 146))[int(rng.integers(3))], 0.1)
    left, right = rng.uniform(0.3, 0.48, 2) * size
    x, y = foot
    top = [(x - 0.6 * left, y + 0.01 * size), (x - 0.2 * left, y - 0.004 * size), (x + 0.3 * right, y - 0.002 * size)]
    outline = [
        (x - left, size),
        (x - 0.88 * left, y + 0.08 * size),
        *top,
        (x + 0.8 * right, y + 0.05 * size),
        (x + right, size),
    ]
    draw.polygon(outline, fill=stone)
    draw.polygon(
        [
            (x - left, size),
            (x - 0.88 * left, y + 0.08 * size),
            (x - 0.3 * left, y + 0.07 * size),
            (x - 0.1 * left, size),
        ],
        fill=shade(stone, 0.86),
    )
    draw.polygon(
        [
            *top,
            (x + 0.8 * right, y + 0.05 * size),
            (x + 0.1 * right, y + 0.045 * size),
            (x - 0.35 * left, y + 0.05 * size),
        ],
        fill=shade(stone, 1.18),
    )


def light_field(rng: np.random.Generator, size: int) -> np.ndarray:
    """How the light multiplies every pixel: brightness, tint and a slope across the picture, (size, size, 3)."""
    brightness, slope_x, slope_y = rng.uniform(0.8, 1.05), *rng.uniform(-0.13, 0.13, 2)
    tint = 1 + rng.uniform(-0.07, 0.07, 3)
    across = np.linspace(-1, 1, size)
    return (brightness + slope_x * across[None, :] + slope_y * across[:, None])[:, :, None] * tint
