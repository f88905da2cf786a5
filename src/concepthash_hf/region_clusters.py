"""Which patches of many photos belong together, found without labels: the regions that a `RegionHead` is taught.

The things in the photos are told from what is behind them by the tokens of a middle layer, their parts from each other
by those of a later one, after what is common to a photo (its class, rather than its parts) was taken away.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# one cluster of the foreground is what surrounds the things: of so many, the one that is nearest to the background
NUM_CONTEXT_CLUSTERS = 9
# k-means: points that centres are computed from, rounds, starts of which the best is taken
NUM_POINTS, ROUNDS, STARTS = 20_000, 30, 4
# photos at a time
_CHUNK = 64


def find_parts(
    middle: tuple[Tensor, Tensor], late: tuple[Tensor, Tensor], num_parts: int, generator: torch.Generator
) -> Tensor:
    """Part the foreground of photos.

    Args:
        middle: tokens `(n, N, d)` of square photos after a middle layer, and of the photos mirrored.
        late: the same after a later layer.
        num_parts: M.
        generator: of the starts of the clusters, on the CPU.

    Returns:
        int64 `(n, N)`, for every patch of the photos its part, from 0, or M for the background.

    Raises:
        ValueError: if there are too few patches in the foreground to be parted.
    """
    centres = _k_means(_directions(middle[0]).flatten(0, 1), 2, generator)
    near = [_distances(_directions(tokens), centres) for tokens in middle]
    # what fills less of the border of a photo
    border = near[0].argmin(-1)[:, _border(near[0].shape[1])].float().mean()
    thing = int(border < 0.5)
    is_thing = [distances.argmin(-1) == thing for distances in near]
    mean = _directions(late[0]).mean((0, 1))

    likeness_to_background = near[0][..., 1 - thing] - near[0][..., thing]
    apart = [_apart(*of_view, mean) for of_view in zip(late, is_thing, strict=True)]
    centres = _k_means(_foreground(apart, is_thing), NUM_CONTEXT_CLUSTERS, generator)
    clusters = [_distances(tokens, centres).argmin(-1) for tokens in apart]
    margins = [
        likeness_to_background[(clusters[0] == cluster) & is_thing[0]].mean().nan_to_num(torch.inf)
        for cluster in range(NUM_CONTEXT_CLUSTERS)
    ]
    surroundings = int(torch.stack(margins).argmin())
    is_thing = [mask & (cluster != surroundings) for mask, cluster in zip(is_thing, clusters, strict=True)]

    apart = [_apart(*of_view, mean) for of_view in zip(late, is_thing, strict=True)]
    centres = _k_means(_foreground(apart, is_thing), num_parts, generator)
    distances = (_distances(apart[0], centres) + mirrored_patches(_distances(apart[1], centres))) / 2
    return torch.where(is_thing[0], distances.argmin(-1), num_parts)


def mirrored_patches(values: Tensor) -> Tensor:
    """Values of the patches of mirrored square photos, `(n, N, ...)`, where these patches are in the photos."""
    side = round(values.shape[1] ** 0.5)
    return values.unflatten(1, (side, side)).flip(2).flatten(1, 2)


def _directions(tokens: Tensor) -> Tensor:
    return F.normalize(tokens.float(), dim=-1)


def _apart(tokens: Tensor, is_thing: Tensor, mean: Tensor) -> Tensor:
    """Directions `(n, N, d)` without what the foreground of the photo has in common."""
    centred = _directions(tokens) - mean
    weights = is_thing[..., None].float()
    common = (centred * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1)
    return _directions(centred - common)


def _foreground(tokens: list[Tensor], is_thing: list[Tensor]) -> Tensor:
    return torch.cat([each[mask] for each, mask in zip(tokens, is_thing, strict=True)])


def _border(num_patches: int) -> Tensor:
    side = round(num_patches**0.5)
    grid = torch.arange(num_patches).view(side, side)
    return torch.cat([grid[0], grid[-1], grid[1:-1, 0], grid[1:-1, -1]])


def _distances(tokens: Tensor, centres: Tensor) -> Tensor:
    """`(n, N, d)` and `(k, d)` -> `(n, N, k)`."""
    return torch.cat([torch.cdist(chunk, centres) for chunk in tokens.split(_CHUNK)])


def _k_means(points: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Centres `(number, d)` of the best of some starts.

    Raises:
        ValueError: if there are fewer points than centres.
    """
    if len(points) < number:
        raise ValueError(
            f"{len(points)} patches in the foreground are too few for {number} clusters; give more photos"
        )
    points = points[torch.randperm(len(points), generator=generator)[:NUM_POINTS].to(points.device)]
    starts = [torch.randperm(len(points), generator=generator)[:number].to(points.device) for _ in range(STARTS)]
    found = [_settled(points, points[start]) for start in starts]
    return min(found, key=lambda centres: float(torch.cdist(points, centres).min(1).values.square().mean()))


def _settled(points: Tensor, centres: Tensor) -> Tensor:
    for _ in range(ROUNDS):
        nearest = F.one_hot(torch.cdist(points, centres).argmin(1), len(centres)).float()
        counts = nearest.sum(0)[:, None]
        centres = torch.where(counts > 0, (nearest.T @ points) / counts.clamp(min=1), centres)
    return centres
