"""How large are the forms a model is kept in, how long do they take, and do they give the same codes?

    python examples/benchmarks/checkpoint_sizes.py --model_name_or_path tiny-clip --photos cub100/test

A whole checkpoint (with CLIP's text tower and without), a small one that holds only what was trained, and an ONNX
file: bytes, seconds to write and to load, seconds to hash a batch, and the largest difference of a code logit from the
model in memory. Once for the given CLIP and photos, once at ViT-B/32 geometry with random weights and noise. What is
trained is moved at random and BatchNorm has the statistics of the photos: nothing here depends on training.

Writes everything as JSON and prints a table made from it. Needs `pip install "concepthash_hf[onnx]"`.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers
from hashing_cost import cpu_name
from transformers import CLIPConfig, CLIPModel, PreTrainedModel

import concepthash_hf
from concepthash_hf import ConceptHashModel, ConceptHashVisionModel
from concepthash_hf.codes import pack_bits
from concepthash_hf.data import PhotoDataset, eval_transform, list_photos
from concepthash_hf.export import export_onnx
from concepthash_hf.small_checkpoints import WEIGHTS_NAME

BITS, CLASSES = 64, 200


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", required=True, help="a CLIP")
    parser.add_argument("--photos", type=Path, required=True, help="folder of class folders")
    parser.add_argument("--batch_size", type=int, default=32, help="photos hashed at a time")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("outputs/checkpoint_sizes.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    rows, how = [], (arguments.repeats, arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = build_model(arguments.model_name_or_path)
        pixel_values = read_photos(arguments.photos, arguments.batch_size, model)
        name = f"{Path(arguments.model_name_or_path).name}, {arguments.photos.parent.name}"
        rows += measure_forms(name, model, pixel_values, Path(folder) / "given", *how)

        CLIPModel(CLIPConfig()).save_pretrained(f"{folder}/vit-b-32")
        model = build_model(f"{folder}/vit-b-32")
        pixel_values = torch.randn(arguments.batch_size, 3, 224, 224)
        rows += measure_forms("ViT-B/32, random weights", model, pixel_values, Path(folder) / "random", *how)

    results = {
        "rows": rows,
        "bits": BITS,
        "classes": CLASSES,
        "batch_size": arguments.batch_size,
        "repeats": arguments.repeats,
        "threads": arguments.threads,
        "seed": 0,
        "cpu": cpu_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "onnxruntime": onnxruntime.__version__,
        "concepthash_hf": concepthash_hf.__version__,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


def build_model(clip: str) -> ConceptHashModel:
    """An untrained model whose trained parts have been moved, so that they count."""
    width = CLIPConfig.from_pretrained(clip).text_config.hidden_size
    embeddings = torch.randn(CLASSES, width)
    names = [f"class {i}" for i in range(CLASSES)]
    model = ConceptHashModel.from_clip(clip, names, class_embeddings=embeddings, num_bits=BITS, preset="paper")
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model


def read_photos(folder: Path, number: int, model: ConceptHashModel) -> torch.Tensor:
    """Pixels of photos from all over the list of a folder."""
    listed = list_photos(folder)
    chosen = listed.select([row * len(listed) // number for row in range(number)])
    photos = PhotoDataset(chosen, eval_transform(model.image_processor), label_column=None)
    return torch.stack([photo["pixel_values"] for photo in photos])


def measure_forms(
    name: str, model: ConceptHashModel, pixel_values: torch.Tensor, folder: Path, repeats: int, threads: int
) -> list[dict[str, Any]]:
    """Every form of one model, each written, loaded and asked for code logits."""
    model.vision_model.hash_head.batch_norm.momentum = 1.0  # the statistics of this batch alone
    with torch.no_grad():
        model.train()(pixel_values)
        reference = model.eval()(pixel_values).code_logits.numpy()
    lean = copy.deepcopy(model)
    lean.text_model = lean.config.text_config = None

    def load(kind: type[PreTrainedModel], form: str) -> Callable[[], np.ndarray]:
        loaded = kind.from_pretrained(folder / form)
        return torch.no_grad()(lambda: loaded(pixel_values).code_logits.numpy())

    def load_onnx() -> Callable[[], np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", options)
        return lambda: session.run(["code_logits"], {"pixel_values": pixel_values.numpy()})[0]

    whole, small = "model.safetensors", WEIGHTS_NAME
    rows = []
    for form, file, write, load_form in (
        ("whole", whole, model.save_pretrained, lambda: load(ConceptHashModel, "whole")),
        ("whole, no text tower", whole, lean.save_pretrained, lambda: load(ConceptHashModel, "whole, no text tower")),
        ("small", small, partial(model.save_pretrained, trained_only=True), lambda: load(ConceptHashModel, "small")),
        ("small, tower alone", None, None, lambda: load(ConceptHashVisionModel, "small")),
        ("onnx", "model.onnx", lambda path: export_onnx(model, path / "model.onnx"), load_onnx),
    ):
        write_seconds = timed(lambda write=write, form=form: write(folder / form))[0] if write else None
        load_seconds, hash_photos = timed(load_form, repeats)
        hash_seconds, code_logits = timed(hash_photos, repeats)
        rows.append(
            {
                "model": name,
                "form": form,
                "bytes": (folder / form / file).stat().st_size if file else None,
                "write_seconds": write_seconds,
                "load_seconds": load_seconds,
                "hash_seconds": hash_seconds,
                "largest_difference": float(np.abs(code_logits - reference).max()),
                "same_codes": bool((pack_bits(code_logits > 0) == pack_bits(reference > 0)).all()),
            }
        )
    return rows


def timed(function: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Median of seconds, and what the function gives."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def table(results: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        f"| model | kept as | MB | s to write | s to load | s to hash {results['batch_size']} photos | codes | "
        "largest difference of a logit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["rows"]:
        size = f"{row['bytes'] / 1e6:.1f}" if row["bytes"] else ""
        written = f"{row['write_seconds']:.1f}" if row["write_seconds"] else ""
        lines.append(
            f"| {row['model']} | {row['form']} | {size} | {written} | {row['load_seconds']:.2f} | "
            f"{row['hash_seconds']:.2f} | {'the same' if row['same_codes'] else 'differ'} | "
            f"{row['largest_difference']:.1e} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
