"""Presets: what they give, that they overrule nothing that is asked for, and that the fast one learns."""

import pytest
import torch
from families import FAMILIES, save_backbone, save_text_model
from transformers import CLIPVisionConfig, Dinov2Config

from concepthash_hf import ConceptHashConfig, ConceptHashModel
from concepthash_hf.presets import model_fields, num_epochs, training_fields

NAMES = ["blue jay", "gull", "wren"]


def test_paper_is_the_published_design():
    assert model_fields("paper", Dinov2Config()) == {}
    assert training_fields("paper", 0) == {}
    assert num_epochs("paper", 93) == 100
    config = ConceptHashConfig().vision_config
    assert (config.first_adapted_layer, config.adapter_dim, config.shared_hash_function) == (0, 384, True)
    assert (config.match_token_scale, config.apply_last_norm, config.prompt_block) == (False, False, True)
    assert not config.start_at_cls


def test_fast_joins_late_but_on_a_clip():
    fields = model_fields("fast", Dinov2Config(hidden_size=384, num_hidden_layers=12))
    assert (fields["first_adapted_layer"], fields["adapter_dim"], fields["match_token_scale"]) == (8, 192, True)
    assert fields["start_at_cls"]
    fields = model_fields("fast", CLIPVisionConfig(hidden_size=768))
    assert (fields["first_adapted_layer"], fields["adapter_dim"], fields["match_token_scale"]) == (0, 192, False)
    assert training_fields("fast", 8)["learning_rate"] == 2 * training_fields("fast", 0)["learning_rate"]


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), [(93, 9), (63, 14), (7, 126), (0, 880), (748, 8)])
def test_fast_takes_as_many_epochs_as_steps_are_needed(steps_per_epoch, epochs):
    assert num_epochs("fast", steps_per_epoch) == epochs


def test_fields_that_are_given_overrule_the_preset(tmp_path):
    vision = save_backbone(tmp_path / "vision", "vit")
    fields = {"class_embeddings": torch.randn(3, 4), "num_bits": 12, "num_concepts": 2}
    model = ConceptHashModel.from_backbone(vision, NAMES, adapter_dim=5, first_adapted_layer=1, **fields)
    assert (model.config.adapter_dim, model.config.vision_config.first_adapted_layer) == (5, 1)
    assert not model.config.vision_config.shared_hash_function
    assert ConceptHashModel.from_backbone(vision, NAMES, preset="paper", **fields).config.adapter_dim == 384


def test_a_name_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="no preset 'quick'; there are 'fast' .* and 'paper'"):
        ConceptHashModel.from_backbone(save_backbone(tmp_path, "vit"), preset="quick")


@pytest.mark.parametrize("family", FAMILIES)
def test_fast_learns_on_every_family(family, tmp_path):
    """Within 100 steps the concept loss is below chance, and the concepts have not fallen together."""
    vision, text = save_backbone(tmp_path / "vision", family), save_text_model(tmp_path / "text", "clip")
    torch.manual_seed(0)
    model = ConceptHashModel.from_backbone(vision, NAMES, text=text, num_bits=12, num_concepts=2)
    classes = torch.randn(3, 3, 40, 40)
    recipe = training_fields("fast", model.config.vision_config.first_adapted_layer)
    optimizer = torch.optim.AdamW(
        model.trainable_parameters(), recipe["learning_rate"], weight_decay=recipe["weight_decay"]
    )
    model.train()
    labels, losses = torch.arange(12) % 3, []
    for step in range(100):
        for group in optimizer.param_groups:
            group["lr"] = recipe["learning_rate"] * min(1, (step + 0.5) / 10)
        output = model(classes[labels] + 0.5 * torch.randn(12, 3, 40, 40), labels=labels)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append({name: term.item() for name, term in output.loss_terms.items()})
    chance = torch.nn.functional.cross_entropy(8 * torch.tensor([[-0.2, 0, 0]]), torch.tensor([0])).item()
    assert losses[-1]["concept"] < 0.7 * chance < losses[0]["concept"]
    assert losses[-1]["classification"] < 0.7 * losses[0]["classification"]
    assert losses[-1]["diversity"] < 0.99
