"""Publishing, as far as it needs no Hub: the code that travels. The rest is in test_hub_http.py."""

import ast
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from common import save_tiny_clip, tiny_config, tiny_model
from transformers import AutoModel

import concepthash_hf
from concepthash_hf import BaselineConfig, BaselineModel, ConceptHashModel
from concepthash_hf.hub import _public_config, add_code, push_to_hub
from concepthash_hf.model_card import update_model_card
from concepthash_hf.small_checkpoints import WEIGHTS_NAME as SMALL_WEIGHTS

SOURCE = Path(concepthash_hf.__file__).parent
CARD = '# Birds\n\nOurs.\n\n```python\nmodel_id = "run"\nmodel = load(model_id)\n```\n\n## Photos\n\nmodel_id = none\n'


def tiny_baseline() -> BaselineModel:
    config = tiny_config().vision_config
    return BaselineModel(BaselineConfig(vision_config={"backbone_config": config.backbone_config}, num_bits=12))


@pytest.fixture(scope="module", params=[tiny_model, tiny_baseline])
def with_code(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    request.param().save_pretrained(folder)
    add_code(folder)
    return folder


def test_the_code_is_there_as_it_is(with_code):
    config = json.loads((with_code / "config.json").read_text())
    for reference in config["auto_map"].values():
        module, _, name = reference.partition(".")
        assert hasattr(sys.modules[f"concepthash_hf.{module}"], name)
        assert (with_code / f"{module}.py").is_file()
    for file in with_code.glob("*.py"):
        assert file.read_bytes() == (SOURCE / file.name).read_bytes()


def test_the_code_needs_nothing_else_of_this_package(with_code):
    """What travels imports torch, transformers and what these bring, and what travels with it."""
    brought = {"torch", "transformers", "huggingface_hub", "safetensors", "numpy", "filelock"}
    for file in with_code.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and (with_code / f"{node.module}.py").is_file(), ast.unparse(node)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
                for name in names:
                    assert name.split(".")[0] in brought | sys.stdlib_module_names, f"{file.name}: {ast.unparse(node)}"


def test_saving_a_model_writes_no_code(tmp_path):
    """It is no setting of the class: what was published with code does not change what is saved."""
    tiny_model().save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.py"))
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())


def test_the_way_of_transformers_works_too(with_code, tmp_path, monkeypatch):
    """`register_for_auto_class`, then save: the same files and the same auto_map."""
    model = AutoModel.from_pretrained(with_code)
    for kind, name in ((type(model.config), "AutoConfig"), (type(model), "AutoModel")):
        monkeypatch.setattr(kind, "_auto_class", None)
        kind.register_for_auto_class(name)
    model.save_pretrained(tmp_path)
    ours, theirs = ({path.name for path in folder.iterdir()} for folder in (with_code, tmp_path))
    assert ours == theirs
    auto_maps = [json.loads((folder / "config.json").read_text())["auto_map"] for folder in (with_code, tmp_path)]
    assert auto_maps[0] == auto_maps[1]


def test_the_installed_package_is_used_where_it_is(with_code):
    """Code beside the weights is for others; nobody who has the package must trust it."""
    assert type(AutoModel.from_pretrained(with_code)) in (ConceptHashModel, BaselineModel)


def test_adding_code_twice_changes_nothing(with_code, tmp_path):
    again = shutil.copytree(with_code, tmp_path / "again")
    add_code(again)
    for file in with_code.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes()


def test_a_card_changes_its_model_and_nothing_else(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    update_model_card(tmp_path, "someone/birds")
    assert (tmp_path / "README.md").read_text() == CARD.replace('"run"', '"someone/birds"')


def test_a_card_speaks_once_of_what_lies_beside_it(with_code, tmp_path):
    """Below the snippets, whatever else people wrote."""
    folder = shutil.copytree(with_code, tmp_path / "model")
    (folder / "README.md").write_text(CARD)
    for _ in range(2):
        update_model_card(folder, "run")
    before, after = CARD.split("\n## Photos")
    text = (folder / "README.md").read_text()
    assert text.startswith(before) and text.endswith("\n## Photos" + after)
    assert text.count("trust_remote_code=True") == 1 and "frozen" not in text

    tiny_model(base_model_name_or_path="someone/clip").config.save_pretrained(folder)
    (folder / "model.safetensors").rename(folder / SMALL_WEIGHTS)
    for _ in range(2):
        update_model_card(folder, "run")
    text = (folder / "README.md").read_text()
    assert text.count("takes the frozen weights from someone/clip") == text.count("trust_remote_code=True") == 1


def test_a_card_that_ends_with_its_snippets(with_code, tmp_path):
    folder = shutil.copytree(with_code, tmp_path / "model")
    (folder / "README.md").write_text(CARD.split("\n## Photos")[0])
    update_model_card(folder, "run")
    assert (folder / "README.md").read_text().endswith("codes = model.get_hash_codes(**inputs)\n```\n")


def test_a_card_of_somebody_else_is_left_alone(with_code, tmp_path):
    folder = shutil.copytree(with_code, tmp_path / "model")
    (folder / "README.md").write_text("# Mine\n")
    update_model_card(folder, "someone/birds")
    assert (folder / "README.md").read_text() == "# Mine\n"


def test_a_trained_part_whose_base_nobody_else_has_is_not_published(tmp_path):
    clip = save_tiny_clip(tmp_path / "clip")
    model = ConceptHashModel.from_clip(
        clip, class_embeddings=torch.randn(5, 16), num_labels=5, num_bits=12, adapter_dim=8
    )
    model.save_pretrained(tmp_path / "model", trained_only=True)
    with pytest.raises(ValueError, match=f"only what was trained, and its frozen weights are in {clip}"):
        push_to_hub(tmp_path / "model", "someone/birds")


def test_a_base_is_found_from_any_folder_and_is_no_name_of_the_hub(tmp_path, monkeypatch):
    """Also if it was named as one who is beside it does."""
    save_tiny_clip(tmp_path / "models" / "clip")
    monkeypatch.chdir(tmp_path)
    some = {"class_embeddings": torch.randn(5, 16), "num_labels": 5, "num_bits": 12, "adapter_dim": 8}
    ConceptHashModel.from_clip("models/clip", **some).save_pretrained("model", trained_only=True)
    monkeypatch.chdir(tmp_path / "models")
    loaded = ConceptHashModel.from_pretrained("../model")
    assert loaded.config.base_model_name_or_path == str(tmp_path / "models" / "clip")
    # as models of an earlier version have it
    loaded.config.base_model_name_or_path = "clip"
    loaded.config.save_pretrained("older")
    (tmp_path / "model" / SMALL_WEIGHTS).rename("older/" + SMALL_WEIGHTS)
    with pytest.raises(ValueError, match="only what was trained, and its frozen weights are in clip"):
        push_to_hub("older", "someone/birds")


def test_what_is_published_names_no_folder_of_this_machine(tmp_path):
    clip = save_tiny_clip(tmp_path / "tiny-clip")
    some = {"class_embeddings": torch.randn(5, 16), "num_labels": 5, "num_bits": 12, "adapter_dim": 8}
    ConceptHashModel.from_clip(clip, **some).save_pretrained(tmp_path / "model")
    ours = json.loads((tmp_path / "model" / "config.json").read_text())
    assert ours["base_model_name_or_path"] == str(clip)
    assert json.loads(_public_config(tmp_path / "model")) == ours | {"base_model_name_or_path": "tiny-clip"}
