"""model_cards/: the cards of the benchmarks' models, and the script that writes and fills them in."""

import json
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from test_model_card import RESULTS, table

from concepthash_hf.model_card import template
from concepthash_hf.presets import PUBLISHED_EPOCHS
from concepthash_hf.scripts.train import choose_augmentation, parse_arguments
from concepthash_hf.toy_clip import save_toy_clip

CARDS = Path(__file__).parents[1] / "model_cards"
NAMES = [f"{name}-{bits}.md" for name in ("cub200", "nabirds", "aircraft", "cars196") for bits in (16, 32, 64)]


@pytest.fixture
def script(tmp_path, monkeypatch) -> dict[str, Any]:
    """What the script defines; it writes into an empty folder."""
    names = runpy.run_path(str(CARDS / "write_cards.py"))
    monkeypatch.setitem(names["main"].__globals__, "CARDS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["write_cards.py"])
    return names


def a_run(folder: Path, script: dict[str, Any], benchmark: str, num_bits: int, **fields: Any) -> Path:
    config = script["planned_config"](benchmark, num_bits)
    for name, value in fields.items():
        setattr(config, name, value)
    config.save_pretrained(folder)
    (folder / "all_results.json").write_text(json.dumps(RESULTS | {"photos": {"name": benchmark}}))
    return folder


def test_the_cards_here_are_those_of_the_script(script, tmp_path):
    """Or filled in by a run since."""
    script["main"]()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    for name in NAMES:
        here = (CARDS / name).read_text()
        if "Not trained yet" in here:
            assert here == (tmp_path / name).read_text()
        else:
            assert ModelCard(here).data.eval_results


@pytest.mark.parametrize("name", [name for name in NAMES if not ModelCard.load(CARDS / name).data.eval_results])
def test_a_card_that_nobody_filled_in_says_so(name):
    card = (CARDS / name).read_text()
    benchmark, bits = name.removesuffix(".md").split("-")
    assert card.count("> **Not trained yet.**") == 1
    assert "mAP" not in card and "model-index" not in card and "hardware" not in card
    assert f"--dataset {benchmark} " in card and f"--num_bits {bits} " in card
    assert f'model_id = "org/concepthash-{benchmark}-{bits}"' in card


def test_the_command_trains_what_the_card_says(tmp_path, monkeypatch):
    save_toy_clip(tmp_path / "openai" / "clip-vit-base-patch32", ["wren", "teal"], image_size=32)
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        card = (CARDS / name).read_text()
        if "Not trained yet" in card:
            command = card.split("accelerate launch examples/train.py ")[1].split("\n```")[0]
            photos, model, arguments = parse_arguments(shlex.split(command.replace("\\\n", " ")))
            augmentation = choose_augmentation(photos, model.preset, keeps_states=False)
            meant = vars(arguments.with_epochs(PUBLISHED_EPOCHS)) | {"augmentation": augmentation}
            said = dict(table(card, "Training")[1:])
            assert model.preset == "paper" and len(said) > 8
            assert {option: str(meant[option]) for option in said} == said


def test_the_template_here_is_that_of_the_package():
    assert (CARDS / "template.md").read_text().strip() == template().strip()


def test_a_run_fills_in_its_card_for_good(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(script["main"].__globals__, "EXAMPLE_CLASSES", {"cub200": "a bird"})  # a third of the time
    run = a_run(tmp_path / "run", script, "cub200", 64)
    monkeypatch.setattr(sys, "argv", ["write_cards.py", str(run)])
    script["main"]()
    filled = (tmp_path / "cub200-64.md").read_text()
    assert "filled in" in capsys.readouterr().out
    assert "Not trained yet" not in filled and "**mAP 0.8765**" in filled
    assert "16,661,976 trained, 87,454,464 frozen" in filled  # counted in the authors' model, too
    assert "Not trained yet" in (tmp_path / "cub200-32.md").read_text()

    monkeypatch.setattr(sys, "argv", ["write_cards.py"])
    script["main"]()
    assert (tmp_path / "cub200-64.md").read_text() == filled


@pytest.mark.parametrize(
    ("benchmark", "num_bits", "base"),
    [("food101", 64, None), ("cub200", 12, None), ("cub200", 64, "someone/smaller-clip")],
)
def test_a_run_of_another_model_is_refused(script, tmp_path, benchmark, num_bits, base):
    run = a_run(tmp_path / "run", script, "cub200", num_bits, **({"base_model_name_or_path": base} if base else {}))
    (run / "all_results.json").write_text(json.dumps(RESULTS | {"photos": {"name": benchmark}}))
    with pytest.raises(SystemExit, match=f"of {num_bits} bits on {benchmark}.*there are cards"):
        script["fill_in"](run)
