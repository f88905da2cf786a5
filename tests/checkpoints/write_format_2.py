"""Wrote `format_2/`, checkpoints of the second format, which every later version has to load.

    python tests/checkpoints/write_format_2.py

It is not to be run again: a new format gets a folder of its own, beside this one. The six toy birds of `format_1/`;
two random backbones, a CLIP and a DINOv2, both with the CLIP's words; on each a model of the preset `fast`, trained
for a few steps, whole (`clip-whole/`, ...) and small (`clip-small/`, ...), and what it made of the pictures and of
class names (`clip.json`, ...).
"""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, Dinov2Config, Dinov2Model
from write_format_1 import NEW_NAME, SIZE, SPECIES, train

import concepthash_hf
from concepthash_hf import ConceptHashModel


def main() -> None:
    """Write everything beside this script."""
    here = Path(__file__).parent
    folder = here / "format_2"
    if folder.exists():
        sys.exit(f"{folder} is there and is to stay as it is")
    folder.mkdir()
    shutil.copytree(here / "format_1" / "clip", folder / "clip")
    os.chdir(folder)  # so that the checkpoints name their bases "clip" and "dinov2"
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=3, mlp_ratio=2, image_size=2 * SIZE, patch_size=8
    )
    Dinov2Model(config).save_pretrained("dinov2")
    shutil.copy("clip/preprocessor_config.json", "dinov2")
    for backbone in ("clip", "dinov2"):
        write(backbone, here / "format_1" / "photos")


def write(backbone: str, photos: Path) -> None:
    """A model on one backbone, as it is loaded and as it is measured."""
    model = ConceptHashModel.from_backbone(
        backbone, SPECIES, text="clip", num_bits=20, num_concepts=4, adapter_dim=8, image_size=SIZE
    )
    processor, tokenizer = model.image_processor, AutoTokenizer.from_pretrained("clip")
    train(model)
    for kind in ("whole", "small"):
        for part in (processor, tokenizer):
            part.save_pretrained(f"{backbone}-{kind}")
        model.save_pretrained(f"{backbone}-{kind}", trained_only=kind == "small")
    pictures = [Image.open(path) for path in sorted(photos.iterdir())]
    pixel_values = AutoImageProcessor.from_pretrained(f"{backbone}-whole")(pictures, return_tensors="pt")[
        "pixel_values"
    ]
    with torch.no_grad():
        output = model(pixel_values)
    assert output.code_logits.abs().min() > 0.01, "a bit would hang on rounding: take another seed"
    expected = {
        "written_by": concepthash_hf.__version__,
        "class_names": SPECIES,
        "new_name": NEW_NAME,
        "codes": model.get_hash_codes(pixel_values).tolist(),
        "code_logits": output.code_logits.tolist(),
        "class_logits": output.class_logits.tolist(),
        "class_codes": model.get_text_hash_codes(model.class_embeddings).tolist(),
        "code_of_new_name": model.get_text_hash_codes(
            **tokenizer(f"a photo of a {NEW_NAME}", return_tensors="pt")
        ).tolist(),
    }
    Path(f"{backbone}.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
