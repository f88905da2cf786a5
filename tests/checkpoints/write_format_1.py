"""Wrote `format_1/`, the checkpoint of the first format that every later version has to load.

    python tests/checkpoints/write_format_1.py

It is not to be run again: a new format gets a folder of its own, beside this one. Six toy birds of 37 pixels, drawn by
the package; a random CLIP (`clip/`); a model trained on it for a few steps, whole (`whole/`) and small (`small/`); and
`expected.json`, what it made of the pictures and of class names.
"""

import json
import os
import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPConfig, CLIPModel

import concepthash_hf
from concepthash_hf import ConceptHashModel
from concepthash_hf.data.toy_birds import draw_bird
from concepthash_hf.toy_clip import save_toy_clip

SPECIES = (
    *("red-crowned barred finch", "blue-winged streaked finch", "white-crowned barred owl"),
    *("black-crowned red-billed heron", "red-crowned blue-winged parrot", "green-crowned barred duck"),
)
NEW_NAME = "blue-winged barred duck"
SIZE = 32


def main() -> None:
    """Write everything beside this script."""
    folder = Path(__file__).parent / "format_1"
    if folder.exists():
        sys.exit(f"{folder} is there and is to stay as it is")
    (folder / "photos").mkdir(parents=True)
    os.chdir(folder)  # so that the checkpoint names its CLIP "clip"
    torch.manual_seed(0)
    save_tiny_clip()
    model = ConceptHashModel.from_clip("clip", SPECIES, num_bits=20, num_concepts=4, adapter_dim=8)
    processor, tokenizer = model.image_processor, AutoTokenizer.from_pretrained("clip")
    train(model)

    model.save_pretrained("whole")
    model.save_pretrained("small", trained_only=True)
    for part in (processor, tokenizer):
        part.save_pretrained("whole")
        part.save_pretrained("small")
    # the processor's shorter side: nothing is resized, so pixels are the same for ever
    side = processor.size["shortest_edge"]
    for number, name in enumerate(SPECIES):
        draw_bird(name, seed=1000 + number, size=side).image.save(f"photos/{number}.png")

    pictures = [Image.open(f"photos/{number}.png") for number in range(len(SPECIES))]
    pixel_values = AutoImageProcessor.from_pretrained("whole")(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = model(pixel_values)
    assert output.code_logits.abs().min() > 0.02, "a bit would hang on rounding: take another seed"
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
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def save_tiny_clip() -> None:
    """The tokenizer and image processor of the toy CLIP, and random weights much smaller than its."""
    save_toy_clip("clip", (*SPECIES, NEW_NAME), image_size=SIZE)
    toy = CLIPConfig.from_pretrained("clip")
    small = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = CLIPConfig(
        text_config=toy.text_config.to_dict() | small | {"num_hidden_layers": 1},
        vision_config=toy.vision_config.to_dict() | small | {"patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained("clip")


def train(model: ConceptHashModel) -> None:
    """A few steps, so that no weight and no statistic is that of an untrained model."""
    side = model.image_processor.size["shortest_edge"]
    birds = [draw_bird(name, seed, side).image for seed in range(8) for name in SPECIES]
    pixel_values = model.image_processor(birds, return_tensors="pt")["pixel_values"]
    labels = torch.arange(len(birds)) % len(SPECIES)
    optimizer = torch.optim.AdamW(model.trainable_parameters(), 3e-3)
    model.train()
    for step in range(60):
        loss = model(pixel_values, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    model.eval()


if __name__ == "__main__":
    main()
