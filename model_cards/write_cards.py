"""Write the cards of the benchmarks' models, and fill them in from runs.

    python model_cards/write_cards.py                                  # a card for each model, "not trained yet"
    python model_cards/write_cards.py outputs/cub200-64-20260101-1200  # fills in the card of this run's model

A card that a run has filled in stays until another run fills it in. `template.md` is the one that the package uses.
"""

import json
import sys
from pathlib import Path

from transformers import CLIPTextConfig

from concepthash_hf import ConceptHashConfig
from concepthash_hf.data import BENCHMARKS
from concepthash_hf.model_card import CardPhotos, model_card

CARDS = Path(__file__).parent
BASE = "openai/clip-vit-base-patch32"
ORGANISATION = "org"
NUM_BITS = (16, 32, 64)
# a class of each benchmark, for the snippet that searches with words
EXAMPLE_CLASSES = {
    "cub200": "001.Black_footed_Albatross",
    "nabirds": "Common Eider",
    "aircraft": "737-300",
    "cars196": "AM General Hummer SUV 2000",
}
NOT_TRAINED = "> **Not trained yet.**"


def main() -> None:
    """Write what is not there yet, then fill in the runs given."""
    for benchmark in EXAMPLE_CLASSES:
        for num_bits in NUM_BITS:
            path = card_path(benchmark, num_bits)
            if not path.exists() or NOT_TRAINED in path.read_text(encoding="utf-8"):
                card = model_card(
                    planned_config(benchmark, num_bits), CardPhotos.from_benchmark(benchmark), hub_id(path)
                )
                card.save(path)
    for run in map(Path, sys.argv[1:]):
        fill_in(run)


def fill_in(run: Path) -> None:
    """Write the card of a benchmark's model from what its run measured; without figure, which shows its photos."""
    config = ConceptHashConfig.from_pretrained(run)
    results = json.loads((run / "all_results.json").read_text(encoding="utf-8"))
    benchmark, base = results["photos"]["name"], config.base_model_name_or_path
    if benchmark not in EXAMPLE_CLASSES or config.num_bits not in NUM_BITS or base != BASE:
        sys.exit(
            f"error: {run} holds a model of {config.num_bits} bits on {benchmark}, built on {base}; there are cards "
            f"for {list(NUM_BITS)} bits on {list(EXAMPLE_CLASSES)}, built on {BASE}"
        )
    path = card_path(benchmark, config.num_bits)
    model_card(config, CardPhotos.from_benchmark(benchmark), hub_id(path), results).save(path)
    print(f"filled in {path}")


def card_path(benchmark: str, num_bits: int) -> Path:
    """Where the card of a model is."""
    return CARDS / f"{benchmark}-{num_bits}.md"


def hub_id(path: Path) -> str:
    """Where its model is to be published."""
    return f"{ORGANISATION}/concepthash-{path.stem}"


def planned_config(benchmark: str, num_bits: int) -> ConceptHashConfig:
    """The published recipe at ViT-B/32, text tower kept."""
    classes = BENCHMARKS[benchmark].num_classes
    return ConceptHashConfig(
        vision_config={"projection_dim": 512},
        text_config=CLIPTextConfig().to_dict(),
        class_embedding_dim=CLIPTextConfig().hidden_size,
        base_model_name_or_path=BASE,
        num_bits=num_bits,
        id2label={0: EXAMPLE_CLASSES[benchmark], **{label: f"class {label}" for label in range(1, classes)}},
    )


if __name__ == "__main__":
    main()
