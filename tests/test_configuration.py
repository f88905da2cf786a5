"""The configs: strict fields, round trips, sub-configs, the Auto classes."""

import json
import math

import pytest
from common import TINY_TEXT, TINY_VISION, tiny_config
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, CLIPTextConfig, CLIPVisionConfig

from concepthash_hf import ConceptHashConfig, ConceptHashVisionConfig

LOSS_WEIGHTS = ("classification_weight", "quantization_weight", "concept_weight", "diversity_weight")


# construction


def test_defaults_are_the_paper():
    config = ConceptHashConfig()
    assert (config.num_bits, config.num_concepts, config.adapter_dim) == (64, 4, 384)
    assert config.vision_config.bits_per_concept == 16
    assert config.vision_config.prompt_dropout == 0.1
    assert config.vision_config.prompt_num_heads == 8
    assert (config.margin, config.scale) == (0.2, 8.0)
    assert [getattr(config, weight) for weight in LOSS_WEIGHTS] == [1.0] * 4
    assert config.freeze_backbone
    assert config.text_config is None
    assert config.class_embedding_dim is None
    assert (config.vision_config.hidden_size, config.vision_config.patch_size) == (768, 32)


def test_the_towers_fields_can_be_given_to_the_whole_and_read_there():
    config = ConceptHashConfig(num_bits=32, num_concepts=2, adapter_dim=7, prompt_num_heads=4, prompt_dropout=0)
    vision = config.vision_config
    assert (vision.num_bits, vision.num_concepts, vision.adapter_dim) == (32, 2, 7)
    assert (vision.prompt_num_heads, vision.prompt_dropout) == (4, 0)
    assert (config.num_bits, config.num_concepts, config.adapter_dim) == (32, 2, 7)


@pytest.mark.parametrize("as_object", [False, True])
def test_the_towers_fields_given_to_the_whole_go_over_its_own(as_object):
    vision = ConceptHashVisionConfig(**TINY_VISION) if as_object else dict(TINY_VISION)
    config = ConceptHashConfig(vision_config=vision, num_bits=24)
    assert config.vision_config.num_bits == 24
    assert config.vision_config.hidden_size == TINY_VISION["hidden_size"]
    given = vision.num_bits if as_object else vision["num_bits"]
    assert given == TINY_VISION["num_bits"]  # what the caller passed is not changed


def test_the_tower_is_a_clip_tower_with_a_name_of_its_own():
    assert type(ConceptHashVisionConfig().backbone_config) is CLIPVisionConfig
    assert ConceptHashVisionConfig.model_type not in (CLIPVisionConfig.model_type, ConceptHashConfig.model_type)
    config = tiny_config()
    assert type(config.vision_config) is ConceptHashVisionConfig
    assert type(config.text_config) is CLIPTextConfig
    assert set(config.sub_configs) == {"vision_config", "text_config"}


def test_common_properties():
    config = tiny_config(num_labels=7)
    assert config.num_labels == 7
    assert list(config.id2label) == list(range(7))
    assert len(config.label2id) == 7
    config = tiny_config(id2label={0: "blue jay", 1: "indigo bunting"}, num_labels=2)
    assert config.num_labels == 2
    assert tiny_config(text=False).text_config is None


# round trips


def check_same(loaded: ConceptHashConfig, config: ConceptHashConfig) -> None:
    assert type(loaded) is type(config)
    assert loaded.to_dict() == config.to_dict()


EXAMPLES = {
    "defaults": lambda: ConceptHashConfig(),
    "tiny": lambda: tiny_config(),
    "no text tower": lambda: tiny_config(text=False),
    "everything else": lambda: tiny_config(
        id2label={0: "blue jay", 1: "indigo bunting"},
        num_labels=2,
        binarize_class_embeddings=not ConceptHashConfig().binarize_class_embeddings,
        freeze_backbone=False,
        diversity_weight=0,
        concept_weight=0.5,
        margin=0.1,
        scale=30,
        base_model_name_or_path="openai/clip-vit-base-patch32",
    ),
}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_round_trips(example, tmp_path):
    config = example()
    check_same(ConceptHashConfig.from_dict(config.to_dict()), config)
    check_same(ConceptHashConfig(**json.loads(config.to_json_string())), config)
    config.to_json_file(tmp_path / "config.json")
    check_same(ConceptHashConfig.from_json_file(tmp_path / "config.json"), config)
    config.save_pretrained(tmp_path / "folder")
    check_same(ConceptHashConfig.from_pretrained(tmp_path / "folder"), ConceptHashConfig.from_dict(config.to_dict()))
    assert ConceptHashConfig.from_pretrained(tmp_path / "folder").id2label == config.id2label


def test_a_sub_config_loads_alone(tmp_path):
    config = tiny_config()
    config.save_pretrained(tmp_path)
    vision = ConceptHashVisionConfig.from_pretrained(tmp_path)
    assert vision.to_dict() == config.vision_config.to_dict()
    text = CLIPTextConfig.from_pretrained(tmp_path)
    assert {name: getattr(text, name) for name in TINY_TEXT} == TINY_TEXT
    vision.save_pretrained(tmp_path / "vision")
    assert ConceptHashVisionConfig.from_pretrained(tmp_path / "vision").to_dict() == vision.to_dict()


def test_auto_config_knows_both(tmp_path):
    config = tiny_config()
    config.save_pretrained(tmp_path / "whole")
    config.vision_config.save_pretrained(tmp_path / "tower")
    assert type(AutoConfig.from_pretrained(tmp_path / "whole")) is ConceptHashConfig
    assert type(AutoConfig.from_pretrained(tmp_path / "tower")) is ConceptHashVisionConfig
    assert type(AutoConfig.for_model("concepthash")) is ConceptHashConfig


def test_keyword_overrides(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    config = ConceptHashConfig.from_pretrained(tmp_path, diversity_weight=0, num_labels=9)
    assert config.diversity_weight == 0
    assert config.num_labels == 9


def test_keyword_overrides_reach_the_tower(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    config = ConceptHashConfig.from_pretrained(tmp_path, num_bits=24, prompt_dropout=0.5)
    assert config.num_bits == config.vision_config.num_bits == 24
    assert config.vision_config.prompt_dropout == 0.5
    assert config.vision_config.hidden_size == TINY_VISION["hidden_size"]


# bad input


@pytest.mark.parametrize("tower", ["vision_config", "text_config"])
def test_sizes_that_would_fill_the_memory(tower):
    values = tiny_config().to_dict()
    where = values[tower]["backbone_config"] if tower == "vision_config" else values[tower]
    where["num_hidden_layers"] = 10**9
    with pytest.raises(StrictDataclassError, match="num_hidden_layers of a .* at most 1000, got 10{9}"):
        ConceptHashConfig(**values)


@pytest.mark.parametrize("kind", [ConceptHashConfig, ConceptHashVisionConfig])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_bits": 30}, "multiple of num_concepts.*num_bits=30, num_concepts=4"),
        ({"num_bits": 64, "num_concepts": 5}, "multiple of num_concepts.*num_bits=64, num_concepts=5"),
        ({"num_bits": 2}, "multiple of num_concepts.*num_bits=2, num_concepts=4"),
        ({"num_bits": 0}, "num_bits must be a positive integer, got 0"),
        ({"num_bits": -8}, "num_bits must be a positive integer, got -8"),
        ({"num_concepts": 0}, "num_concepts must be a positive integer, got 0"),
        ({"adapter_dim": 0}, "adapter_dim must be a positive integer, got 0"),
        ({"prompt_num_heads": 0}, "prompt_num_heads must be a positive integer, got 0"),
        ({"prompt_dropout": 1.0}, r"prompt_dropout must lie in \[0, 1\), got 1.0"),
        ({"prompt_dropout": -0.1}, r"prompt_dropout must lie in \[0, 1\), got -0.1"),
        ({"num_bits": "abc"}, "'num_bits' expected int, got str .*'abc'"),
        ({"num_bits": 64.0}, "'num_bits' expected int, got float"),
        ({"num_concepts": None}, "'num_concepts' expected int, got NoneType"),
    ],
)
def test_impossible_towers_are_refused(kind, fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        kind(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"diversity_weight": -1}, "weights must be finite and not negative.*'diversity': -1"),
        ({"concept_weight": -0.5}, "weights must be finite and not negative.*'concept': -0.5"),
        ({"diversity_weight": math.nan}, "weights must be finite.*'diversity': nan"),
        ({"scale": math.inf}, "margin and scale must be finite.* inf"),
        ({"class_embedding_dim": 0}, "class_embedding_dim must be positive or None, got 0"),
        ({"margin": -0.2}, "margin not negative.* -0.2"),
        ({"scale": 0}, "scale positive.* 0"),
        ({"margin": "0.2"}, "'margin'"),
    ],
)
def test_impossible_objectives_are_refused(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        ConceptHashConfig(**fields)


def test_assignment_is_checked_too():
    config = ConceptHashVisionConfig()
    with pytest.raises(StrictDataclassError, match="'num_bits' expected int, got str"):
        config.num_bits = "abc"
