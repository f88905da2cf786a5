"""The model card: what a model is, how to use it, and what was measured, from a template."""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .configuration_baseline import BaselineConfig
from .configuration_concepthash import ConceptHashConfig
from .data import BENCHMARKS, PhotoSplits
from .data.load import TOY_BIRDS
from .language import DEFAULT_TEMPLATE, clean_class_name
from .methods import METHODS
from .models import class_of, load_hash_config
from .objectives import OBJECTIVES
from .presets import PUBLISHED_EPOCHS
from .public_names import public_name
from .quoting import markdown, one_line, python_text, url
from .small_checkpoints import WEIGHTS_NAME as SMALL_WEIGHTS
from .training import ConceptHashTrainingArguments
from .whole_files import write_file

TEMPLATE = "model_card_template.md"
CARD = "README.md"
FIGURE = "concepts.png"

# say nothing about the model
_HIDDEN_ARGUMENTS = (
    *("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "report_to"),
    *("logging_steps", "eval_epochs", "save_epochs", "dataloader_num_workers"),
)
_METRIC_NAMES = {"precision": "Precision@{}", "recall": "Recall@{}", "hit_rate": "Hit rate@{}"}
_RANKS = (1, 5, 10)
_TAGS = ("image-hashing", "image-retrieval", "fine-grained")
_CONCEPTHASH_TAGS = ("concepthash", "image-hashing", "image-retrieval", "interpretability", "fine-grained")
_MODEL_ID = re.compile(r'^model_id = ".*"$', re.MULTILINE)
_CODE_NOTE = """\
Without `concepthash_hf`, with transformers alone, which then runs the code files of this repository:

```python
from transformers import AutoModel

model = AutoModel.from_pretrained(model_id, trust_remote_code=True)
codes = model.get_hash_codes(**inputs)
```
"""
_SMALL_NOTE = """\
This repository holds only what was trained. `from_pretrained` takes the frozen weights from {base}, after
checking that they are those of the training.
"""


@dataclass(frozen=True)
class CardPhotos:
    """What a card says about photos.

    Attributes:
        name: short name.
        title: for headings.
        train: photos to train on; None for a stream, whose length is not known. So are the others.
        query: photos to ask with.
        database: photos to be found.
        database_is_train: whether these are the training photos.
        link: where they can be had.
        description: where they are from, if no link says it.
        hub_id: dataset on the Hugging Face Hub.
        citation: of who made them.
    """

    name: str
    title: str
    train: int | None
    query: int | None
    database: int | None
    database_is_train: bool
    link: str = ""
    description: str = ""
    hub_id: str | None = None
    citation: str = ""

    @classmethod
    def from_benchmark(cls, name: str) -> "CardPhotos":
        """Of a benchmark, by its short name; counts are the published ones."""
        benchmark = BENCHMARKS[name]
        return cls(
            name=name,
            title=benchmark.title,
            train=benchmark.num_train,
            query=benchmark.num_query,
            database=benchmark.num_train,
            database_is_train=True,
            link=benchmark.homepage,
            hub_id=benchmark.hub_id,
            citation=benchmark.citation,
        )

    @classmethod
    def from_splits(cls, splits: PhotoSplits) -> "CardPhotos":
        """Of what was loaded; says nothing of where on this machine it was loaded from."""
        benchmark = BENCHMARKS.get(splits.name)
        counts = splits.counts
        from_hub = re.match(r"https://huggingface\.co/datasets/(\S+)", splits.source)
        return cls(
            name=splits.name,
            title=benchmark.title if benchmark else splits.name.replace("_", " "),
            train=counts.get("train"),
            query=counts.get("query"),
            database=counts.get("database"),
            database_is_train=splits.database is splits.train,
            link=from_hub[0] if from_hub else benchmark.homepage if benchmark else "",
            description="drawn by concepthash_hf" if splits.name == TOY_BIRDS else "",
            hub_id=from_hub[1] if from_hub else None,
            citation=splits.citation,
        )


def write_model_card(
    folder: str | Path,
    config: ConceptHashConfig | BaselineConfig,
    photos: CardPhotos,
    results: Mapping[str, Any],
    model_id: str,
    license: str | None = None,
) -> None:
    """Write the README.md of a trained model; it prints no measurement that `results` does not hold.

    Args:
        folder: of the saved model. The card shows the figure `concepts.png`, if it is there.
        config: of the model.
        photos: what it was trained and measured on.
        results: what `training.train` returned.
        model_id: where the snippets of the card load the model from: a Hub id or a folder.
        license: of the weights, as the Hub names it ("apache-2.0"); None if none was chosen.
    """
    folder = Path(folder)
    figure = FIGURE if (folder / FIGURE).is_file() else None
    write_file(folder / CARD, f"{model_card(config, photos, model_id, results, license=license, figure=figure)}")
    update_model_card(folder, model_id)


def model_card(
    config: ConceptHashConfig | BaselineConfig,
    photos: CardPhotos,
    model_id: str,
    results: Mapping[str, Any] | None = None,
    license: str | None = None,
    figure: str | None = None,
) -> ModelCard:
    """Render the template.

    Args:
        config: of the model.
        photos: what it is trained and measured on.
        model_id: where the snippets load it from.
        results: what `training.train` returned; None for a model that is not trained yet, whose card says so.
        license: of the weights, as the Hub names it.
        figure: file of the concept figure, relative to the card.

    Returns:
        The card, with `model-index` and other metadata.
    """
    base = public_name(config.base_model_name_or_path)
    method = METHODS[config.method] if isinstance(config, BaselineConfig) else None
    title = method.title if method else "ConceptHash"
    eval_results = _eval_results(photos, results or {})
    data = ModelCardData(
        license=license,
        library_name="concepthash_hf",
        pipeline_tag="image-feature-extraction",
        tags=list(_TAGS if method else _CONCEPTHASH_TAGS),
        datasets=[photos.hub_id] if photos.hub_id else None,
        base_model=base if base and "/" in base else None,
        model_name=f"{title}, {config.num_bits} bits, {photos.title}" if eval_results else None,
        eval_results=eval_results or None,
    )
    return ModelCard.from_template(
        data,
        template_str=template(),
        config=config,
        method=method,
        title=title,
        model_class=class_of(config).__name__,
        objective=OBJECTIVES[method.objective].__name__ if method and method.objective else None,
        bits_per_concept=config.num_bits // config.num_concepts,
        code_bytes=-(-config.num_bits // 8),
        photos=_quoted(photos),
        model_id=python_text(model_id),
        results=results or {},
        ranks=_RANKS,
        at_ranks=_metrics_at_ranks(results or {}),
        arguments=_shown_arguments(results),
        run=_about_the_run(results) if results else {},
        license=None if license is None else markdown(license),
        figure=figure,
        base=None if base is None else markdown(base),
        parameters=_count_parameters(config),
        prompt=python_text(DEFAULT_TEMPLATE.format(clean_class_name(config.id2label[0]))),
        command=_command(config, photos),
    )


def template() -> str:
    """The Jinja template of the card."""
    return files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8") + "\n"  # Jinja drops the last one


def update_model_card(folder: str | Path, model_id: str) -> None:
    """Make the card of a saved model, if it has one, fit what lies beside it; what people wrote into it stays.

    Its snippets load from `model_id`; and it says how to use the code, or where the frozen weights are, where the
    folder holds that code, or only what was trained.

    Args:
        folder: of the saved model.
        model_id: where it can be loaded from.
    """
    folder = Path(folder)
    card = folder / CARD
    if not card.is_file():
        return
    text = _MODEL_ID.sub(lambda _: f"model_id = {python_text(model_id)}", card.read_text(encoding="utf-8"))
    if any(folder.glob("modeling_*.py")):
        text = _with_note(text, _CODE_NOTE)
    if (folder / SMALL_WEIGHTS).is_file():
        base = public_name(load_hash_config(folder).base_model_name_or_path)
        text = _with_note(text, _SMALL_NOTE.format(base=markdown(base or "")))
    write_file(card, text)


def _quoted(photos: CardPhotos) -> CardPhotos:
    """What stands in the text of a card; its metadata are quoted by YAML."""
    return replace(
        photos,
        title=markdown(photos.title),
        description=markdown(photos.description),
        citation=markdown(photos.citation),
        link=url(photos.link),
    )


def _with_note(text: str, note: str) -> str:
    """A card with a note below its snippets, once; a card without our snippets as it is."""
    snippets = _MODEL_ID.search(text)
    if snippets is None or note in text:
        return text
    end = text.find("\n## ", snippets.end())
    end = end if end >= 0 else len(text)
    return f"{text[:end]}\n{note}{text[end:]}"


def _eval_results(photos: CardPhotos, results: Mapping[str, Any]) -> list[EvalResult]:
    names = {"eval_map": ("map", "mAP, whole ranking")}
    names |= {
        f"eval_{metric}@{k}": (f"{metric}@{k}", name.format(k))
        for metric, name in _METRIC_NAMES.items()
        for k in _RANKS
    }
    return [
        EvalResult(
            task_type="image-feature-extraction",
            task_name="Image retrieval by Hamming distance",
            dataset_type=photos.hub_id or photos.name,
            dataset_name=photos.title,
            dataset_split="test",
            metric_type=metric,
            metric_name=title,
            metric_value=results[name],
        )
        for name, (metric, title) in names.items()
        if name in results
    ]


def _shown_arguments(results: Mapping[str, Any] | None) -> dict[str, Any]:
    """How it was, or will be, trained: what says something about the model."""
    if results is None:
        arguments = {"augmentation": "paper"} | asdict(ConceptHashTrainingArguments().with_epochs(PUBLISHED_EPOCHS))
    else:
        arguments = {"augmentation": results.get("augmentation")} | results["arguments"]
    return {
        name: markdown(str(value))
        for name, value in arguments.items()
        if value is not None and name not in _HIDDEN_ARGUMENTS
    }


def _metrics_at_ranks(results: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        title.split("@")[0].lower(): [f"{results[f'eval_{metric}@{k}']:.4f}" for k in _RANKS]
        for metric, title in _METRIC_NAMES.items()
        if all(f"eval_{metric}@{k}" in results for k in _RANKS)
    }


def _about_the_run(results: Mapping[str, Any]) -> dict[str, str]:
    environment = results["environment"]
    packages = ("concepthash_hf", "torch", "transformers", "accelerate", "python")
    precision = environment["mixed_precision"]
    about = {
        "hardware": f"{environment['device']} ({environment['processor']}), processes: "
        f"{environment['num_processes']}, threads of each: {environment['threads']}",
        "precision": "float32" if precision == "no" else f"{precision} in training, float32 in evaluation",
        "software": ", ".join(f"{name} {environment[name]}" for name in packages),
    }
    if "train_runtime" in results:
        speed = f"{results['train_samples_per_second']:.0f} photos a second"
        about = {"run": f"{results['train_steps']:,} steps in {_in_words(results['train_runtime'])}, {speed}"} | about
    return {name: markdown(text) for name, text in about.items()}


def _count_parameters(config: ConceptHashConfig | BaselineConfig) -> dict[str, int]:
    with torch.device("meta"):
        model: Any = class_of(config)(config)

    def count(parameters: Iterable[torch.nn.Parameter]) -> int:
        return sum(parameter.numel() for parameter in parameters)

    trained = count(model.trainable_parameters())
    text_model = getattr(model, "text_model", None)
    text = count(text_model.parameters()) if text_model is not None else 0
    return {"trained": trained, "text": text, "frozen": count(model.parameters()) - trained - text}


def _in_words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _command(config: ConceptHashConfig | BaselineConfig, photos: CardPhotos) -> str:
    """How to train a benchmark's model with the published recipe."""
    words = [f"accelerate launch examples/train.py --dataset {shlex.quote(one_line(photos.name))}"]
    if photos.hub_id is None and photos.name in BENCHMARKS:
        words.append(f"--data_dir path/to/{BENCHMARKS[photos.name].data_dir}")
    if base := public_name(config.base_model_name_or_path):
        words.append(f"--model_name_or_path {shlex.quote(one_line(base))}")
    words.append("--preset paper")
    if isinstance(config, BaselineConfig):
        words.append(f"--method {config.method} --num_bits {config.num_bits}")
    else:
        words.append(f"--num_bits {config.num_bits} --num_concepts {config.num_concepts}")
    return " \\\n    ".join(words)
