"""Publishing: a model card from what was measured, and one commit to the Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, ModelCard, ModelCardData

from .configuration_concepthash import ConceptHashConfig

_CARD = """\
---
{{ card_data }}
---

# {{ title }}

[ConceptHash](https://arxiv.org/abs/2406.08457) hashes a photo into {{ config.num_bits }} bits:
{{ config.num_concepts }} sub-codes, each of a concept that was discovered without part labels. Similar photos get
codes at a small Hamming distance. Built on {{ base }}, trained on {{ dataset }} ({{ config.num_labels }} classes).

```python
from concepthash_hf import ConceptHashModel
from transformers import AutoImageProcessor

model = ConceptHashModel.from_pretrained("{{ repo_id }}")
processor = AutoImageProcessor.from_pretrained("{{ repo_id }}")
codes = model.get_hash_codes(**processor(images, return_tensors="pt"))  # uint8, {{ code_bytes }} bytes a photo
```

{% if metrics.eval_map is defined -%}
## Retrieval

Queries: the test photos ({{ metrics.eval_num_queries }}). Database: {{ metrics.eval_num_database }} photos. Mean
average precision over the whole ranking by Hamming distance; the order of equal distances counts by its expectation.

| metric | value |
| --- | --- |
{% for name, value in metrics.items() if value is number and name.startswith("eval_") -%}
| {{ name.removeprefix("eval_") }} | {{ "%.4f" | format(value) if value is float else value }} |
{% endfor %}
{% endif %}
![Where the concepts look, on test photos](concepts.png)

## Training

{{ metrics.train_steps }} steps in {{ "%.0f" | format(metrics.train_runtime) }} s on {{ environment.device }}
(torch {{ environment.torch }}, transformers {{ environment.transformers }}).

| argument | value |
| --- | --- |
{% for name, value in arguments.items() if value is not none and name not in hidden -%}
| {{ name }} | {{ value }} |
{% endfor %}
"""
# say nothing about the model
_HIDDEN_ARGUMENTS = ("report_to", "logging_steps", "eval_epochs", "save_epochs", "dataloader_num_workers")


def write_model_card(
    folder: str | Path, config: ConceptHashConfig, results: Mapping[str, Any], dataset: str, repo_id: str
) -> None:
    """Write the README.md of a trained model; it prints nothing that `results` does not hold.

    Args:
        folder: of the saved model.
        config: of the model.
        results: what `training.train` returned.
        dataset: name of the photos.
        repo_id: where the model is, or will be, to be loaded from.
    """
    metrics = {name: value for name, value in results.items() if name not in ("arguments", "environment")}
    card = ModelCard.from_template(
        ModelCardData(library_name="concepthash_hf", pipeline_tag="image-feature-extraction", tags=["image-hashing"]),
        template_str=_CARD,
        title=f"ConceptHash, {config.num_bits} bits, {dataset}",
        config=config,
        base=_public_name(config.base_model_name_or_path) or "a vision transformer trained from scratch",
        dataset=dataset,
        repo_id=repo_id,
        code_bytes=-(-config.num_bits // 8),
        metrics=metrics,
        arguments=results["arguments"],
        environment=results["environment"],
        hidden=_HIDDEN_ARGUMENTS,
    )
    card.save(Path(folder) / "README.md")


def ensure_repo(repo_id: str) -> str:
    """Create a model repository if it is not there; worth doing before hours of training.

    Args:
        repo_id: `organisation/name`, or `name` in the user's own space.

    Returns:
        The full `organisation/name`.
    """
    return HfApi().create_repo(repo_id, exist_ok=True).repo_id


def push_folder(folder: str | Path, repo_id: str) -> CommitInfo:
    """Upload a folder with model, processor, card, results and figures in one commit.

    Args:
        folder: what `examples/train.py` wrote; checkpoints and logs stay here.
        repo_id: `organisation/name`, which must be there: `ensure_repo`.

    Returns:
        The commit.
    """
    return HfApi().upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        commit_message="Upload ConceptHash model",
        ignore_patterns=["checkpoint-*", "partial-checkpoint-*", "logs/*"],
    )


def _public_name(name_or_path: str | None) -> str | None:
    """A Hub id as it is, of a local folder the name alone."""
    return Path(name_or_path).name if name_or_path and Path(name_or_path).exists() else name_or_path
