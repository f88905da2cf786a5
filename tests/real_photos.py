"""Photos of the folder shared/ and a model that hashes them, as far as that goes without training."""

from pathlib import Path

import torch

from concepthash_hf import ConceptHashModel
from concepthash_hf.data import PhotoDataset, eval_transform, list_photos


def photo_files(shared: Path, number: int) -> list[str]:
    """Photos of birds of many classes."""
    listed = list_photos(shared / "data" / "cub100" / "test")
    return [listed[row * len(listed) // number]["image"]["path"] for row in range(number)]


def hash_model_and_photos(shared: Path, number: int) -> tuple[ConceptHashModel, torch.Tensor]:
    """A model of 64 bits around the small stand-in CLIP, and photos of birds of many classes.

    What is trained is moved at random, and BatchNorm has the statistics of these photos, so that codes differ and bits
    are balanced.
    """
    model = ConceptHashModel.from_clip(shared / "bench" / "tiny-clip", ["heron", "jay", "wren"], num_bits=64)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    listed = list_photos(shared / "data" / "cub100" / "test")
    chosen = listed.select([row * len(listed) // number for row in range(number)])
    photos = PhotoDataset(chosen, eval_transform(model.image_processor), label_column=None)
    pixel_values = torch.stack([photo["pixel_values"] for photo in photos])
    model.vision_model.hash_head.batch_norm.momentum = 1.0
    with torch.no_grad():
        model.train()(pixel_values)
    return model.eval(), pixel_values
