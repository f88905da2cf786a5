"""Train a ConceptHash model, or one of another method, and measure how well its codes retrieve."""

import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import datasets
import torch
import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, set_seed
from torch.utils.data import Dataset, Sampler
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BaseImageProcessor,
    Dinov2Config,
    PreTrainedTokenizerBase,
)

from .. import BaselineConfig, BaselineModel, ConceptHashConfig, ConceptHashModel
from ..base_models import vision_config_of
from ..building import A_TEXT_MODEL, text_source
from ..checkpoints import find_checkpoint
from ..class_checks import check_distinct_embeddings
from ..data import (
    BadImageError,
    PhotoArguments,
    PhotoDataset,
    PhotoSplits,
    StreamingPhotoDataset,
    class_balanced_sampler,
    describe_photos,
    eval_transform,
    train_transform,
)
from ..data.bad_images import BadImage, find_bad_images
from ..data.load import named_splits
from ..data.transforms import Preset as AugmentationPreset
from ..explain import concept_sheet
from ..frozen_states import frozen_states_size, keep_frozen_states
from ..hasher import load_image_processor
from ..hashing import fast_in_bfloat16, on_cpu
from ..hub import ensure_repo, push_to_hub
from ..language import clean_class_name, embed_class_names, load_tokenizer
from ..launch import keep_freed_memory, use_own_cores
from ..methods import METHODS, TRAINED
from ..model_card import CardPhotos, write_model_card
from ..presets import LARGEST_CACHE, Preset, model_fields, num_epochs, training_fields
from ..region_learning import learn_regions, take_regions
from ..seeds import derived_seed
from ..together import one_writer_of_all
from ..toy_clip import save_toy_clip
from ..training import ConceptHashTrainingArguments, check_all_labelled, check_output_dir, train
from ..whole_files import SCRATCH, write_json
from .arguments import ArgumentReader, WrongCallError
from .picture_files import save_picture

TOY_BIRDS, CONCEPTHASH = "toy_birds", "concepthash"
Model = ConceptHashModel | BaselineModel
BAD_SHOWN = 3  # unreadable photos in a message
# for photos of one's own
DEFAULT_VISION, TEXT = "facebook/dinov2-small", A_TEXT_MODEL
# from scratch, on two cores, in a few minutes
TOY_RECIPE: dict[str, Any] = {
    "preset": "paper",
    "augmentation": "gentle",
    "num_bits": 32,
    "adapter_dim": 32,
    "freeze_backbone": False,
    "diversity_weight": 2.0,
    "num_train_epochs": 50,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
    "license": "apache-2.0",
}
# what a saved model has learned cannot be changed by fine-tuning it
FIXED_BY_TRAINING = (
    *("num_bits", "num_concepts", "adapter_dim", "binarize_class_embeddings"),
    *("first_adapted_layer", "image_size", "read_out"),
)


@dataclass(frozen=True, kw_only=True)
class TrainingPhotoArguments(PhotoArguments):
    """Which photos, and how they are shown to the model."""

    dataset: str | None = field(
        default=TOY_BIRDS,
        metadata={
            "help": "A folder of class folders, perhaps in train/ and test/, a table, a benchmark's short name, or a "
            "Hub id; default toy birds, which have a recipe of their own."
        },
    )
    augmentation: AugmentationPreset | None = field(
        default=None,
        metadata={"help": "Preset of transforms; default that of --preset, for fast none: it pays in long runs only."},
    )
    cache_frozen_layers: bool | None = field(
        default=None,
        metadata={
            "help": "Compute the layers before the concept tokens once and train on what they gave; default yes with "
            "--preset fast, where that takes no more than 8 GB of disk."
        },
    )
    cached_views: int = field(default=1, metadata={"help": "Augmented views of a photo in that cache."})
    class_balanced: bool = field(default=False, metadata={"help": "Draw every class equally often (skewed sets)."})
    on_bad_image: Literal["raise", "skip"] = field(
        default="raise", metadata={"help": "What to do with unreadable photos."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cached_views < 1:
            raise ValueError(f"cached_views must be at least 1, got {self.cached_views}")


@dataclass
class ModelArguments:
    """Which model; what is not given has the default of `ConceptHashConfig`, or of the saved model."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "aliases": ["--model"],
            "help": "A DINOv2, ViT, CLIP or SigLIP to build on, or a saved ConceptHash model to fine-tune; default "
            f"{DEFAULT_VISION}, and for toy birds a small random one.",
        },
    )
    text_model_name_or_path: str | None = field(
        default=None,
        metadata={"help": f"The words' tower: a CLIP, a SigLIP, a sentence encoder; default its own, or {TEXT}."},
    )
    method: str = field(
        default=CONCEPTHASH,
        metadata={
            "choices": (CONCEPTHASH, *TRAINED),
            "help": "What trains the codes: ConceptHash, or another method to compare with, on the same backbone.",
        },
    )
    preset: Literal["fast", "paper"] = field(
        default="fast", metadata={"help": "The design and training that does well in minutes, or the published one."}
    )
    image_size: int | None = field(
        default=None,
        metadata={"help": "Side of the photos in pixels, a multiple of the patch size."},
    )
    first_adapted_layer: int | None = field(
        default=None, metadata={"help": "Where the concept tokens join, and adapters begin; default the preset's."}
    )
    read_out: Literal["attention", "regions"] | None = field(
        default=None,
        metadata={
            "help": "Whether concepts attend to the whole photo (default), or each sees its region alone, so that its "
            "bits cannot depend on anything else; regions are learned first. See docs/faithful.md."
        },
    )
    num_bits: int | None = field(default=None, metadata={"help": "Length of a code; default 64, of toy birds 32."})
    num_concepts: int | None = field(default=None, metadata={"help": "Sub-codes in a code; default 4."})
    adapter_dim: int | None = field(default=None, metadata={"help": "Width of the adapters; default the preset's."})
    freeze_backbone: bool | None = field(default=None, metadata={"help": "Leave the backbone's weights; default yes."})
    binarize_class_embeddings: bool | None = field(
        default=None, metadata={"help": "Read the sign of class embeddings in place of their values."}
    )
    diversity_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the loss that spreads the concepts; default 1, of toy birds 2, in --preset fast with "
            "regions 0."
        },
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Upload the output folder when done."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Where to; default the output folder's name."})
    include_code: bool = field(
        default=False, metadata={"help": "Upload the model's code too, for those without this package."}
    )
    license: str | None = field(
        default=None, metadata={"help": "Of the weights, for the card: apache-2.0, cc-by-nc-4.0, ..."}
    )

    def config_kwargs(self) -> dict[str, Any]:
        """The fields of the model's config that were given."""
        others = (
            *("model_name_or_path", "text_model_name_or_path", "method", "preset"),
            *("push_to_hub", "hub_model_id", "include_code", "license"),
        )
        return {name: value for name, value in asdict(self).items() if value is not None and name not in others}


def main(words: Sequence[str] | None = None) -> Path:
    """Parse, load, train, write.

    Args:
        words: of the command line; default those of this process.

    Returns:
        The folder of the model.
    """
    photo_args, model_args, args = parse_arguments(list(sys.argv[1:] if words is None else words))
    state = PartialState(cpu=on_cpu())
    keep_freed_memory()
    if state.device.type == "cpu" and state.num_processes == 1:
        use_own_cores()
    checkpoint = find_checkpoint(args.resume_from_checkpoint)
    if args.output_dir is None and checkpoint is not None:
        args.output_dir = str(checkpoint.parent)  # go on in the same folder
    if args.output_dir is not None:
        check_output_dir(args)
    splits = load_splits(photo_args, state, args.dataloader_num_workers)
    set_seed(args.seed)
    model, tokenizer = load_model(model_args, splits)
    if isinstance(model, ConceptHashModel):
        read = model.class_embeddings.sign() if model.config.binarize_class_embeddings else model.class_embeddings
        check_distinct_embeddings(read, splits.class_names)
    if args.output_dir is None:
        args.output_dir = new_output_dir(f"outputs/{splits.name}-{model.config.num_bits}", state)
    repo_id = model_args.hub_model_id or Path(args.output_dir).name
    if model_args.push_to_hub and state.is_main_process:
        repo_id = ensure_repo(repo_id)

    processor = model.image_processor
    keeps_states = keeps_frozen_states(photo_args, model_args.preset, model, splits)
    augmentation = choose_augmentation(photo_args, model_args.preset, keeps_states)
    photos = torch_datasets(photo_args, splits, augmentation, processor)
    num_photos = splits.counts.get("train")
    if num_photos is not None:
        photos_per_step = args.per_device_train_batch_size * state.num_processes * args.gradient_accumulation_steps
        args = args.with_epochs(num_epochs(model_args.preset, num_photos // photos_per_step))
    regions = None
    if isinstance(model, ConceptHashModel) and needs_regions(model):
        regions = give_regions(model, photo_args, args, splits, state)
    started = time.perf_counter()
    with ExitStack() as stack:
        stack.enter_context(one_writer_of_all(state, args.output_dir))
        check_output_dir(args)  # somebody may have come before
        train_photos: Dataset = photos["train"]
        if keeps_states:
            train_photos = stack.enter_context(
                keep_frozen_states(
                    model,
                    train_photos,
                    f"{args.output_dir}/{SCRATCH}frozen_states",
                    [derived_seed(args.seed, view) for view in range(photo_args.cached_views)],
                    mixed_precision=args.mixed_precision,
                    batch_size=args.per_device_eval_batch_size,
                    num_workers=args.dataloader_num_workers,
                )
            )
        seconds_of_cache = time.perf_counter() - started
        results = train(
            model,
            train_photos,
            args,
            photos["query"],
            photos["database"],
            train_sampler=sampler_of(photo_args, photos["train"]),
            saved_beside=[processor, *([tokenizer] if tokenizer else [])],
        )
    folder = Path(args.output_dir)
    if not state.is_main_process:
        return folder
    for dataset in photos.values():
        dataset.report_bad_images()
    results |= {"photos": {"name": splits.name, **splits.counts}}
    results |= {"method": model_args.method, "preset": model_args.preset}
    results |= {"augmentation": augmentation, "cached_views": photo_args.cached_views if keeps_states else None}
    if keeps_states:
        results["cache_runtime"] = seconds_of_cache
    if regions is not None:
        results["regions"] = regions
    write_json(folder / "all_results.json", results)
    if isinstance(model, ConceptHashModel):
        write_figure(folder, model, processor, photos["query"], splits)
    write_model_card(folder, model.config, CardPhotos.from_splits(splits), results, repo_id, model_args.license)
    print(f"mAP {results['eval_map']:.4f} ({results['eval_num_queries']} queries); model in {folder}")
    if model_args.push_to_hub:
        commit = push_to_hub(folder, repo_id, include_code=model_args.include_code)
        print(f"uploaded: {commit.commit_url}")
    return folder


def parse_arguments(words: list[str]) -> tuple[TrainingPhotoArguments, ModelArguments, ConceptHashTrainingArguments]:
    """Command line, file -> arguments; the toy birds from scratch have defaults of their own."""
    reader = ArgumentReader((TrainingPhotoArguments, ModelArguments, ConceptHashTrainingArguments))
    reader.set_defaults(output_dir=None)
    if words and words[0].endswith((".json", ".yaml", ".yml")):
        from_file = read_argument_file(words[0])
        known = {field.name for kind in reader.dataclass_types for field in fields(kind)}
        if unknown := from_file.keys() - known:
            raise WrongCallError(f"unknown options in the file of arguments: {sorted(unknown)}")
        words = [*(f"--{name}={value}" for name, value in from_file.items()), *words[1:]]
    photo_args, model_args, _ = reader.read(words)
    path = model_args.model_name_or_path
    if path is None and photo_args.dataset == TOY_BIRDS:
        others = {} if model_args.method == CONCEPTHASH else {"diversity_weight": None}  # it has no such loss
        reader.set_defaults(**(TOY_RECIPE | others))
        return reader.read(words)
    if path is None:
        reader.set_defaults(model_name_or_path=DEFAULT_VISION, text_model_name_or_path=TEXT)
        print(f"building on {DEFAULT_VISION}, with the words of {TEXT}", flush=True)
    base = Dinov2Config() if path is None else _load_config(path)  # what is wrong with the photos is said first
    design, method = design_of(base, model_args)
    has_adapters = method == CONCEPTHASH or METHODS[method].adapters
    recipe = training_fields(model_args.preset, design.get("first_adapted_layer", 0), adapters=has_adapters)
    if model_args.preset == "fast" and fast_in_bfloat16():
        recipe["mixed_precision"] = "bf16"
    reader.set_defaults(**recipe)
    return reader.read(words)


def design_of(base: Any, args: ModelArguments) -> tuple[dict[str, Any], str]:
    """Fields of the model that is going to be trained, and its method: a new one on this base, or the one that is."""
    if isinstance(base, BaselineConfig):
        return vars(base.vision_config), base.method
    if isinstance(base, ConceptHashConfig):
        return vars(base.vision_config), CONCEPTHASH
    design = model_fields(args.preset, vision_config_of(base), args.read_out or "attention")
    return design | args.config_kwargs(), args.method


def load_splits(args: TrainingPhotoArguments, state: PartialState, num_workers: int) -> PhotoSplits:
    """The photos, all of which can be read, or are left out when they are met."""
    named = named_splits(str(args.dataset), args)
    if both := named["query"] & named["train"]:
        raise WrongCallError(
            f"{', '.join(sorted(both))} is to be trained on and asked with: what is measured would say nothing of new "
            "photos. Give another --query_split"
        )
    with state.main_process_first():  # the others find in the cache what the first has prepared
        splits = args.load_photos(args.on_bad_image)
    if state.is_main_process:
        print(describe_photos(splits), flush=True)
    if isinstance(splits.train, datasets.Dataset):
        check_all_labelled(splits.train[splits.label_column][:])
    if args.on_bad_image == "raise":
        check_photos(splits, state, num_workers)
    elif state.num_processes > 1 or args.cache_frozen_layers is not False:
        splits, _ = splits.without_bad_images()  # skipping leaves batches of different sizes, which do not gather
    return splits


def torch_datasets(
    args: TrainingPhotoArguments, splits: PhotoSplits, augmentation: AugmentationPreset, processor: BaseImageProcessor
) -> dict[str, PhotoDataset | StreamingPhotoDataset]:
    """What is trained on, asked with and searched."""
    seen, shown = eval_transform(processor), train_transform(augmentation, processor)
    return {
        "train": splits.torch_dataset("train", shown, on_bad_image=args.on_bad_image),
        "query": splits.torch_dataset("query", seen, on_bad_image=args.on_bad_image),
        "database": splits.torch_dataset("database", seen, on_bad_image=args.on_bad_image),
    }


def choose_augmentation(args: TrainingPhotoArguments, preset: Preset, keeps_states: bool) -> AugmentationPreset:
    """As asked for; else the published one, unless photos are seen few times or one view of each is kept."""
    one_view = keeps_states and args.cached_views == 1
    few_times = preset == "fast" and not (keeps_states and args.cached_views > 1)
    augmentation = args.augmentation or ("none" if one_view or few_times else "paper")
    if one_view and augmentation != "none":
        raise WrongCallError(
            f"--cache_frozen_layers keeps one view of every photo, and --augmentation {augmentation} draws a new one "
            "each epoch: say how many to keep with --cached_views, or train with --augmentation none"
        )
    return augmentation


def sampler_of(args: TrainingPhotoArguments, photos: PhotoDataset | StreamingPhotoDataset) -> Sampler | None:
    """The order of the photos, where it is not just shuffled."""
    if not args.class_balanced:
        return None
    if isinstance(photos, StreamingPhotoDataset):
        raise WrongCallError("--class_balanced draws photos by their classes, which a stream does not know beforehand")
    return class_balanced_sampler(photos.labels, generator=torch.Generator())


def needs_regions(model: ConceptHashModel) -> bool:
    """Whether the concepts of a model see regions, and these have not been learned: a saved model has its own."""
    read_out = model.vision_model.read_out
    return model.vision_model.config.read_out == "regions" and not read_out.head.is_learned


def give_regions(
    model: ConceptHashModel,
    photo_args: TrainingPhotoArguments,
    args: ConceptHashTrainingArguments,
    splits: PhotoSplits,
    state: PartialState,
) -> dict[str, Any] | None:
    """Take the regions of the checkpoint, or learn them, and say what was learned."""
    checkpoint = find_checkpoint(args.resume_from_checkpoint)
    if checkpoint is not None:
        take_regions(model, checkpoint)
        return None
    model.to(state.device)
    seen = splits.torch_dataset("train", eval_transform(model.image_processor), on_bad_image=photo_args.on_bad_image)
    return learn_regions(model, seen, seed=args.seed, num_workers=args.dataloader_num_workers)


def keeps_frozen_states(args: TrainingPhotoArguments, preset: Preset, model: Model, splits: PhotoSplits) -> bool:
    """Whether the frozen layers are computed once: as asked for, else for small sets by the fast preset."""
    if args.cache_frozen_layers is not None:
        return args.cache_frozen_layers
    joins_late = model.vision_model.config.first_adapted_layer > 0 and model.config.freeze_backbone
    num_photos = splits.counts.get("train")  # None of a stream
    new_each_epoch = args.cached_views == 1 and args.augmentation not in (None, "none")
    if preset != "fast" or not joins_late or num_photos is None or new_each_epoch:
        return False
    return frozen_states_size(model, num_photos, args.cached_views) <= LARGEST_CACHE


def read_argument_file(path: str) -> dict[str, str]:
    """Options by name; as texts, which argparse then reads as it does on the command line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        options = yaml.load(text, Loader=yaml.BaseLoader) or {}  # JSON is YAML too
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read the file of arguments {path}: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"the file of arguments {path} should hold options by name, e.g. num_bits: 32")
    if several := sorted(f"{name}" for name, value in options.items() if not isinstance(value, str)):
        raise ValueError(f"the file of arguments {path} should hold one value for each option, not for {several}")
    return {name: value for name, value in options.items() if value not in ("", "null")}


def check_photos(splits: PhotoSplits, state: PartialState, num_workers: int) -> None:
    """Read them all once: an unreadable photo would else be met in the middle, or after the last epoch.

    Raises:
        ValueError: if some cannot be read.
    """
    bad: list[BadImage] = []
    if state.is_main_process:
        different = {id(photos): photos for photos in (splits.train, splits.query, splits.database)}
        for photos in different.values():
            if isinstance(photos, datasets.Dataset):
                bad += find_bad_images(photos, splits.image_column, num_workers)
    (bad,) = broadcast_object_list([bad])
    if bad:
        named = "; ".join(f"{image.path}: {image.reason}" for image in bad[:BAD_SHOWN])
        more = f"; and {len(bad) - BAD_SHOWN} more" if len(bad) > BAD_SHOWN else ""
        raise ValueError(
            f"{len(bad)} of the photos cannot be read ({named}{more}): leave them out with --on_bad_image skip, or "
            "repair them"
        )


def new_output_dir(stem: str, state: PartialState) -> str:
    """Make a folder that no other run has, the same for all processes."""
    stem = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = None
    if state.is_main_process:
        for folder in itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2))):
            try:
                Path(folder).mkdir(parents=True)
                break
            except FileExistsError:
                continue
    return broadcast_object_list([folder])[0]


def load_model(args: ModelArguments, splits: PhotoSplits) -> tuple[Model, PreTrainedTokenizerBase | None]:
    """A new model on a backbone, or a saved one with the classes of these photos; and the tokenizer it needs."""
    path = args.model_name_or_path
    base = None if path is None else _load_config(path)
    if path is not None and isinstance(base, ConceptHashConfig) and args.method == CONCEPTHASH:
        return _load_for_fine_tuning(path, args.config_kwargs(), splits)
    if isinstance(base, ConceptHashConfig | BaselineConfig):
        raise ValueError(
            f"{path} is a trained model, which only a ConceptHash is fine-tuned from: give a backbone to train "
            f"--method {args.method} on"
        )
    new: dict[str, Any] = {"class_names": splits.class_names, "template": splits.template, "preset": args.preset}
    new |= args.config_kwargs()
    if path is not None:
        text = text_source(path, args.text_model_name_or_path) or TEXT
        if args.method != CONCEPTHASH:
            return BaselineModel.from_backbone(path, method=args.method, text=text, **new), None
        return ConceptHashModel.from_backbone(path, text=text, **new), load_tokenizer(text)
    # transformers saves on the first process only, so all read what that one has written
    state = PartialState()
    (folder,) = broadcast_object_list([tempfile.mkdtemp() if state.is_main_process else None])
    if state.is_main_process:
        save_toy_clip(folder, splits.class_names)
    state.wait_for_everyone()
    model: Model
    tokenizer = None
    if args.method != CONCEPTHASH:
        model = BaselineModel.from_backbone(folder, method=args.method, **new)
    else:
        model, tokenizer = ConceptHashModel.from_clip(folder, **new), AutoTokenizer.from_pretrained(folder)
    model.config.base_model_name_or_path = None
    state.wait_for_everyone()
    if state.is_main_process:
        shutil.rmtree(folder)
    return model, tokenizer


def _load_config(path: str) -> Any:
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--model_name_or_path {path} cannot be loaded ({' '.join(str(error).split())}). Without a network, give "
            "folders: --model_name_or_path with a DINOv2, ViT, CLIP or SigLIP, --text_model_name_or_path with a CLIP"
        ) from error


def _load_for_fine_tuning(
    path: str, config_kwargs: dict[str, Any], splits: PhotoSplits
) -> tuple[ConceptHashModel, PreTrainedTokenizerBase]:
    """Backbone, adapters, concepts and hash function stay; class embeddings and centroids are of the new classes."""
    saved = AutoConfig.from_pretrained(path)
    for name in FIXED_BY_TRAINING:
        has = getattr(saved if hasattr(saved, name) else saved.vision_config, name)
        if config_kwargs.get(name, has) != has:
            raise ValueError(f"--{name} {config_kwargs[name]}: the saved model {path} has {has}")
    changed = {name: value for name, value in config_kwargs.items() if name not in FIXED_BY_TRAINING}
    model = ConceptHashModel.from_pretrained(path, **changed)
    if model.text_model is None:
        raise ValueError(f"{path} was saved without its text tower, which new class names need")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model.image_processor = load_image_processor(path)
    model.set_classes(
        splits.class_names, embed_class_names(model.text_model, tokenizer, splits.class_names, splits.template)
    )
    model.config.prompt_template = splits.template
    return model, tokenizer


def write_figure(
    folder: Path,
    model: ConceptHashModel,
    processor: BaseImageProcessor,
    query_photos: PhotoDataset | StreamingPhotoDataset,
    splits: PhotoSplits,
) -> None:
    """A first picture, beside the weights: where the concepts look."""
    shown = some_photos(query_photos, 4)
    names = [class_names_of(photo["labels"], splits.query_class_names) for photo in shown]
    captions = [", ".join(map(clean_class_name, words)) for words in names]
    pixel_values = torch.stack([photo["pixel_values"] for photo in shown])
    save_picture(concept_sheet(model, pixel_values, processor, captions), folder / "concepts.png")


def class_names_of(labels: int | torch.Tensor, names: Sequence[str]) -> list[str]:
    """Names of a photo's one label, or of its multi-hot labels."""
    return [names[labels]] if isinstance(labels, int) else [names[label] for label in labels.nonzero().flatten()]


def some_photos(dataset: PhotoDataset | StreamingPhotoDataset, number: int) -> list[dict[str, Any]]:
    """A few readable photos: of classes from all over the list, or the beginning of a stream."""
    if isinstance(dataset, StreamingPhotoDataset):
        return list(itertools.islice(dataset, number))
    first_of_class: dict[Any, int] = {}
    for row, label in enumerate(dataset.labels):
        first_of_class.setdefault(label if isinstance(label, int) else tuple(label), row)
    rows = [first_of_class[label] for label in sorted(first_of_class)]
    photos = []
    for row in rows[:: max(1, len(rows) // number)][:number]:
        try:
            photos.append(dataset[row])
        except BadImageError:
            continue
    return photos
