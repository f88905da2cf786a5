"""Parity with the numbers that the authors' implementation printed (shared/reference/GOLDEN.md).

Outputs agree to 1e-5, gradients to 1e-4 of the largest of their tensor. The reference puts the margin of its concept
loss on concept 0 only; we do not, so its loss is composed here from our outputs and the pure functions.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import MethodType

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from concepthash_hf import ConceptHashModel, ConceptHashOutput
from concepthash_hf.codes import binarize, pack_bits
from concepthash_hf.convert import convert_reference_checkpoint
from concepthash_hf.losses import margin_cross_entropy


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(shared_dir / "reference" / "golden.safetensors")


@pytest.fixture(scope="module")
def scalars(shared_dir: Path) -> dict[str, float]:
    return json.loads((shared_dir / "reference" / "golden.json").read_text())["scalars"]


@pytest.fixture(scope="module")
def trajectory(shared_dir: Path) -> list[dict[str, float]]:
    return json.loads((shared_dir / "reference" / "golden.json").read_text())["meta"]["sgd_trajectory"]


@pytest.fixture(scope="module")
def clip_folder(shared_dir: Path) -> Path:
    return shared_dir / "reference" / "tiny-clip"


def under(golden: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one key of the golden file."""
    prefix = f"{prefix}/"
    return {name.removeprefix(prefix): tensor for name, tensor in golden.items() if name.startswith(prefix)}


@pytest.fixture
def convert(golden: dict[str, Tensor], clip_folder: Path) -> Callable[..., ConceptHashModel]:
    """Converts the reference state under a key of the golden file."""
    return lambda key="state": convert_reference_checkpoint(under(golden, key), clip_folder, prompt_dropout=0.0)


def close(ours: Tensor, reference: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours, reference, rtol=0, atol=tolerance)


def check_outputs(output: ConceptHashOutput, reference: dict[str, Tensor]) -> None:
    """Compare with one `eval*` group of the golden file, as far as that group goes."""
    close(output.code_logits, reference["codes"])
    close(output.class_logits, reference["logits_cont"])
    close(output.binary_class_logits, reference["logits_bin"])
    close(output.concept_logits, reference["logits_concept"].transpose(0, 1))
    assert torch.equal(binarize(output.code_logits), reference["codes"] > 0)
    if "hash_features" in reference:
        close(output.concept_embeddings, reference["hash_features"])
    if "attn_last" in reference:
        num_concepts = output.concept_logits.shape[1]
        close(output.concept_attentions, reference["attn_last"].mean(1)[:, -num_concepts:, 1:-num_concepts])


def slipped_concept_loss(concept_logits: Tensor, labels: Tensor) -> Tensor:
    """The reference's concept loss: a margin on concept 0 only."""
    terms = [
        margin_cross_entropy(logits, labels, margin=0.2 if concept == 0 else 0.0)
        for concept, logits in enumerate(concept_logits.unbind(1))
    ]
    return torch.stack(terms).mean()


def reference_loss(output: ConceptHashOutput, labels: Tensor, diversity: bool) -> Tensor:
    terms = output.loss_terms
    loss = terms["classification"] + terms["quantization"] + slipped_concept_loss(output.concept_logits, labels)
    return loss + terms["diversity"] if diversity else loss


# outputs in evaluation mode


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("state", "outputs"), [("state", "eval"), ("state_init", "eval_init")])
def test_eval_outputs(golden, convert, state, outputs, attention):
    model, reference = convert(state), under(golden, outputs)
    model.set_attn_implementation(attention)
    with torch.no_grad():
        output = model(golden["images"], output_attentions=True, output_hidden_states=True)

    check_outputs(output, reference)
    close(model.class_centres(), reference["class_centres"])
    close(model.vision_model.concept_prompt(), reference["concept_tokens_in"][0])
    close(output.hidden_states[0], reference["after_pre_layrnorm"])
    close(output.hidden_states[-1], reference["last_hidden_state"])
    if attention == "eager":
        close(output.attentions[0], reference["attn_first"])
        close(output.attentions[-1], reference["attn_last"])


@pytest.mark.parametrize("state", ["state", "state_init"])
def test_packed_codes(golden, convert, state):
    codes = convert(state).get_hash_codes(golden["images"])
    reference = pack_bits((golden[f"{state.replace('state', 'eval')}/codes"] > 0).numpy())
    assert codes.dtype == torch.uint8
    assert codes.tolist() == reference.tolist()


def test_raw_class_embeddings(golden, convert):
    model, reference = convert(), under(golden, "eval_rawcenter")
    model.class_embeddings = golden["raw_text_embeddings"]
    with torch.no_grad():
        signed = model(golden["images"])
        model.config.binarize_class_embeddings = False
        raw = model(golden["images"])
    close(signed.class_logits, golden["eval/logits_cont"])  # what the reference does: it reads their signs
    close(raw.class_logits, reference["logits_cont"])
    close(raw.binary_class_logits, reference["logits_bin"])
    close(model.class_centres(), reference["class_centres"])


# another image size


def test_bits_at_96_pixels(golden, convert):
    model, reference = convert(), under(golden, "eval_96px")
    with torch.no_grad():
        output = model(golden["images96"], interpolate_pos_encoding=True)
    assert torch.equal(binarize(output.code_logits), reference["codes"] > 0)
    close(output.code_logits, reference["codes"], tolerance=0.03)


def test_96_pixels_with_the_interpolation_of_the_reference(golden, convert):
    model = convert()

    def interpolate(self, embeddings: Tensor, height: int, width: int) -> Tensor:
        cls, patches = self.position_embedding.weight[:1], self.position_embedding.weight[1:]
        side = int(len(patches) ** 0.5)
        grid = patches.T.reshape(1, -1, side, side)
        scale = [(pixels // self.patch_size + 0.1) / side for pixels in (height, width)]
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)
        return torch.cat([cls, grid[0].flatten(1).T]).unsqueeze(0)

    embeddings = model.vision_model.embeddings
    embeddings.interpolate_pos_encoding = MethodType(interpolate, embeddings)
    with torch.no_grad():
        output = model(golden["images96"], interpolate_pos_encoding=True, output_attentions=True)
    check_outputs(output, under(golden, "eval_96px"))


# objectives and gradients


def test_the_three_concept_losses(golden, scalars, convert):
    model = convert().train()
    logits, labels = model(golden["images"]).concept_logits, golden["labels"]
    ours, slipped, none = (
        margin_cross_entropy(logits, labels),
        slipped_concept_loss(logits, labels),
        margin_cross_entropy(logits, labels, margin=0.0),
    )
    for loss, key, value in [
        (slipped, "margin_on_concept0_only", 3.672704),
        (ours, "margin_on_all", 4.847183),
        (none, "no_margin", 3.294109),
    ]:
        assert loss.item() == pytest.approx(scalars[f"check_concept_margin/{key}"], abs=1e-5)
        assert loss.item() == pytest.approx(value, abs=1e-5)
    close(model(golden["images"], labels=labels).loss_terms["concept"], ours)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("state", "run", "diversity"),
    [("state", "train_A", False), ("state", "train_B", True), ("state_init", "train_init_A", False)],
)
def test_losses_gradients_and_statistics(golden, scalars, convert, clip_folder, state, run, diversity, attention):
    model, reference = convert(state).train(), under(golden, run)
    model.set_attn_implementation(attention)
    output = model(golden["images"], labels=golden["labels"])
    loss = reference_loss(output, golden["labels"], diversity)
    loss.backward()

    check_outputs(output, reference)
    for ours, theirs in {"classification": "cont", "quantization": "bin", "diversity": "attn_div"}.items():
        if f"{run}/losses/{theirs}" in scalars:
            assert output.loss_terms[ours].item() == pytest.approx(scalars[f"{run}/losses/{theirs}"], abs=1e-5)
    assert loss.item() == pytest.approx(scalars[f"{run}/total"], abs=2e-5)
    batch_norm = model.vision_model.hash_head.batch_norm
    close(batch_norm.running_mean, reference["bn_running_mean"])
    close(batch_norm.running_var, reference["bn_running_var"])

    # the reference's gradients, converted as if they were a checkpoint with one name for each trained tensor
    others = {
        name: tensor
        for name, tensor in under(golden, state).items()
        if not name.startswith(("adapter_params.", "trainable_params.", "concept_ce."))
    }
    gradients = under(golden, f"{run}/grads")
    assert len(gradients) == 67
    compare_gradients(model, convert_reference_checkpoint(others | gradients, clip_folder, prompt_dropout=0.0))


def compare_gradients(model: ConceptHashModel, reference: ConceptHashModel) -> None:
    """The gradients of one model against the parameters of the other."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 67
    for name, parameter in trained.items():
        gradient, expected = parameter.grad, reference.get_parameter(name).detach()
        # no gradient reaches the specificity embedding but for round-off: BatchNorm takes a constant away
        tolerance = 1e-6 if name.endswith("hash_head.specificity") else 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(gradient, expected, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


# training


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_states_after_sgd_steps(golden, trajectory, convert, attention):
    model = convert().train()
    model.config.diversity_weight = 0.0
    model.set_attn_implementation(attention)
    optimizer = torch.optim.SGD(model.trainable_parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    for step, printed in enumerate(trajectory, start=1):
        output = model(golden["images"], labels=golden["labels"])
        loss = reference_loss(output, golden["labels"], diversity=False)
        assert loss.item() == pytest.approx(printed["loss"], rel=1e-5)
        assert output.loss_terms["classification"].item() == pytest.approx(printed["cont"], abs=1e-4)
        assert output.loss_terms["quantization"].item() == pytest.approx(printed["bin"], abs=1e-4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (1, 5):
            reference = convert(f"sgd_step{step}/state").state_dict()
            for name, tensor in model.state_dict().items():
                torch.testing.assert_close(
                    tensor, reference[name], rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
                )
        if step == 1:
            model.eval()
            with torch.no_grad():
                check_outputs(model(golden["images"], output_attentions=True), under(golden, "sgd_step1/eval"))
            model.train()
    assert step == 5
