"""What do hashing and a training step cost beside the bare backbone? Every ratio of one table, in one run.

    python examples/benchmarks/training_cost.py --output examples/benchmarks/training_cost.json

Batches of 32 photos, 64 bits, 4 concepts, random weights, on a CPU. What is compared runs by turns in every repeat,
and a ratio is that of the fastest repeats of both: a busy machine slows both, and what it slows least is the best
guess. What a step holds of memory is measured by `training_memory.py`.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hashing_cost import SHAPES, bare, circumstances, measure
from torch import Tensor, nn
from transformers import PreTrainedConfig

from concepthash_hf import ConceptHashConfig, ConceptHashModel, ConceptHashVisionConfig
from concepthash_hf.launch import keep_freed_memory
from concepthash_hf.presets import model_fields

BATCH, CLASSES, WORD_DIM = 32, 100, 512


@dataclass
class Row:
    """`ours` against `theirs`: what each of the two is called, and what it does once."""

    ours: str
    against: str
    functions: tuple[Callable[[], object], Callable[[], object]]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["clip-vit-b-32", "dinov2-small"])
    parser.add_argument("--only", default="", help="only rows with these words in their name")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("outputs/training_cost.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as scripts do
    results: dict[str, Any] = {
        **circumstances(),
        "batch_size": BATCH,
        "repeats": args.repeats,
        "threads": args.threads,
        "seed": 0,
        "rows": [],
    }
    for shape in args.shapes:
        for row in rows(SHAPES[shape]):
            if args.only not in row.ours:
                continue
            ours, theirs = (min(times) for times in measure(list(row.functions), args.repeats))
            found = {"shape": shape, "what": row.ours, "against": row.against}
            found |= {"seconds": round(ours, 4), "seconds_against": round(theirs, 4), "ratio": round(ours / theirs, 3)}
            results["rows"].append(found)
            print(found, flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n")


def rows(backbone: PreTrainedConfig) -> list[Row]:
    """All that is compared for one shape."""
    torch.manual_seed(0)
    pixels = torch.randn(BATCH, 3, backbone.image_size, backbone.image_size)
    labels = torch.arange(BATCH) % CLASSES
    tower = bare(backbone).eval().requires_grad_(False)
    fast, paper = new_model("fast", backbone), new_model("paper", backbone)
    everywhere = new_model("fast", backbone, first_adapted_layer=0)
    later = new_model("fast", backbone, first_adapted_layer=backbone.num_hidden_layers * 3 // 4)

    plain, plain_step = hashing(tower, pixels), bare_step(tower, pixels)
    found = []
    for name, model in (("fast", fast), ("paper", paper)):
        hasher = model.vision_model
        full, half = step(model, labels, pixel_values=pixels), step(model, labels, True, pixel_values=pixels)
        found += [
            Row(f"hashing, {name}", "plain tower", (hashing(hasher, pixels), plain)),
            Row(f"hashing, {name}, bfloat16", "plain tower, float32", (hashing(hasher, pixels, bfloat16=True), plain)),
            Row(
                f"hashing with concept attentions, {name}",
                "hashing",
                (hashing(hasher, pixels, output_concept_attentions=True), hashing(hasher, pixels)),
            ),
            Row(f"training step, {name}", "plain tower, frozen, forward and backward", (full, plain_step)),
            Row(f"training step, {name}, bfloat16", "training step, float32", (half, full)),
        ]
    for precision, half in (("bfloat16", True), ("float32", False)):
        all_adapted = step(everywhere, labels, half, pixel_values=pixels)
        for model, how in ((fast, ""), (later, ", a quarter of the layers adapted")):
            with torch.no_grad():
                states = model.vision_model.frozen_states(pixels).clone()
            name = f"training step on kept frozen layers, {precision}{how}"
            kept = step(model, labels, half, frozen_states=states)
            found.append(Row(name, f"all layers adapted, {precision}", (kept, all_adapted)))
    return found


def new_model(preset: str, backbone: PreTrainedConfig, **changed: Any) -> ConceptHashModel:
    """With random weights and words."""
    vision = ConceptHashVisionConfig(backbone_config=backbone, **model_fields(preset, backbone) | changed)  # type: ignore[arg-type]
    model = ConceptHashModel(ConceptHashConfig(vision_config=vision, num_labels=CLASSES, class_embedding_dim=WORD_DIM))
    model.class_embeddings = torch.randn(CLASSES, WORD_DIM)
    return model


def hashing(tower: nn.Module, pixels: Tensor, bfloat16: bool = False, **kwargs: Any) -> Callable[[], object]:
    """A forward pass in evaluation mode."""

    def run() -> None:
        tower.eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            tower(pixels, **kwargs)

    return run


def bare_step(tower: nn.Module, pixels: Tensor) -> Callable[[], object]:
    """Forward, and backward to the embeddings of the patches: the least that concept tokens in all layers need."""
    embeddings = next(module for name, module in tower.named_modules() if name.rpartition(".")[2] == "embeddings")

    def from_here(_module: nn.Module, _photos: object, tokens: Tensor) -> None:
        if torch.is_grad_enabled():
            tokens.requires_grad_()

    embeddings.register_forward_hook(from_here)

    def run() -> None:
        tower(pixels).last_hidden_state.sum().backward()

    return run


def step(model: ConceptHashModel, labels: Tensor, bfloat16: bool = False, **photos: Tensor) -> Callable[[], object]:
    """Forward, losses, backward and AdamW."""
    optimizer = torch.optim.AdamW(model.trainable_parameters(), 1e-4)

    def run() -> None:
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = model(**photos, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


if __name__ == "__main__":
    main()
