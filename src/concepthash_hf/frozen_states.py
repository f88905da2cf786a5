"""Frozen layers computed once: for sets that fit on the disk, what training leaves as it is is kept."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from tqdm.auto import tqdm

from .hashing import on_cpu
from .modeling_hashing import HashingPreTrainedModel
from .modes import evaluating
from .regions import RegionStates
from .seeds import SeededBatches
from .together import new_accelerator, on_main_process


class FrozenStates(Dataset):
    """Tokens of photos where the concept tokens join them, in place of the photos.

    An item is `{"frozen_states": float16 (P + N, d), "labels": as the photos had it}`, of one of the photo's views,
    drawn anew each time; of a model with regions they are `RegionStates`.

    Args:
        states: float16 `(n, views, P + N, d)`, in memory or mapped from a file; or `RegionStates` of such arrays.
        labels: of the n photos, integers `(n,)` or multi-hot `(n, C)`.
    """

    def __init__(self, states: np.ndarray | RegionStates, labels: Tensor):
        self.states, self.labels = states, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        arrays = _tensors(self.states)
        views = arrays[0].shape[1]
        view = int(torch.randint(views, ())) if views > 1 else 0
        states = _like(self.states, [torch.from_numpy(array[index, view].copy()) for array in arrays])
        return {"frozen_states": states, "labels": self.labels[index]}


def frozen_states_size(model: HashingPreTrainedModel, num_photos: int, views: int = 1) -> int:
    """Bytes that `keep_frozen_states` needs on the disk."""
    tower = model.vision_model
    size = tower.num_frozen_tokens * tower.config.hidden_size * 2
    if _has_regions(model):
        size += 8 * (tower.num_frozen_tokens - tower.config.num_concepts * tower.num_prefix_tokens)
    return num_photos * views * size


@contextmanager
def keep_frozen_states(
    model: HashingPreTrainedModel,
    photos: Dataset,
    file: str | Path,
    view_seeds: Sequence[int] = (0,),
    *,
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
) -> Iterator[FrozenStates]:
    """Run the layers before the concept tokens once for every photo, and train on what they gave.

    The file is removed at the end. Several processes share the work, and the file: they must see the same disk.

    Args:
        model: with a frozen backbone, and adapters that begin later than at its first layer.
        photos: as `training.train` takes them; drawn once for every view.
        file: where the states are while the context lasts; there must be none yet.
        view_seeds: one for each view of a photo: of its augmentation.
        mixed_precision: as in training; default the launcher's.
        batch_size: photos at a time and process.
        num_workers: processes that decode photos.
        collate_fn: batches items; default torch's.

    Yields:
        The dataset to train on.

    Raises:
        ValueError: if there is nothing to keep (adapters from the first layer on, or a backbone that is trained), the
            photos are a stream, or the disk has not the room.
        FileExistsError: if another run keeps its states in the file, or one that was killed has left it.

    Example:
        >>> with keep_frozen_states(model, photos, "outputs/birds.states") as states:  # doctest: +SKIP
        ...     train(model, states, args)
    """
    _check_can_be_kept(model, photos)
    if _has_regions(model):  # which must have been learned
        model.check_can_be_trained()
    file = Path(file)
    # an array a file
    files = [file, file.with_name(f"{file.name}.regions")] if _has_regions(model) else [file]
    file.parent.mkdir(parents=True, exist_ok=True)
    num_photos = len(photos)  # type: ignore[arg-type]
    needed, free = frozen_states_size(model, num_photos, len(view_seeds)), shutil.disk_usage(file.parent).free
    if needed > free:
        raise ValueError(
            f"keeping the frozen layers of {num_photos} photos needs {needed / 1e9:.1f} GB in {file.parent}, which "
            f"has {free / 1e9:.1f} GB; train without --cache_frozen_layers, or with fewer --cached_views"
        )
    accelerator = new_accelerator(mixed_precision, cpu=on_cpu())
    model.to(accelerator.device)
    on_main_process(accelerator, lambda: _make_new(files))
    try:
        labels = _write(model, photos, files, view_seeds, accelerator, batch_size, num_workers, collate_fn)
        accelerator.wait_for_everyone()
        arrays = [np.load(each, mmap_mode="r") for each in files]
        yield FrozenStates(RegionStates(*arrays) if len(arrays) > 1 else arrays[0], labels)
    finally:
        if accelerator.is_main_process:
            for each in files:
                each.unlink(missing_ok=True)


def _make_new(files: Sequence[Path]) -> None:
    """Nobody else's: a file that another process has mapped must not be cut short."""
    for file in files:
        try:
            file.touch(exist_ok=False)
        except FileExistsError:
            raise FileExistsError(
                f"{file} is there already: another run keeps its frozen layers in it, or one that was killed has left "
                "it. Give another file, or remove it if nobody uses it"
            ) from None


def _has_regions(model: HashingPreTrainedModel) -> bool:
    return getattr(model.vision_model.config, "read_out", None) == "regions"


def _check_can_be_kept(model: HashingPreTrainedModel, photos: Dataset) -> None:
    first, frozen = model.vision_model.config.first_adapted_layer, model.config.freeze_backbone
    if first == 0 or not frozen:
        raise ValueError(
            f"there are no frozen layers to keep: adapters begin at layer {first} and freeze_backbone is {frozen}; "
            "train without --cache_frozen_layers, or let them begin later (--first_adapted_layer)"
        )
    if isinstance(photos, IterableDataset):
        raise ValueError("frozen layers cannot be kept of a stream of photos; train without --cache_frozen_layers")


@torch.no_grad()
def _write(
    model: HashingPreTrainedModel,
    photos: Dataset,
    files: Sequence[Path],
    view_seeds: Sequence[int],
    accelerator: Accelerator,
    batch_size: int,
    num_workers: int,
    collate_fn: Callable[[list], Any] | None,
) -> Tensor:
    """Fill the files, view by view; give the labels."""
    batches = SeededBatches(photos)
    loader = prepare_data_loader(
        DataLoader(batches, batch_size, num_workers=num_workers, collate_fn=collate_fn),
        accelerator.device,
        accelerator.num_processes,
        accelerator.process_index,
        put_on_device=True,
    )
    written: list[np.memmap] = []
    labels = []
    for view, seed in enumerate(view_seeds):
        batches.seeds = (seed,)
        row = 0
        bar = tqdm(loader, desc="frozen layers", disable=not accelerator.is_local_main_process)
        for batch in bar:
            with evaluating(model), accelerator.autocast():
                states = _tensors(model.vision_model.frozen_states(batch["pixel_values"]))
            made = tuple(each.half() if each.is_floating_point() else each for each in states)
            made, batch_labels = accelerator.gather_for_metrics((made, batch["labels"]))
            if not made[0].isfinite().all():
                raise ValueError("the backbone's states do not fit float16; train without --cache_frozen_layers")
            if accelerator.is_main_process:
                arrays = [each.cpu().numpy() for each in made]
                if not written:
                    shape = (len(photos), len(view_seeds))  # type: ignore[arg-type]
                    written = [
                        np.lib.format.open_memmap(file, "w+", array.dtype, shape + array.shape[1:])
                        for file, array in zip(files, arrays, strict=True)
                    ]
                for file_array, array in zip(written, arrays, strict=True):
                    file_array[row : row + len(array), view] = array
            row += len(made[0])
            if view == 0:
                labels.append(batch_labels.cpu())
    for file_array in written:
        file_array.flush()
    return torch.cat(labels)


def _tensors(states: Any) -> tuple:
    """The tensors or arrays that frozen states consist of."""
    return tuple(states) if isinstance(states, RegionStates) else (states,)


def _like(states: Any, tensors: Sequence[Tensor]) -> Tensor | RegionStates:
    """Tensors as the frozen states that these are."""
    return RegionStates(*tensors) if isinstance(states, RegionStates) else tensors[0]
