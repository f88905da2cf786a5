"""A folder of small bird photos, and an untrained model that hashes them."""

from pathlib import Path

import torch

from concepthash_hf import BaselineModel, ConceptHashModel
from concepthash_hf.data.toy_birds import SPECIES, draw_bird
from concepthash_hf.toy_clip import save_toy_clip

BIRDS = SPECIES[:3] + SPECIES[-2:]
NAMES = [species.name.replace(" ", "_") for species in BIRDS]
NUM_BITS, NUM_CONCEPTS = 12, 3


def write_photos(folder: Path, number: int) -> Path:
    """`number` photos of each of five species, in a folder each."""
    for species, name in zip(BIRDS, NAMES, strict=True):
        (folder / name).mkdir(parents=True)
        for seed in range(number):
            draw_bird(species, seed, 32).image.save(folder / name / f"{seed}.png")
    return folder


def save_untrained(folder: Path, seed: int = 0) -> Path:
    """A model of 12 bits and 3 concepts, with image processor and tokenizer."""
    torch.manual_seed(seed)
    clip = folder.with_name(f"{folder.name}-clip")
    save_toy_clip(clip, NAMES, image_size=32)
    # the published design: its codes differ before any training
    model = ConceptHashModel.from_clip(
        clip, class_names=NAMES, num_bits=NUM_BITS, num_concepts=NUM_CONCEPTS, adapter_dim=8, preset="paper"
    )
    model.save_pretrained(folder)
    model.image_processor.save_pretrained(folder)
    for file in clip.glob("tokenizer*"):
        file.rename(folder / file.name)
    return folder


def save_baseline(folder: Path) -> Path:
    """A model of another method, of 12 bits and without concepts, with its image processor."""
    torch.manual_seed(0)
    clip = folder.with_name(f"{folder.name}-clip")
    save_toy_clip(clip, NAMES, image_size=32)
    model = BaselineModel.from_backbone(clip, NAMES, method="csq", num_bits=NUM_BITS, adapter_dim=8)
    model.save_pretrained(folder)
    model.image_processor.save_pretrained(folder)
    return folder
