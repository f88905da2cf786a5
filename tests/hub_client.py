"""What a client of the Hub does, in a process of its own.

    python hub_client.py '[["push", ["folder", "someone/birds"], {"private": true}], ...]'

huggingface_hub reads its settings (address, cache, offline or not) when it is imported. Prints a JSON list with a
`["result", ...]` or an `["error", "Type: message"]` for each job.
"""

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch


def push(folder: str, repo_id: str, **options: Any) -> dict[str, Any]:
    """Publish, and list what is there then."""
    from huggingface_hub import HfApi

    from concepthash_hf.hub import push_to_hub

    commit = push_to_hub(folder, repo_id, **options)
    return {
        "oid": commit.oid,
        "files": sorted(HfApi().list_repo_files(commit.repo_url.repo_id, revision=commit.oid)),
    }


def push_model(folder: str, repo_id: str) -> str:
    """Publish a model by its own method."""
    from concepthash_hf import ConceptHashModel

    model = ConceptHashModel.from_pretrained(folder)
    base = model.config.base_model_name_or_path
    oid = model.push_to_hub(repo_id).oid
    assert model.config.base_model_name_or_path == base
    return oid


def push_small(clip: str, folder: str, repo_id: str, photos: str) -> list[list[int]]:
    """Build a model on a CLIP of the Hub, publish what is not that CLIP's; give its codes of these photos."""
    from concepthash_hf import ConceptHashModel
    from concepthash_hf.hub import push_to_hub

    model = ConceptHashModel.from_clip(clip, class_names=["duck", "finch"], num_bits=16)
    model.save_pretrained(folder, trained_only=True)
    model.image_processor.save_pretrained(folder)
    push_to_hub(folder, repo_id)
    return model.get_hash_codes(**model.image_processor(torch.load(photos), return_tensors="pt")).tolist()


def load(repo_id: str, photos: str, revision: str | None = None) -> list[list[int]]:
    """The codes of these photos, with the package, by each of its ways in."""
    from transformers import AutoImageProcessor, AutoModel

    from concepthash_hf import ConceptHashModel, ConceptHashVisionModel

    models = [
        kind.from_pretrained(repo_id, revision=revision)
        for kind in (ConceptHashModel, ConceptHashVisionModel, AutoModel)
    ]
    processor = AutoImageProcessor.from_pretrained(repo_id, revision=revision)
    inputs = processor(torch.load(photos), return_tensors="pt")
    assert type(models[2]) is ConceptHashModel
    codes = [model.get_hash_codes(**inputs).tolist() for model in models]
    assert codes[1:] == codes[:-1]
    return codes[0]


def load_without_the_package(repo_id: str, photos: str) -> dict[str, Any]:
    """The codes that transformers alone gives, by the code files of the repository."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    processor = AutoImageProcessor.from_pretrained(repo_id)
    model = AutoModel.from_pretrained(repo_id, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(repo_id, trust_remote_code=True)
    words = tokenizer(["a photo of a duck"], return_tensors="pt")
    return {
        "has_package": importlib.util.find_spec("concepthash_hf") is not None,
        "module": type(model).__module__,
        "codes": model.get_hash_codes(**processor(torch.load(photos), return_tensors="pt")).tolist(),
        "text_codes": model.get_text_hash_codes(input_ids=words["input_ids"]).tolist(),
    }


def run_card(repo_id: str) -> list[str]:
    """Run the snippets of a repository's card, one after the other; give the files they leave in this folder."""
    from huggingface_hub import ModelCard

    before = set(Path().iterdir())
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", ModelCard.load(repo_id).text, re.DOTALL):
        exec(snippet, names)
    return sorted(path.name for path in set(Path().iterdir()) - before)


JOBS = {job.__name__: job for job in (push, push_model, push_small, load, load_without_the_package, run_card)}

if __name__ == "__main__":
    done: list[tuple[str, Any]] = []
    for name, arguments, options in json.loads(sys.argv[1]):
        try:
            done.append(("result", JOBS[name](*arguments, **options)))
        except Exception as error:
            done.append(("error", f"{type(error).__name__}: {error}"))
    print(json.dumps(done))
