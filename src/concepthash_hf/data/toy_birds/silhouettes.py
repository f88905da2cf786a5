"""The outlines of the six families, as points of smooth curves.

Coordinates: the bird faces right, x to the right, y up, the feet stand at (0, 0), about 1 is the height of a bird.
A point given twice in a row makes a sharp corner.
"""

import math
from dataclasses import dataclass

import numpy as np

Points = np.ndarray  # (n, 2) float64
Frame = tuple[tuple[float, float], tuple[float, float], float]  # root, tip, width

_STEPS_PER_SEGMENT = 8
_RING = np.array([(math.cos(a), math.sin(a)) for a in (2 * math.pi * i / 24 for i in range(24))])


def smooth(*points: tuple[float, float]) -> Points:
    """Closed Catmull-Rom curve through the points, as a polygon."""
    control = np.array(points, dtype=np.float64)
    before, after, later = np.roll(control, 1, 0), np.roll(control, -1, 0), np.roll(control, -2, 0)
    curve = []
    for step in range(_STEPS_PER_SEGMENT):
        t = step / _STEPS_PER_SEGMENT
        curve.append(
            0.5 * (2 * control)
            + 0.5 * t * (after - before)
            + 0.5 * t**2 * (2 * before - 5 * control + 4 * after - later)
            + 0.5 * t**3 * (3 * control - before - 3 * after + later)
        )
    segments = np.stack(curve, axis=1)
    # between the two copies of a sharp corner the curve would make a tiny loop
    return segments[np.any(control != after, axis=1)].reshape(-1, 2)


def ellipse(x: float, y: float, rx: float, ry: float | None = None, degrees: float = 0.0) -> Points:
    """An ellipse around (x, y), as a polygon; a circle when `ry` is left out."""
    ry = rx if ry is None else ry
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    u, v = rx * _RING[:, 0], ry * _RING[:, 1]
    return np.stack([x + cos * u - sin * v, y + sin * u + cos * v], axis=1)


def _mirrored(points: Points) -> Points:
    """The same outline on the other side of a bird seen from the front."""
    return points * np.array([-1.0, 1.0])


@dataclass(frozen=True)
class Silhouette:
    """The outlines of one family.

    Attributes:
        colour: Plumage of the body (RGB).
        body, head: What all other parts sit on, filled with the plumage.
        face: Pale patches on the head (the discs of an owl, the cheek of a parrot).
        crown, throat, belly: Regions, drawn only where the head or the body is.
        plume: Feathers of the crown that stand out from the head.
        tail, wings, beak: Outlines drawn whole.
        gape: The line between the two halves of the beak.
        wing_frames, tail_frame: Along which the feathers of every wing and of the tail lie.
        belly_frame: (middle, axis): patterns are laid out around the middle; the axis points from vent to breast.
        eyes, eye_radius: Where and how large.
        neck: The point around which the head turns and tilts.
        hips: Where the legs leave the body.
        size: Factor that makes all families about equally large in a picture.
        shift: How far the bird stands right of the foot point, to be well in the picture.
    """

    colour: tuple[int, int, int]
    body: Points
    head: Points
    crown: tuple[Points, ...]
    throat: Points
    belly: Points
    tail: Points
    wings: tuple[Points, ...]
    beak: Points
    wing_frames: tuple[Frame, ...]
    tail_frame: Frame
    belly_frame: tuple[tuple[float, float], tuple[float, float]]
    eyes: tuple[tuple[float, float], ...]
    eye_radius: float
    neck: tuple[float, float]
    hips: tuple[tuple[float, float], ...]
    gape: tuple[tuple[float, float], ...] = ()
    face: tuple[Points, ...] = ()
    plume: tuple[Points, ...] = ()
    size: float = 1.0
    shift: float = 0.0


_FINCH = Silhouette(
    colour=(176, 146, 112),
    body=smooth(
        (0.29, 0.44),
        (0.25, 0.22),
        (0.08, 0.09),
        (-0.12, 0.10),
        (-0.28, 0.20),
        (-0.29, 0.38),
        (-0.16, 0.60),
        (0.02, 0.74),
        (0.22, 0.68),
    ),
    head=ellipse(0.11, 0.74, 0.22, 0.205),
    crown=(smooth((-0.16, 0.70), (-0.02, 0.79), (0.16, 0.83), (0.36, 0.80), (0.30, 1.05), (-0.02, 1.05)),),
    throat=smooth((0.18, 0.68), (0.34, 0.70), (0.42, 0.55), (0.24, 0.49), (0.11, 0.56)),
    belly=smooth((0.36, 0.52), (0.40, 0.15), (0.10, -0.02), (-0.22, 0.06), (-0.12, 0.28), (0.06, 0.50)),
    tail=smooth(
        (-0.17, 0.34),
        (-0.36, 0.15),
        (-0.58, -0.02),
        (-0.58, -0.02),
        (-0.50, -0.04),
        (-0.47, -0.13),
        (-0.47, -0.13),
        (-0.30, 0.02),
        (-0.12, 0.12),
    ),
    wings=(
        smooth(
            (0.07, 0.53),
            (0.10, 0.36),
            (-0.02, 0.22),
            (-0.22, 0.13),
            (-0.45, 0.04),
            (-0.45, 0.04),
            (-0.34, 0.26),
            (-0.22, 0.46),
            (-0.06, 0.58),
        ),
    ),
    beak=smooth((0.27, 0.82), (0.38, 0.78), (0.46, 0.70), (0.46, 0.70), (0.37, 0.67), (0.28, 0.67), (0.24, 0.74)),
    gape=((0.27, 0.735), (0.37, 0.727), (0.45, 0.702)),
    wing_frames=(((0.04, 0.46), (-0.45, 0.05), 0.30),),
    tail_frame=((-0.2, 0.2), (-0.54, -0.06), 0.16),
    belly_frame=((0.14, 0.30), (0.42, 0.9)),
    eyes=((0.185, 0.765),),
    eye_radius=0.045,
    neck=(0.06, 0.62),
    hips=((-0.06, 0.12), (0.09, 0.11)),
    size=0.98,
    shift=0.05,
)

_OWL_WING = smooth(
    (-0.17, 0.58),
    (-0.29, 0.56),
    (-0.36, 0.36),
    (-0.32, 0.14),
    (-0.22, -0.04),
    (-0.22, -0.04),
    (-0.17, 0.14),
    (-0.14, 0.36),
)
_OWL = Silhouette(
    colour=(158, 124, 94),
    body=smooth(
        (0.0, 0.66), (-0.24, 0.58), (-0.32, 0.36), (-0.24, 0.12), (0.0, 0.03), (0.24, 0.12), (0.32, 0.36), (0.24, 0.58)
    ),
    head=smooth(
        (0.0, 0.97),
        (-0.16, 0.98),
        (-0.29, 1.09),
        (-0.29, 1.09),
        (-0.32, 0.86),
        (-0.31, 0.70),
        (-0.20, 0.59),
        (0.0, 0.55),
        (0.20, 0.59),
        (0.31, 0.70),
        (0.32, 0.86),
        (0.29, 1.09),
        (0.29, 1.09),
        (0.16, 0.98),
    ),
    face=(ellipse(-0.135, 0.765, 0.15, 0.155), ellipse(0.135, 0.765, 0.15, 0.155)),
    crown=(
        smooth((0.0, 0.83), (-0.12, 0.92), (-0.40, 0.90), (-0.34, 1.20), (0.34, 1.20), (0.40, 0.90), (0.12, 0.92)),
    ),
    throat=smooth((0.0, 0.655), (-0.22, 0.60), (-0.15, 0.49), (0.0, 0.45), (0.15, 0.49), (0.22, 0.60)),
    belly=smooth((0.0, 0.60), (-0.19, 0.52), (-0.21, 0.24), (0.0, -0.01), (0.21, 0.24), (0.19, 0.52)),
    tail=smooth((-0.11, 0.14), (-0.13, -0.14), (-0.06, -0.19), (0.06, -0.19), (0.13, -0.14), (0.11, 0.14)),
    wings=(_OWL_WING, _mirrored(_OWL_WING)),
    beak=smooth((-0.05, 0.75), (0.0, 0.78), (0.05, 0.75), (0.045, 0.69), (0.0, 0.62), (0.0, 0.62), (-0.045, 0.69)),
    wing_frames=(((-0.25, 0.56), (-0.22, -0.03), 0.2), ((0.25, 0.56), (0.22, -0.03), 0.2)),
    tail_frame=((0.0, 0.1), (0.0, -0.2), 0.24),
    belly_frame=((0.0, 0.30), (0.0, 1.0)),
    eyes=((-0.135, 0.775), (0.135, 0.775)),
    eye_radius=0.075,
    neck=(0.0, 0.6),
    hips=((-0.09, 0.07), (0.09, 0.07)),
    size=0.95,
)

_HERON = Silhouette(
    colour=(190, 200, 210),
    body=smooth(
        (0.22, 0.50),
        (0.18, 0.34),
        (0.02, 0.25),
        (-0.18, 0.26),
        (-0.38, 0.30),
        (-0.42, 0.34),
        (-0.28, 0.50),
        (-0.06, 0.60),
        (0.12, 0.61),
    ),
    head=smooth(
        (0.09, 0.42),
        (0.24, 0.48),
        (0.28, 0.60),
        (0.19, 0.72),
        (0.18, 0.80),
        (0.27, 0.85),
        (0.38, 0.88),
        (0.44, 0.98),
        (0.36, 1.09),
        (0.20, 1.12),
        (0.06, 1.05),
        (0.01, 0.89),
        (0.05, 0.74),
        (0.07, 0.64),
        (-0.04, 0.55),
    ),
    crown=(smooth((-0.08, 0.93), (0.08, 0.985), (0.25, 1.0), (0.50, 1.02), (0.40, 1.25), (0.02, 1.25)),),
    plume=(smooth((0.14, 1.10), (-0.06, 1.04), (-0.28, 0.88), (-0.28, 0.88), (-0.10, 0.91), (0.06, 0.94)),),
    throat=smooth(
        (0.46, 0.88),
        (0.28, 0.92),
        (0.13, 0.88),
        (0.11, 0.76),
        (0.16, 0.62),
        (0.16, 0.46),
        (0.36, 0.46),
        (0.36, 0.66),
        (0.30, 0.78),
    ),
    belly=smooth((0.32, 0.50), (0.26, 0.26), (0.02, 0.18), (-0.32, 0.22), (-0.14, 0.36), (0.06, 0.48)),
    tail=smooth((-0.22, 0.46), (-0.46, 0.34), (-0.60, 0.19), (-0.60, 0.19), (-0.44, 0.19), (-0.20, 0.28)),
    wings=(
        smooth(
            (0.13, 0.57),
            (0.15, 0.44),
            (0.0, 0.33),
            (-0.24, 0.27),
            (-0.54, 0.22),
            (-0.54, 0.22),
            (-0.40, 0.42),
            (-0.20, 0.56),
            (0.0, 0.62),
        ),
    ),
    beak=smooth((0.37, 1.06), (0.54, 1.03), (0.80, 0.93), (0.80, 0.93), (0.54, 0.90), (0.38, 0.89)),
    gape=((0.38, 0.965), (0.56, 0.955), (0.76, 0.935)),
    wing_frames=(((0.10, 0.50), (-0.54, 0.23), 0.30),),
    tail_frame=((-0.2, 0.38), (-0.59, 0.2), 0.18),
    belly_frame=((0.06, 0.36), (0.6, 0.8)),
    eyes=((0.28, 0.995),),
    eye_radius=0.038,
    neck=(0.10, 0.54),
    hips=((-0.08, 0.28), (0.06, 0.28)),
    size=0.86,
    shift=-0.08,
)

_PARROT = Silhouette(
    colour=(104, 168, 92),
    body=smooth(
        (0.26, 0.52),
        (0.24, 0.28),
        (0.10, 0.10),
        (-0.04, 0.05),
        (-0.16, 0.10),
        (-0.22, 0.28),
        (-0.20, 0.52),
        (-0.10, 0.72),
        (0.08, 0.80),
        (0.22, 0.70),
    ),
    head=ellipse(0.09, 0.80, 0.23, 0.21),
    face=(ellipse(0.21, 0.775, 0.085, 0.10, 15),),
    crown=(smooth((-0.22, 0.74), (-0.05, 0.83), (0.14, 0.88), (0.38, 0.89), (0.28, 1.15), (-0.06, 1.15)),),
    plume=(
        smooth((0.16, 0.96), (0.02, 1.08), (-0.14, 1.14), (-0.14, 1.14), (-0.06, 1.02), (-0.02, 0.93)),
        smooth((0.06, 0.96), (-0.10, 1.02), (-0.25, 1.02), (-0.25, 1.02), (-0.14, 0.92), (-0.04, 0.86)),
    ),
    throat=smooth((0.16, 0.68), (0.36, 0.68), (0.38, 0.52), (0.20, 0.48), (0.06, 0.56)),
    belly=smooth((0.36, 0.54), (0.34, 0.2), (0.10, -0.02), (-0.10, 0.02), (-0.02, 0.28), (0.08, 0.52)),
    tail=smooth(
        (-0.18, 0.26),
        (-0.27, 0.0),
        (-0.40, -0.30),
        (-0.40, -0.30),
        (-0.27, -0.22),
        (-0.12, -0.02),
        (0.0, 0.14),
        (-0.06, 0.26),
    ),
    wings=(
        smooth(
            (0.08, 0.62),
            (0.11, 0.44),
            (0.03, 0.26),
            (-0.10, 0.08),
            (-0.27, -0.10),
            (-0.27, -0.10),
            (-0.27, 0.16),
            (-0.24, 0.42),
            (-0.12, 0.62),
        ),
    ),
    beak=smooth((0.26, 0.86), (0.38, 0.85), (0.435, 0.75), (0.37, 0.63), (0.37, 0.63), (0.335, 0.70), (0.26, 0.70)),
    gape=((0.27, 0.735), (0.33, 0.74), (0.37, 0.70)),
    wing_frames=(((0.0, 0.56), (-0.26, -0.08), 0.3),),
    tail_frame=((-0.1, 0.2), (-0.38, -0.28), 0.16),
    belly_frame=((0.16, 0.32), (0.2, 0.98)),
    eyes=((0.175, 0.81),),
    eye_radius=0.042,
    neck=(0.04, 0.68),
    hips=((0.02, 0.08), (0.14, 0.12)),
    size=0.93,
    shift=0.0,
)

_SWALLOW = Silhouette(
    colour=(74, 92, 140),
    body=smooth(
        (0.32, 0.42),
        (0.26, 0.24),
        (0.10, 0.11),
        (-0.12, 0.10),
        (-0.36, 0.16),
        (-0.34, 0.26),
        (-0.12, 0.44),
        (0.08, 0.56),
        (0.24, 0.56),
    ),
    head=ellipse(0.23, 0.54, 0.185, 0.165, 20),
    crown=(smooth((-0.02, 0.52), (0.12, 0.575), (0.26, 0.60), (0.46, 0.57), (0.40, 0.85), (0.06, 0.85)),),
    throat=smooth((0.24, 0.53), (0.46, 0.54), (0.48, 0.38), (0.30, 0.32), (0.17, 0.40)),
    belly=smooth((0.42, 0.36), (0.32, 0.10), (0.08, 0.0), (-0.40, 0.06), (-0.20, 0.22), (0.10, 0.33)),
    tail=smooth(
        (-0.24, 0.30),
        (-0.50, 0.30),
        (-0.86, 0.36),
        (-0.86, 0.36),
        (-0.62, 0.22),
        (-0.50, 0.18),
        (-0.62, 0.10),
        (-0.84, -0.02),
        (-0.84, -0.02),
        (-0.50, 0.05),
        (-0.24, 0.12),
    ),
    wings=(
        smooth(
            (0.14, 0.45),
            (0.18, 0.33),
            (0.04, 0.24),
            (-0.20, 0.18),
            (-0.62, 0.20),
            (-0.62, 0.20),
            (-0.36, 0.34),
            (-0.14, 0.46),
            (0.04, 0.52),
        ),
    ),
    beak=smooth((0.38, 0.61), (0.46, 0.58), (0.54, 0.53), (0.54, 0.53), (0.45, 0.51), (0.38, 0.51)),
    gape=((0.39, 0.555), (0.46, 0.55), (0.53, 0.532)),
    wing_frames=(((0.12, 0.40), (-0.62, 0.20), 0.26),),
    tail_frame=((-0.3, 0.2), (-0.85, 0.18), 0.3),
    belly_frame=((0.12, 0.22), (0.8, 0.5)),
    eyes=((0.30, 0.575),),
    eye_radius=0.036,
    neck=(0.16, 0.46),
    hips=((0.0, 0.12), (0.12, 0.13)),
    size=0.91,
    shift=0.08,
)

_DUCK = Silhouette(
    colour=(196, 178, 150),
    body=smooth(
        (0.34, 0.40),
        (0.30, 0.24),
        (0.12, 0.12),
        (-0.16, 0.11),
        (-0.38, 0.20),
        (-0.50, 0.36),
        (-0.36, 0.42),
        (-0.14, 0.46),
        (0.06, 0.48),
        (0.22, 0.52),
    ),
    head=smooth(
        (0.30, 0.36),
        (0.36, 0.50),
        (0.35, 0.60),
        (0.44, 0.68),
        (0.42, 0.82),
        (0.28, 0.91),
        (0.13, 0.86),
        (0.09, 0.72),
        (0.13, 0.58),
        (0.08, 0.44),
        (0.18, 0.34),
    ),
    crown=(smooth((0.02, 0.66), (0.20, 0.70), (0.30, 0.78), (0.52, 0.80), (0.40, 1.02), (0.05, 1.02)),),
    throat=smooth((0.05, 0.56), (0.22, 0.58), (0.42, 0.58), (0.44, 0.42), (0.30, 0.40), (0.06, 0.44)),
    belly=smooth((0.44, 0.40), (0.40, 0.16), (0.14, 0.0), (-0.30, 0.06), (-0.34, 0.24), (-0.06, 0.30), (0.20, 0.40)),
    tail=smooth(
        (-0.34, 0.42), (-0.52, 0.48), (-0.66, 0.56), (-0.66, 0.56), (-0.62, 0.36), (-0.46, 0.24), (-0.30, 0.24)
    ),
    wings=(
        smooth(
            (0.14, 0.45),
            (0.17, 0.34),
            (0.04, 0.25),
            (-0.18, 0.23),
            (-0.50, 0.38),
            (-0.50, 0.38),
            (-0.30, 0.47),
            (-0.04, 0.51),
        ),
    ),
    beak=smooth((0.40, 0.78), (0.48, 0.72), (0.62, 0.70), (0.66, 0.66), (0.60, 0.62), (0.48, 0.62), (0.39, 0.65)),
    gape=((0.41, 0.69), (0.50, 0.665), (0.64, 0.665)),
    wing_frames=(((0.10, 0.38), (-0.50, 0.38), 0.27),),
    tail_frame=((-0.36, 0.34), (-0.64, 0.46), 0.24),
    belly_frame=((0.06, 0.22), (0.95, 0.3)),
    eyes=((0.31, 0.76),),
    eye_radius=0.038,
    neck=(0.22, 0.46),
    hips=((-0.05, 0.14), (0.10, 0.14)),
    size=0.98,
    shift=0.02,
)

SILHOUETTES = {"finch": _FINCH, "owl": _OWL, "heron": _HERON, "parrot": _PARROT, "swallow": _SWALLOW, "duck": _DUCK}
