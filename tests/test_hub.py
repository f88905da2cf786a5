"""The generated card."""

import json
from pathlib import Path
from typing import Any

import pytest
from common import tiny_config
from huggingface_hub import ModelCard

from concepthash_hf.hub import write_model_card

RESULTS: dict[str, Any] = {
    "train_loss": 1.234567,
    "train_steps": 4321,
    "train_runtime": 98.7,
    "eval_map": 0.87654321,
    "eval_precision@1": 0.9,
    "eval_num_queries": 480,
    "eval_num_database": 1440,
    "eval_runtime": 12.5,
    "arguments": {
        "num_train_epochs": 30,
        "learning_rate": 0.002,
        "max_grad_norm": None,
        "optimizer": "adamw",
        "seed": 42,
    },
    "environment": {"torch": "9.8.7", "transformers": "6.5.4", "device": "cpu", "concepthash_hf": "0.0.1"},
}


def card_of(folder: Path, results: dict[str, Any] | None = None, **config: Any) -> str:
    write_model_card(folder, tiny_config(**config), results or RESULTS, "toy_birds", "someone/birds")
    return (folder / "README.md").read_text()


def rows(card: str, heading: str) -> dict[str, str]:
    """The table below a heading, which must be one block of lines as Markdown wants it."""
    lines = card.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| ---"))
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert lines[start - 1].startswith("|") and lines[start - 2] == ""
    assert all(line.startswith("|") for line in lines[start : start + len(table) - 1])
    assert not any(line for line in lines[start + len(table) - 1 :][:1])
    return dict(table[2:])


def test_the_hub_reads_it(tmp_path):
    card_of(tmp_path)
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.library_name == "concepthash_hf"
    assert data.pipeline_tag == "image-feature-extraction"


def test_it_says_what_was_measured(tmp_path):
    card = card_of(tmp_path)
    assert "# ConceptHash, 12 bits, toy_birds" in card
    assert "3 sub-codes" in card.replace("\n", " ")
    assert "(5 classes)" in card
    assert 'from_pretrained("someone/birds")' in card
    assert "uint8, 2 bytes a photo" in card
    assert "(480)" in card and "1440 photos" in card
    retrieval = rows(card, "Retrieval")
    assert retrieval["map"] == "0.8765"
    assert retrieval["precision@1"] == "0.9000"
    assert retrieval["num_queries"] == "480"
    assert set(retrieval) == {"map", "precision@1", "num_queries", "num_database", "runtime"}
    training = rows(card, "Training")
    assert training.items() >= {"num_train_epochs": "30", "learning_rate": "0.002", "optimizer": "adamw"}.items()
    assert "max_grad_norm" not in training  # was not given
    assert "4321 steps" in card and "99 s on cpu" in card and "torch 9.8.7, transformers 6.5.4" in card
    assert "{{" not in card and "{%" not in card and "None" not in card


def test_without_evaluation_it_says_nothing_of_retrieval(tmp_path):
    card = card_of(tmp_path, {name: value for name, value in RESULTS.items() if not name.startswith("eval_")})
    assert "Retrieval" not in card
    assert "()" not in card
    assert rows(card, "Training")["seed"] == "42"


def test_every_number_of_it_is_in_the_results(tmp_path):
    """Other results, other card."""
    changed = json.loads(
        json.dumps(RESULTS).replace("0.87654321", "0.11112222").replace("480", "77").replace("30", "31")
    )
    one, other = card_of(tmp_path), card_of(tmp_path, changed)
    assert "0.8765" not in other and "480" not in other
    assert rows(other, "Retrieval")["map"] == "0.1111"
    assert rows(other, "Training")["num_train_epochs"] == "31"
    assert len(one.splitlines()) == len(other.splitlines())


@pytest.mark.parametrize("base", ["folder", "openai/clip-vit-base-patch32", None])
def test_it_names_no_folder_of_this_machine(tmp_path, base):
    local = tmp_path / "clips" / "tiny-clip"
    local.mkdir(parents=True)
    card = card_of(tmp_path, base_model_name_or_path=str(local) if base == "folder" else base)
    assert str(tmp_path) not in card
    built_on = {"folder": "tiny-clip", None: "a vision transformer trained from scratch"}.get(base, base)
    assert f"Built on {built_on}, trained on toy_birds" in card.replace("\n", " ")
