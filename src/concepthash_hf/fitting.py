"""Fitting hash functions that are not trained, to the photos that they are to tell apart."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from .hashing import on_cpu
from .modeling_baseline import BaselineModel
from .modes import evaluating


@torch.no_grad()
def fit(
    model: BaselineModel,
    dataset: Dataset,
    batch_size: int = 64,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
) -> None:
    """Fit a model's hash function to photos: LSH, PCA, ITQ and the like, on one process.

    Args:
        model: of a method that is fitted; in place.
        dataset: yields `pixel_values` as at evaluation, without augmentation, or `frozen_states`.
        batch_size: photos at a time.
        num_workers: processes that decode photos.
        collate_fn: batches items; default torch's.

    Raises:
        ValueError: if the method trains its hash function, or there are too few photos.

    Example:
        >>> model = BaselineModel.from_backbone("facebook/dinov2-small", names, method="itq")  # doctest: +SKIP
        >>> fit(model, photos)  # doctest: +SKIP
    """
    device = Accelerator(cpu=on_cpu()).device
    tower, features = model.vision_model.to(device), []
    loader: DataLoader = DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=collate_fn)
    with evaluating(model):
        for batch in tqdm(loader, desc="features"):
            photos = {name: batch[name].to(device) for name in ("pixel_values", "frozen_states") if name in batch}
            features.append(tower(**photos).features.cpu())
    model.fit(torch.cat(features))
