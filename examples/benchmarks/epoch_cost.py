"""What does an epoch cost whose frozen layers are kept, beside one in which all layers are adapted?

    python examples/benchmarks/epoch_cost.py --dataset cub100 --output examples/benchmarks/epoch_cost.json

Both from the start of an epoch to its end, through `training.train` as `examples/train.py` calls it, in shapes of
dinov2-small with random weights, 64 bits, 4 concepts, batches of 32: one from photo files, adapters in all layers,
the other from the states that the frozen layers gave. They take turns; a ratio is that of the fastest repeats. What
keeping the states costs, once, stands beside it in epochs of the first kind.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from hashing_cost import SHAPES, circumstances
from torch.utils.data import Dataset, Subset
from training_cost import CLASSES, new_model
from transformers import BitImageProcessor

from concepthash_hf import ConceptHashModel
from concepthash_hf.data import eval_transform, load_photos
from concepthash_hf.frozen_states import keep_frozen_states
from concepthash_hf.launch import keep_freed_memory
from concepthash_hf.training import ConceptHashTrainingArguments, train

PRECISIONS = {"bfloat16": "bf16", "float32": "no"}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help=f"photos as for train.py, of {CLASSES} classes at most")
    parser.add_argument("--num_photos", type=int, default=320, help="of its training photos, evenly spread")
    parser.add_argument("--shape", choices=SHAPES, default="dinov2-small")
    parser.add_argument("--first_adapted_layer", type=int, help="default that of the preset fast")
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("outputs/epoch_cost.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as scripts do
    size = SHAPES[args.shape].image_size
    processor = BitImageProcessor(size={"shortest_edge": round(size * 8 / 7)}, crop_size=size)
    photos = load_photos(args.dataset).torch_dataset("train", eval_transform(processor))
    number = min(args.num_photos, len(photos))
    photos = Subset(photos, torch.linspace(0, len(photos) - 1, number).int().tolist())
    results = {
        **circumstances(),
        "shape": args.shape,
        "num_photos": number,
        "repeats": args.repeats,
        "threads": args.threads,
        "seed": 0,
        "rows": [compare(args.shape, photos, args.first_adapted_layer, args.precision, args.repeats)],
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n")


def compare(
    shape: str, photos: Dataset, first_adapted_layer: int | None, precision: str, repeats: int
) -> dict[str, str | float]:
    """A row of the table: epochs of both kinds by turns."""
    torch.manual_seed(0)
    changed = {} if first_adapted_layer is None else {"first_adapted_layer": first_adapted_layer}
    kept = new_model("fast", SHAPES[shape], **changed)
    everywhere = new_model("fast", SHAPES[shape], first_adapted_layer=0)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with keep_frozen_states(kept, photos, f"{folder}/states", mixed_precision=PRECISIONS[precision]) as states:
            keeping = time.perf_counter() - started
            times = [
                (epoch(kept, states, precision, folder), epoch(everywhere, photos, precision, folder))
                for _ in range(repeats)
            ]
    ours, theirs = map(min, zip(*times, strict=True))
    row: dict[str, str | float] = {"what": f"epoch on kept frozen layers, {precision}"}
    row |= {"first_adapted_layer": kept.config.vision_config.first_adapted_layer}
    row |= {"against": "all layers adapted, from photo files", "seconds": ours, "seconds_against": theirs}
    row |= {"ratio": ours / theirs, "keeping": keeping, "keeping_in_epochs_against": keeping / theirs}
    row = {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}
    print(row, flush=True)
    return row


def epoch(model: ConceptHashModel, photos: Dataset, precision: str, folder: str) -> float:
    """Train for one epoch; its seconds, without making the model ready and saving it."""
    args = ConceptHashTrainingArguments(
        output_dir=f"{folder}/model",
        overwrite_output_dir=True,
        num_train_epochs=1,
        save_epochs=0,
        optimizer="adamw",
        lr_schedule="step",
        mixed_precision=PRECISIONS[precision],  # type: ignore[arg-type]
    )
    return train(model, photos, args)["train_runtime"]


if __name__ == "__main__":
    main()
