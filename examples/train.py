"""Train a ConceptHash model and measure how well its codes retrieve.

    accelerate launch examples/train.py
    accelerate launch examples/train.py --dataset path/to/photos --model_name_or_path openai/clip-vit-base-patch32

Without arguments it trains on the embedded toy birds, from scratch, with no network and no GPU. `--help` lists the
options; a JSON or YAML file of them is taken in their place.
"""

import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, set_seed
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    BaseImageProcessor,
    HfArgumentParser,
    PreTrainedTokenizerBase,
)

from concepthash_hf import ConceptHashConfig, ConceptHashModel
from concepthash_hf.data import PhotoSplits, class_balanced_sampler, eval_transform, load_photos, train_transform
from concepthash_hf.explain import concept_sheet
from concepthash_hf.hub import push_folder, write_model_card
from concepthash_hf.language import embed_class_names
from concepthash_hf.toy_clip import save_toy_clip
from concepthash_hf.training import ConceptHashTrainingArguments, prepare_output_dir, train, write_json

TOY_BIRDS = "toy_birds"
# from scratch, on two cores, in a few minutes
TOY_RECIPE: dict[str, Any] = {
    "num_bits": 32,
    "adapter_dim": 32,
    "freeze_backbone": False,
    "num_train_epochs": 30,
    "optimizer": "adamw",
    "learning_rate": 2e-3,
    "weight_decay": 0.05,
}


@dataclass
class ScriptArguments:
    """Which model, on which photos."""

    dataset: str = field(
        default=TOY_BIRDS,
        metadata={"help": "toy_birds, a benchmark's short name, a Hub id, a folder with train/ and test/, a table."},
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A CLIP to build on, or a saved ConceptHash model to fine-tune. Only toy birds go without."},
    )
    num_bits: int = field(default=64, metadata={"help": "Length of a code."})
    num_concepts: int = field(default=4, metadata={"help": "Sub-codes in a code."})
    adapter_dim: int = field(default=384, metadata={"help": "Bottleneck width of the adapters."})
    freeze_backbone: bool = field(default=True, metadata={"help": "Leave CLIP's own vision weights as they are."})
    binarize_class_embeddings: bool = field(default=True, metadata={"help": "Read the sign of class embeddings."})
    diversity_weight: float = field(default=1.0, metadata={"help": "Weight of the loss that spreads the concepts."})
    data_dir: str | None = field(
        default=None, metadata={"help": "Where a benchmark's unpacked official archive is, instead of the Hub."}
    )
    class_balanced: bool = field(default=False, metadata={"help": "Draw every class equally often (skewed sets)."})
    augmentation: Literal["paper", "reference"] = field(default="paper", metadata={"help": "Preset of transforms."})
    on_bad_image: Literal["raise", "skip"] = field(default="raise", metadata={"help": "What to do with unreadable."})
    push_to_hub: bool = field(default=False, metadata={"help": "Upload the output folder when done."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Where to; default the output folder's name."})


def main() -> None:
    """Parse, load, train, write."""
    script, args = parse_arguments()
    state = PartialState()
    if state.device.type == "cpu" and state.num_processes == 1:
        torch.set_num_threads(len(os.sched_getaffinity(0)))  # accelerate launch leaves a process a single thread
    if args.output_dir is None:
        started = time.strftime("%Y%m%d-%H%M%S")
        # one name for all processes, whenever they got here
        (started,) = broadcast_object_list([started])
        args.output_dir = f"outputs/{Path(script.dataset).name}-{script.num_bits}-{started}"
    try:
        if state.is_main_process:
            prepare_output_dir(args)
        with state.main_process_first():  # the others find what the first has prepared in the cache
            splits = load_photos(script.dataset, data_dir=script.data_dir, on_bad_image=script.on_bad_image)
        set_seed(args.seed)
        model, tokenizer = load_model(script, splits)
    except ValueError as error:
        sys.exit(f"error: {error}")

    processor = model.image_processor
    evaluated = eval_transform(processor)
    augmented = train_transform(script.augmentation, processor)
    train_photos = splits.torch_dataset("train", augmented, on_bad_image=script.on_bad_image)
    sampler = (
        class_balanced_sampler(train_photos.labels, generator=torch.Generator()) if script.class_balanced else None
    )
    results = train(
        model,
        train_photos,
        args,
        query_dataset=splits.torch_dataset("query", evaluated, on_bad_image=script.on_bad_image),
        database_dataset=splits.torch_dataset("database", evaluated, on_bad_image=script.on_bad_image),
        train_sampler=sampler,
    )
    if state.is_main_process:
        write_outputs(Path(args.output_dir), script, splits, model, processor, tokenizer, results)
        print(f"mAP {results['eval_map']:.4f} ({results['eval_num_queries']} queries); model in {args.output_dir}")


def parse_arguments() -> tuple[ScriptArguments, ConceptHashTrainingArguments]:
    """Command line or file -> arguments; the toy birds from scratch have defaults of their own."""
    parser = HfArgumentParser((ScriptArguments, ConceptHashTrainingArguments))
    parser.set_defaults(output_dir=None)
    if len(sys.argv) == 2 and sys.argv[1].endswith((".json", ".yaml", ".yml")):
        return parser.parse_yaml_file(sys.argv[1])  # YAML is a superset of JSON
    first_look, _ = parser.parse_known_args()
    if first_look.dataset == TOY_BIRDS and first_look.model_name_or_path is None:
        parser.set_defaults(**TOY_RECIPE)
    return parser.parse_args_into_dataclasses()


def load_model(script: ScriptArguments, splits: PhotoSplits) -> tuple[ConceptHashModel, PreTrainedTokenizerBase]:
    """A new model around a CLIP, or a saved one with the classes of these photos."""
    path = script.model_name_or_path
    if path is None and splits.name != TOY_BIRDS:
        raise ValueError(
            "give --model_name_or_path: a CLIP such as openai/clip-vit-base-patch32, or a saved ConceptHash model"
        )
    if path is not None and _is_concepthash(path):
        return _load_for_fine_tuning(path, splits)
    new = {
        "class_names": splits.class_names,
        "template": splits.template,
        "num_bits": script.num_bits,
        "num_concepts": script.num_concepts,
        "adapter_dim": script.adapter_dim,
        "freeze_backbone": script.freeze_backbone,
        "binarize_class_embeddings": script.binarize_class_embeddings,
        "diversity_weight": script.diversity_weight,
    }
    if path is not None:
        return ConceptHashModel.from_clip(path, **new), AutoTokenizer.from_pretrained(path)
    with tempfile.TemporaryDirectory() as folder:
        save_toy_clip(folder, splits.class_names)
        model = ConceptHashModel.from_clip(folder, **new)
        model.config.base_model_name_or_path = None
        return model, AutoTokenizer.from_pretrained(folder)


def _is_concepthash(path: str) -> bool:
    try:
        return isinstance(AutoConfig.from_pretrained(path), ConceptHashConfig)
    except OSError as error:
        raise ValueError(f"--model_name_or_path {path} cannot be loaded: {error}") from error


def _load_for_fine_tuning(path: str, splits: PhotoSplits) -> tuple[ConceptHashModel, PreTrainedTokenizerBase]:
    """Backbone, adapters, concepts and hash function stay; class embeddings and centroids are of the new classes."""
    model = ConceptHashModel.from_pretrained(path)
    if model.text_model is None:
        raise ValueError(f"{path} was saved without its text tower, which new class names need")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model.image_processor = AutoImageProcessor.from_pretrained(path)
    model.set_classes(
        splits.class_names, embed_class_names(model.text_model, tokenizer, splits.class_names, splits.template)
    )
    return model, tokenizer


def write_outputs(
    folder: Path,
    script: ScriptArguments,
    splits: PhotoSplits,
    model: ConceptHashModel,
    processor: BaseImageProcessor,
    tokenizer: PreTrainedTokenizerBase,
    results: dict[str, Any],
) -> None:
    """What belongs beside the weights: processor, tokenizer, results, a first picture, the card; and the upload."""
    write_json(folder / "all_results.json", results | {"script_arguments": asdict(script), "photos": splits.counts})
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    photos = splits.torch_dataset("query", eval_transform(processor))
    shown = [photos[round(i * (len(photos) - 1) / 5)] for i in range(6)]
    captions = [splits.query_class_names[photo["labels"]] for photo in shown]
    pixel_values = torch.stack([photo["pixel_values"] for photo in shown])
    concept_sheet(model.eval(), pixel_values, processor, captions).save(folder / "concepts.png")
    repo_id = script.hub_model_id or folder.name
    write_model_card(folder, model.config, results, splits.name, repo_id)
    if script.push_to_hub:
        print(f"uploaded: {push_folder(folder, repo_id).commit_url}")


if __name__ == "__main__":
    main()
