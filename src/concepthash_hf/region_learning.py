"""Learning which region of a photo belongs to which concept: before training, from photos alone, in minutes."""

import copy
import math
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import broadcast
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset
from tqdm.auto import tqdm

from .explain.measures.hiding import blurred, hide_patches
from .hashing import on_cpu
from .modeling_concepthash import ConceptHashModel, ConceptHashVisionModel
from .modes import evaluating
from .read_outs import RegionReadOut
from .region_clusters import find_parts, mirrored_patches
from .regions import RegionHead

# what the head is taught by: the photo, its mirror image, and two pictures in which something is hidden
VIEWS = (0.1, 0.1, 0.4, 0.4)
"""How often each is drawn."""
# what is hidden: all but one region, a tenth of the photo, one region
HIDING = (0.55, 0.3, 0.15)
"""How often each is drawn."""
PATCHES_PER_STEP, WARMUP_STEPS, LEARNING_RATE, WEIGHT_DECAY = 4096, 20, 1e-3, 1e-4


@torch.no_grad()
def learn_regions(
    model: ConceptHashModel,
    photos: Dataset,
    *,
    num_patches: int = 150_000,
    steps: int = 400,
    seed: int = 0,
    batch_size: int = 32,
    num_workers: int = 0,
) -> dict[str, Any]:
    """Teach a model with `read_out="regions"` which region of a photo belongs to which concept.

    Clusters of the backbone's patch tokens are the regions of some photos (`region_clusters.find_parts`). The model's
    `RegionHead` learns to find them in a photo, in its mirror image, and in pictures in which other things are hidden:
    there a region must stay as it is, and what is hidden belongs to the background. It needs no labels.

    The head is replaced, and what the model is to be trained for learns afterwards. Several processes learn the same.

    Args:
        model: on any device, in any mode, which it keeps.
        photos: items with "pixel_values" as at evaluation, without augmentation; labels are not looked at.
        num_patches: of all the photos that are looked at, some 600 photos of 224 pixels with patches of 14; they take
            15 KB of memory a patch for a backbone of width 384.
        steps: of the optimizer.
        seed: of all that is drawn at random.
        batch_size: photos at a time.
        num_workers: processes that decode photos.

    Returns:
        A dict that is ready for JSON: `num_photos`; `areas` (M), the share of a photo that each region fills on
        average, and `background`; `loss`, the cross-entropy of the last steps.

    Raises:
        ValueError: if the model has no regions, or the photos are a stream or too few.

    Example:
        >>> model = ConceptHashModel.from_backbone(
        ...     "facebook/dinov2-small", names, text=clip, read_out="regions")  # doctest: +SKIP
        >>> learn_regions(model, photos)["background"]  # doctest: +SKIP
        0.42
    """
    tower = model.vision_model
    if not isinstance(tower.read_out, RegionReadOut):
        raise ValueError(f"this model has read_out={tower.config.read_out!r}, which has no regions to learn")
    if isinstance(photos, IterableDataset):
        raise ValueError("regions are learned from photos that can be looked at again, not from a stream")
    if len(photos) == 0:  # type: ignore[arg-type]
        raise ValueError("there are no photos to learn regions from")
    generator = torch.Generator().manual_seed(seed)
    number = min(len(photos), max(1, num_patches // tower.config.num_patches))  # type: ignore[arg-type]
    chosen = torch.randperm(len(photos), generator=generator)[:number].sort().values  # type: ignore[arg-type]
    loader = DataLoader(Subset(photos, chosen.tolist()), batch_size, num_workers=num_workers)
    with evaluating(model):
        pixels = torch.cat([batch["pixel_values"].half() for batch in tqdm(loader, desc="regions: photos")])
        clean = _features(tower, pixels, batch_size, "regions: tokens")
        mirrored = _features(tower, pixels.flip(-1), batch_size, "regions: tokens, mirrored")
        labels = find_parts(*_layers(tower, clean, mirrored), tower.config.num_concepts, generator)
        views, targets = [clean, mirrored], [labels, mirrored_patches(labels)]
        for view in ("regions: tokens, hidden", "regions: tokens, hidden again"):
            hidden, target = _hide(labels, tower.config.num_concepts, generator)
            views.append(_features(tower, pixels, batch_size, view, hidden))
            targets.append(target)
    head, loss = _taught(tower.read_out.head, views, targets, steps, seed)
    tower.read_out.head.load_state_dict(head.state_dict())
    _share(tower.read_out.head)
    found = [head(features.to(_device(tower)).float()).argmax(-1).cpu() for features in clean.split(batch_size)]
    areas = F.one_hot(torch.cat(found), tower.config.num_concepts + 1).double().mean((0, 1)).tolist()
    return {"num_photos": number, "areas": areas[:-1], "background": areas[-1], "loss": loss}


def take_regions(model: ConceptHashModel, checkpoint: str | Path) -> None:
    """Give a model the regions of a training that it is to go on with.

    Args:
        model: with `read_out="regions"`.
        checkpoint: a folder `checkpoint-N`.

    Raises:
        ValueError: if the checkpoint has no such regions.
    """
    prefix = "vision_model.read_out.head."
    try:
        state = safetensors.torch.load_file(Path(checkpoint) / "model.safetensors")
        model.get_submodule(prefix.rstrip(".")).load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        )
    except (OSError, SafetensorError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{checkpoint} has no regions for this model: {error}") from error


def _features(
    tower: ConceptHashVisionModel, pixels: Tensor, batch_size: int, description: str, hidden: Tensor | None = None
) -> Tensor:
    """What the head reads of these photos, float16 `(n, N, layers x d)` on the CPU.

    Args:
        tower: with regions.
        pixels: float16 `(n, 3, H, W)`.
        batch_size: photos at a time.
        description: of the progress bar.
        hidden: bool `(n, N)`, patches to blur.
    """
    features, side = [], tower.config.image_size // tower.config.patch_size
    for start in tqdm(range(0, len(pixels), batch_size), desc=description):
        batch = pixels[start : start + batch_size].to(_device(tower), tower.dtype)
        if hidden is not None:
            mask = hidden[start : start + batch_size].unflatten(1, (side, side)).to(batch.device)
            batch = hide_patches(batch, mask, blurred(batch, tower.config.patch_size))
        features.append(tower.region_features(batch).half().cpu())
    return torch.cat(features)


def _layers(
    tower: ConceptHashVisionModel, clean: Tensor, mirrored: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Of the features those of the last layer but one, and of the last (of one layer, twice the same)."""
    layers = [features.split(tower.config.hidden_size, dim=-1) for features in (clean, mirrored)]
    (middle, late), (middle_mirrored, late_mirrored) = ((each[-2:][0], each[-1]) for each in layers)
    return (middle, middle_mirrored), (late, late_mirrored)


def _hide(labels: Tensor, num_concepts: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What to hide of each photo, bool `(n, N)`, and the regions that are left."""
    number = len(labels)
    kinds = torch.multinomial(torch.tensor(HIDING), number, replacement=True, generator=generator)[:, None]
    region = torch.randint(num_concepts, (number, 1), generator=generator)
    is_region = labels == region
    spots = _spots(labels, num_concepts, generator)
    hidden = torch.where(kinds == 0, ~is_region, torch.where(kinds == 1, spots, is_region))
    return hidden, torch.where(hidden, num_concepts, labels)


def _spots(labels: Tensor, num_concepts: int, generator: torch.Generator) -> Tensor:
    """A ragged tenth of each photo around a random patch of a region, bool `(n, N)`."""
    number, num_patches = labels.shape
    side = round(num_patches**0.5)
    centre = torch.multinomial((labels < num_concepts).float() + 1e-6, 1, generator=generator)
    patch = torch.arange(num_patches)
    distance = (patch // side - centre // side).square() + (patch % side - centre % side).square()
    ragged = distance + 3 * torch.rand(number, num_patches, generator=generator)
    return ragged.argsort(1).argsort(1) < max(1, round(0.1 * num_patches))


@torch.enable_grad()
def _taught(
    head: RegionHead, views: list[Tensor], targets: list[Tensor], steps: int, seed: int
) -> tuple[RegionHead, float]:
    """A new head, float32, that was taught these targets, and its loss in the last tenth of the steps."""
    generator = torch.Generator().manual_seed(seed)
    features, labels = torch.cat(views).flatten(0, 1), torch.cat(targets).flatten()
    per_view = len(labels) // len(views)
    device = next(head.parameters()).device
    student = _fresh(head, seed).to(device)
    optimizer = torch.optim.AdamW(student.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses: list[Tensor] = []
    for step in tqdm(range(steps), desc="regions: learning"):
        warmup, cosine = min(1, (step + 1) / WARMUP_STEPS), 0.5 + 0.5 * math.cos(math.pi * step / steps)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * warmup * cosine
        view = torch.multinomial(torch.tensor(VIEWS), PATCHES_PER_STEP, replacement=True, generator=generator)
        rows = view * per_view + torch.randint(per_view, (PATCHES_PER_STEP,), generator=generator)
        logits = student(features[rows].to(device).float())
        loss = F.cross_entropy(logits, labels[rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return student, float(torch.stack(losses[-max(1, steps // 10) :]).mean())


def _fresh(head: RegionHead, seed: int) -> RegionHead:
    """A head as it starts, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = copy.deepcopy(head).cpu().float().requires_grad_(True)
        student.down_proj.reset_parameters()
        for start_at_nothing in (student.up_proj.weight, student.up_proj.bias):
            nn.init.zeros_(start_at_nothing)
    return student


def _share(head: RegionHead) -> None:
    """All processes take the head of the first."""
    PartialState(cpu=on_cpu())
    for parameter in head.parameters():
        parameter.copy_(broadcast(parameter.detach()))


def _device(tower: ConceptHashVisionModel) -> torch.device:
    return next(tower.parameters()).device
