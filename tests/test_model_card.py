"""The generated card."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from common import tiny_config
from huggingface_hub import ModelCard
from PIL import Image

from concepthash_hf import BaselineConfig
from concepthash_hf.data import load_photos
from concepthash_hf.data.toy_birds import draw_bird
from concepthash_hf.methods import METHODS
from concepthash_hf.model_card import CardPhotos, model_card, update_model_card, write_model_card
from concepthash_hf.quoting import one_line

EXPECTED = Path(__file__).with_name("model_card_expected.md")
PHOTOS = CardPhotos(
    name="pond",
    title="Pond birds",
    train=1439,
    query=481,
    database=1523,
    database_is_train=False,
    link="https://huggingface.co/datasets/someone/pond",
    hub_id="someone/pond",
    citation="Heron and Teal: Birds of the pond. 2025",
)
RESULTS: dict[str, Any] = {
    "train_loss": 1.234567,
    "train_steps": 4321,
    "train_runtime": 987.6,
    "train_samples_per_second": 35.71,
    "trainable_parameters": 6543,
    "parameters": 76543,
    "eval_map": 0.87654321,
    **{
        f"eval_{metric}@{k}": round(0.5 + k / 100 + i / 1000, 4)
        for i, metric in enumerate(("precision", "recall", "hit_rate"))
        for k in (1, 5, 10)
    },
    "eval_num_queries": 481,
    "eval_num_database": 1523,
    "eval_num_queries_without_relevant": 0,
    "eval_runtime": 12.5,
    "arguments": {
        "num_train_epochs": 33,
        "per_device_train_batch_size": 32,
        "learning_rate": 0.002,
        "max_grad_norm": None,
        "optimizer": "adamw",
        "seed": 17,
        "logging_steps": 10,
    },
    "environment": {
        "concepthash_hf": "0.0.1",
        "torch": "9.8.7",
        "transformers": "6.5.4",
        "accelerate": "3.2.1",
        "python": "3.99.0",
        "device": "Abacus",
        "processor": "beads",
        "threads": 7,
        "num_processes": 5,
        "mixed_precision": "bf16",
    },
    "augmentation": "gentle",
}


def a_config(**fields: Any) -> Any:
    defaults = {
        "base_model_name_or_path": "someone/clip",
        "id2label": dict(enumerate("wren teal heron coot smew".split())),
    }
    return tiny_config(**(defaults | fields))


def card_of(results: dict[str, Any] | None = RESULTS, photos: CardPhotos = PHOTOS, **fields: Any) -> str:
    return str(
        model_card(a_config(**fields), photos, "someone/pond-12", results, license="cc-by-4.0", figure="concepts.png")
    )


def table(card: str, heading: str) -> list[list[str]]:
    """The rows of the table below a heading, which must be one block of lines as Markdown wants it."""
    section = re.split(r"^#+ ", card.split(f"# {heading}\n")[1], flags=re.MULTILINE)[0]
    (block,) = [block for block in section.strip().split("\n\n") if block.startswith("|")]
    rows = [[cell.strip(" *`") for cell in line.strip("|").split("|")] for line in block.splitlines()]
    assert len({len(row) for row in rows}) == 1 and set(rows[1]) <= {"---", "---:"}
    return [rows[0], *rows[2:]]


def test_the_whole_card():
    """Write it anew with `python tests/test_model_card.py`, and read it, when the template has changed."""
    assert card_of() == EXPECTED.read_text()


def test_the_hub_reads_its_metadata(tmp_path):
    (tmp_path / "README.md").write_text(card_of())
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("concepthash_hf", "image-feature-extraction")
    assert (data.license, data.base_model, data.datasets) == ("cc-by-4.0", "someone/clip", ["someone/pond"])
    values = {result.metric_type: result.metric_value for result in data.eval_results}
    assert values == {name[5:]: RESULTS[name] for name in RESULTS if "@" in name or name == "eval_map"}
    assert {(result.dataset_type, result.dataset_name) for result in data.eval_results} == {
        ("someone/pond", "Pond birds")
    }


def test_every_measured_number_is_of_the_results():
    """Where all numbers of the results change, all numbers of the card that could have been measured change too."""

    def numbers(card: str) -> set[str]:
        return set(re.findall(r"\d+(?:[.,]\d+)*", card))

    def other(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: other(entry) for name, entry in value.items()}
        if isinstance(value, str):
            return "".join(str((int(digit) + 1) % 10) if digit.isdigit() else digit for digit in value)
        return value if value is None else type(value)(value * 1.37 + 3)

    counts = {"train": 9001, "query": 9002, "database": 9003}
    changed = card_of(other(RESULTS), CardPhotos(**(vars(PHOTOS) | counts)))
    # what stays: the shape of the model, the options' names, the licence, and the float32 of evaluation
    untrained = str(model_card(a_config(), PHOTOS, "someone/pond-12", license="cc-by-4.0"))
    assert (numbers(card_of()) & numbers(changed)) - numbers(untrained) <= {"32"}


def test_it_names_no_folder_of_this_machine(tmp_path):
    clip = tmp_path / "clips" / "tiny-clip"
    clip.mkdir(parents=True)
    for base in (str(clip), "../clips/tiny-clip", "/nowhere/tiny-clip"):
        card = card_of(base_model_name_or_path=base)
        assert "| **built on** | tiny-clip, its vision tower frozen |" in card
        assert str(tmp_path) not in card and ".." not in card and "/nowhere" not in card
        assert "base_model" not in card
    assert "| **built on** | a vision transformer trained from scratch |" in card_of(base_model_name_or_path=None)


def test_without_evaluation_it_says_nothing_of_retrieval():
    card = card_of({name: value for name, value in RESULTS.items() if not name.startswith("eval_")})
    assert "mAP" not in card and "## Retrieval" not in card and "model-index" not in card
    assert ["seed", "17"] in table(card, "Training")


def test_not_trained_yet():
    card = card_of(results=None)
    assert "> **Not trained yet.**" in card
    for measured in ("mAP", "## Retrieval", "model-index", "hardware", "software", "photos a second"):
        assert measured not in card
    assert ["num_train_epochs", "100"] in table(card, "Training")


def test_what_is_not_there_is_not_spoken_of():
    assert "Search with words" in card_of()
    assert "Search with words" not in card_of(class_embedding_dim=None)
    without_text = str(model_card(tiny_config(text=False), PHOTOS, "someone/pond-12", RESULTS))
    assert "Search with words" not in without_text and "text tower" not in without_text
    assert "No licence was chosen for the weights." in without_text and "license:" not in without_text
    assert "![" not in without_text and "![" in card_of()


def test_a_trained_from_scratch_model_has_no_frozen_part():
    row = next(
        row
        for row in table(card_of(freeze_backbone=False), "ConceptHash, 12 bits, Pond birds")
        if row[0] == "parameters"
    )
    assert "frozen" not in row[1] and "in the text tower" in row[1]


def test_the_snippets_are_python_that_ruff_would_not_change():
    """The cards in the repository are held to the same style as its code."""
    for snippet in re.findall(r"```python\n(.*?)```", card_of(), re.DOTALL):
        compile(snippet, "card", "exec")
        assert max(map(len, snippet.splitlines())) <= 119


@pytest.mark.parametrize(
    ("method", "objective"), [("csq", "CSQ"), ("orthohash_language", "OrthoHash"), ("a2net", "A2Net")]
)
def test_a_card_of_another_method(method, objective):
    """It names the method and who made it, and speaks of no concepts."""
    config = BaselineConfig(
        vision_config={"backbone_config": a_config().vision_config.backbone_config},
        id2label=a_config().id2label,
        num_bits=12,
        method=method,
        **METHODS[method].config_fields(),
    )
    card = str(model_card(config, PHOTOS, "someone/pond-12", RESULTS, license="cc-by-4.0"))
    assert f"# {METHODS[method].title}, 12 bits, Pond birds" in card
    assert f"The method: {METHODS[method].citation}." in card and f"`objectives.{objective}`" in card
    assert "from concepthash_hf import BaselineModel" in card and "**mAP 0.8765**" in card
    said = card.split("---", 2)[2].replace("trained here beside ConceptHash to compare with", "")
    said = said.replace("num_concepts=1", "").replace("concepthash_hf", "")
    assert not re.search("concept", said, re.IGNORECASE)
    assert "\n\n\n" not in card
    python = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(python) == 2 and all(ast.parse(snippet) for snippet in python)
    untrained = str(model_card(config, PHOTOS, "someone/pond-12"))
    assert f"--method {method} --num_bits 12" in untrained


def test_writing_it_beside_a_model(tmp_path):
    """Shows the figure if it is there, and speaks of the code if it is there."""
    write_model_card(tmp_path, a_config(), PHOTOS, RESULTS, "run")
    card = (tmp_path / "README.md").read_text()
    assert "![" not in card and "trust_remote_code" not in card
    Image.new("RGB", (4, 4)).save(tmp_path / "concepts.png")
    (tmp_path / "modeling_concepthash.py").write_text("")
    write_model_card(tmp_path, a_config(), PHOTOS, RESULTS, "run")
    card = (tmp_path / "README.md").read_text()
    assert "](concepts.png)" in card and card.count("trust_remote_code") == 1


def test_of_photos_in_a_folder_nothing_but_name_and_counts(tmp_path):
    for split, number in (("train", 3), ("test", 2)):
        for name in ("wren", "teal"):
            (tmp_path / "my_birds" / split / name).mkdir(parents=True)
            for seed in range(number):
                draw_bird("orange-billed barred duck", seed, 32).image.save(
                    tmp_path / "my_birds" / split / name / f"{seed}.png"
                )
    photos = CardPhotos.from_splits(load_photos(tmp_path / "my_birds"))
    assert photos == CardPhotos("my_birds", "my birds", train=6, query=4, database=6, database_is_train=True)
    assert str(tmp_path) not in card_of(photos=photos)


def test_of_photos_on_the_hub_their_id():
    class Splits:
        name, source, citation = "pond", "https://huggingface.co/datasets/someone/pond at 1a2b3c", ""
        counts = {"classes": 5, "query": 7}
        train = database = "a stream"

    photos = CardPhotos.from_splits(Splits())
    assert (photos.hub_id, photos.link) == ("someone/pond", "https://huggingface.co/datasets/someone/pond")
    card = card_of(photos=photos)
    assert table(card, "Photos")[1:] == [
        ["train", "a stream", "to learn from"],
        ["query", "7", "to search with; none of them was trained on"],
        ["database", "a stream", "to be found; these are the training photos"],
    ]


@pytest.mark.parametrize("name", ["cub200", "nabirds", "aircraft", "cars196"])
def test_of_a_benchmark_its_published_counts(name):
    photos = CardPhotos.from_benchmark(name)
    rows = {row[0]: row[1] for row in table(card_of(None, photos), "Photos")}
    published = {
        "cub200": ("5,994", "5,794"),
        "nabirds": ("23,929", "24,633"),
        "aircraft": ("6,667", "3,333"),
        "cars196": ("8,144", "8,041"),
    }
    assert (rows["train"], rows["query"]) == published[name] and rows["database"] == rows["train"]


def test_what_the_maps_prove_is_a_matter_of_the_read_out():
    """Said of it in the first table, and not the contrary among the limits."""
    of_attention, of_regions = card_of(), card_of(vision={"read_out": "regions"})
    for card, proof in ((of_attention, False), (of_regions, True)):
        assert ("from its concept's region and from nothing else" in card) == proof
        assert ("It is no proof" in card.split("## Limits")[1]) != proof
    limits = [card.split("## Limits\n\n")[1].split("\n\n## ")[0] for card in (of_attention, of_regions)]
    assert all(line.startswith("- ") for part in limits for line in part.splitlines())


def test_the_metadata_are_yaml_with_any_title():
    odd = CardPhotos(**(vars(PHOTOS) | {"title": "Birds: 'ours', #2 [new]"}))
    front = card_of(photos=odd).split("---\n")[1]
    assert yaml.safe_load(front)["model-index"][0]["results"][0]["dataset"]["name"] == "Birds: 'ours', #2 [new]"


HOSTILE = (
    'x"], padding=True); print("owned"); dict(a=["\n```\n# <script>alert(1)</script> | `rm` [x](javascript:1) \x1b[2J'
)


def test_foreign_names_are_quoted():
    """Of a model, its classes, photos and backbone: nothing of them becomes code, HTML, a heading or a link."""
    hostile = {name: HOSTILE for name in ("title", "name", "description", "citation")}
    photos = CardPhotos(**(vars(PHOTOS) | hostile | {"link": "https://a.org/) " + HOSTILE, "hub_id": None}))
    config = a_config(id2label={0: HOSTILE, 1: "teal"}, base_model_name_or_path=f"/nowhere/{HOSTILE}")
    results = RESULTS | {"augmentation": HOSTILE, "environment": RESULTS["environment"] | {"processor": HOSTILE}}
    for made in (results, None):
        card = str(model_card(config, photos, HOSTILE, made, license="mit"))
        text = card.split("---\n", 2)[2]
        snippets = re.findall(r"```(?:python|bash|bibtex)\n(.*?)\n```", text, re.DOTALL)
        prose = re.sub(r"```\w+\n.*?\n```", "", text, flags=re.DOTALL)
        assert "```" not in prose and "<script" not in prose and "\x1b" not in text
        assert not re.search(r"(?<!\\)\[x(?<!\\)\]", prose)
        assigned = set()
        for snippet in snippets:
            if not snippet.startswith(("@", "accelerate")):
                nodes = list(ast.walk(ast.parse(snippet)))
                assert not {node.id for node in nodes if isinstance(node, ast.Name)} & {"print", "dict"}
                assigned |= {
                    node.value.value
                    for node in nodes
                    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
                }
        assert assigned == {HOSTILE}
        command = next((snippet for snippet in snippets if snippet.startswith("accelerate")), None)
        if command:
            words = shlex.split(command)
            assert words[words.index("--dataset") + 1] == one_line(HOSTILE)
        headings = [line for line in prose.splitlines() if line.startswith("#")]
        assert all("script" not in heading or heading.startswith("# ConceptHash") for heading in headings)
        for rows in re.findall(r"(?:^\|.*\n)+", prose, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows.splitlines()}) == 1
    yaml.safe_load(card.split("---\n")[1])


def test_a_new_address_is_quoted_too(tmp_path):
    write_model_card(tmp_path, a_config(), PHOTOS, RESULTS, "run")
    update_model_card(tmp_path, HOSTILE)
    (line,) = [line for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("model_id = ")]
    assert ast.literal_eval(line.removeprefix("model_id = ")) == HOSTILE
    update_model_card(tmp_path, "someone/else")
    assert 'model_id = "someone/else"\n' in (tmp_path / "README.md").read_text()


if __name__ == "__main__":
    EXPECTED.write_text(card_of())
