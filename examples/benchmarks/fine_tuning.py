"""Is a saved model a better start for new classes than none? Toy birds, 18 species to learn from, 6 held out.

    python examples/benchmarks/fine_tuning.py outputs/fine_tuning

Trains on 18 species, then on the 6 others for 2 epochs: from that model, and from scratch. Writes fine_tuning.json.
"""

import json
import subprocess
import sys
from pathlib import Path

from concepthash_hf.data.toy_birds import SPECIES, split_species, toy_birds
from concepthash_hf.toy_clip import save_toy_clip

TRAIN = Path(__file__).parents[1] / "train.py"
FROM_SCRATCH = "--freeze_backbone false --num_bits 32 --adapter_dim 32 --diversity_weight 2".split()
RECIPE = (
    "--preset paper --augmentation gentle --optimizer adamw --learning_rate 1e-3 --weight_decay 0.05 "
    "--overwrite_output_dir"
).split()


def train(dataset: Path, model: Path, output: Path, epochs: int, options: list[str]) -> dict:
    """One run of examples/train.py; what it measured."""
    paths = ["--dataset", str(dataset), "--model_name_or_path", str(model), "--output_dir", str(output)]
    command = [sys.executable, str(TRAIN), *paths, "--num_train_epochs", str(epochs), *RECIPE, *options]
    subprocess.run(command, check=True)
    return json.loads((output / "all_results.json").read_text())


def main(folder: Path) -> None:
    """Train three models and compare two of them."""
    kept, held_out = split_species()
    toy_birds(species=kept).save_to_disk(folder / "kept")
    toy_birds(species=held_out).save_to_disk(folder / "held_out")
    save_toy_clip(folder / "clip", [species.name for species in SPECIES])
    base = train(folder / "kept", folder / "clip", folder / "base", 50, FROM_SCRATCH)
    tuned = train(folder / "held_out", folder / "base", folder / "tuned", 2, ["--freeze_backbone", "false"])
    scratch = train(folder / "held_out", folder / "clip", folder / "scratch", 2, FROM_SCRATCH)
    report = {
        "species": {"kept": len(kept), "held_out": len(held_out)},
        "map_base_on_kept_after_50_epochs": base["eval_map"],
        "map_on_held_out_after_2_epochs": {
            "from_the_saved_model": tuned["eval_map"],
            "from_scratch": scratch["eval_map"],
        },
        "arguments": tuned["arguments"],
        "environment": tuned["environment"],
    }
    Path(__file__).with_name("fine_tuning.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
