"""Heads on patch maps: golden values, loops over photos, maps and patches, and which tokens they read."""

import math

import pytest
import torch
from baselines_golden import Golden, tensor
from families import FAMILIES, save_backbone
from torch import Tensor

from concepthash_hf import BaselineModel, BaselineVisionConfig
from concepthash_hf.hash_heads import A2NetHead, ChannelInteraction, SemiconHead, SuppressedAttention, Suppression

NAMES = ["blue", "jay", "gull"]


@pytest.fixture(scope="module")
def golden(shared_dir) -> Golden:
    return Golden(shared_dir)


def a_config(**kwargs) -> BaselineVisionConfig:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "num_bits": 16}
    return BaselineVisionConfig(**sizes | kwargs)


def patches_of(maps: Tensor) -> Tensor:
    """`(B, d, h, w)` -> `(B, N, d)`, row by row."""
    return maps.flatten(2).mT


# golden values, of the code of Ng et al.


@pytest.mark.parametrize("mode", ["train", "eval_running_stats_0_1"])
def test_interaction(golden, mode):
    case = golden.case("semicon_icon")
    weights = {name: tensor(values) for name, values in case["inputs"]["weights"].items()}
    module = ChannelInteraction(16, 4).train(mode == "train")
    with torch.no_grad():
        for ours, theirs in ((module.within, "qkv"), (module.across, "qkv2"), (module.batch_norm, "norm")):
            ours.weight.copy_(weights[f"{theirs}.weight"].reshape(ours.weight.shape))
            ours.bias.copy_(weights[f"{theirs}.bias"])
    found = module(tensor(case["inputs"]["x"]).flatten(2)).unflatten(2, (3, 3))
    torch.testing.assert_close(found, tensor(case[f"y_{mode}"]), rtol=1e-5, atol=2e-6)


def test_suppressed_attention(golden):
    case = golden.case("semicon_sem")
    module = SuppressedAttention(6, 3)
    with torch.no_grad():
        for attention, weight in zip(module.maps, tensor(case["inputs"]["w"]), strict=True):
            attention.projection.weight.copy_(weight[None])
    found = module(patches_of(tensor(case["inputs"]["x"]))).unflatten(2, (4, 4))
    torch.testing.assert_close(found, tensor(case["maps"]), rtol=1e-5, atol=2e-6)


# loops in float64


def test_a2net_as_written_out():
    head, tokens = A2NetHead(a_config(hash_bias=False)).double(), torch.randn(3, 7, 32, dtype=torch.double)
    output = head(tokens)
    for photo in range(3):
        parts = []
        for m in range(4):
            maps = [head.attention.weight[m] @ x + head.attention.bias[m] for x in tokens[photo]]
            parts.append(sum(head.local(a * x) for a, x in zip(maps, tokens[photo], strict=True)) / 7)
        parts.append(sum(head.whole(x) for x in tokens[photo]) / 7)
        features = torch.cat(parts)
        logits = torch.stack([row @ features for row in head.projection.weight])
        back = sum(torch.tanh(u) * row for u, row in zip(logits, head.projection.weight, strict=True))
        torch.testing.assert_close(output.features[photo], features)
        torch.testing.assert_close(output.code_logits[photo], logits.float())
        torch.testing.assert_close(output.beside["reconstruction"][photo], back)
    assert output.beside["features"] is output.features


def test_suppression_as_written_out():
    """Of the whole batch in training; less is left of what was found, more of what was not."""
    attention = 3 * torch.rand(4, 9)
    found = Suppression().train()(attention)
    shares = [[math.exp(a) / sum(map(math.exp, row)) for a in row] for row in attention.tolist()]
    every = [p for row in shares for p in row]
    mean = sum(every) / 36
    deviation = math.sqrt(sum((p - mean) ** 2 for p in every) / 35)
    for row, its in zip(found.tolist(), shares, strict=True):
        for factor, p in zip(row, its, strict=True):
            gain = min(max((p - mean) / deviation**0.3 + 1, 0), 2)
            assert factor == pytest.approx(2 - gain, abs=1e-6)
    assert found.min() < 1 < found.max()


def test_interaction_as_written_out():
    """Of 2 heads of 3 channels, then of 3 groups of 2."""
    module, photos = ChannelInteraction(6, 2).eval(), torch.randn(2, 6, 5)

    def attended(convolution: torch.nn.Conv1d, groups: int, x: Tensor) -> Tensor:
        size, rows = 6 // groups, []
        of_group = [x[size * (output // (18 // groups)) :][:size] for output in range(18)]
        weights = zip(convolution.weight, convolution.bias, of_group, strict=True)
        q, k, v = torch.stack([weight[:, 0] @ channels + bias for weight, bias, channels in weights]).chunk(3)
        for own in (slice(start, start + size) for start in range(0, 6, size)):
            scores = q[own] @ k[own].T / math.sqrt(size)
            rows.append((scores.sign() * (scores.abs() + 1e-5).sqrt()).softmax(1) @ v[own])
        return torch.cat(rows)

    for x, found in zip(photos, module(photos), strict=True):
        mixed = attended(module.within, 2, x) + x
        rectified = (mixed[[0, 3, 1, 4, 2, 5]] / math.sqrt(1 + 1e-5)).relu()
        across = attended(module.across, 3, rectified)
        torch.testing.assert_close(found, across[[0, 2, 4, 1, 3, 5]] + rectified, rtol=1e-4, atol=1e-5)


def test_semicon_as_its_parts_say():
    """An eighth of the bits for each map, in order, then half of them for the whole photo."""
    head, tokens = SemiconHead(a_config()).eval(), torch.randn(3, 7, 32)
    maps, logits = head.attention(tokens), head(tokens).code_logits
    assert logits.shape == (3, 16) and maps.shape == (3, 4, 7)
    for photo in range(3):
        parts = []
        for m in range(4):
            attended = torch.stack([a * x for a, x in zip(maps[photo, m], tokens[photo], strict=True)])
            parts.append(head.projections[m](head.interactions[m](attended.T[None]).mean(2)[0]))
        parts.append(head.projections[4](head.interactions[4](tokens[photo].T[None]).mean(2)[0]))
        assert [len(part) for part in parts] == [2, 2, 2, 2, 8]
        torch.testing.assert_close(logits[photo], torch.cat(parts), rtol=1e-4, atol=1e-5)


# what holds for them


def test_suppression_learns_what_deviation_is_usual():
    """As a BatchNorm does, soon near that of the batches, and then whatever photos are beside one."""
    suppression, attention = Suppression(), 3 * torch.rand(6, 9)
    for _ in range(3):
        in_training = suppression.train()(attention)
    torch.testing.assert_close(suppression.eval()(attention), in_training)
    torch.testing.assert_close(suppression(attention[:1]), suppression(attention)[:1])


def test_the_usual_deviation_is_a_running_mean():
    """Of the first ten batches their mean; of more, a tenth of the new one."""
    suppression, running = Suppression().train(), 0.0
    for number in range(1, 14):
        attention = number * torch.rand(6, 9)
        suppression(attention)
        share = 1 / min(number, 10)
        running = (1 - share) * running + share * attention.softmax(1).std().item()
        assert suppression.running_deviation.item() == pytest.approx(running, rel=1e-5)


def test_what_stands_out_far_is_taken_away_and_no_more():
    attention = torch.zeros(8, 200)
    attention[0, 5] = 50.0
    suppression = Suppression().train()
    found = suppression(attention.requires_grad_())
    assert found[0, 5] == 0 and found.max() <= 2
    assert not found.requires_grad


def test_a_map_that_is_the_same_everywhere_suppresses_nothing():
    for suppression in (Suppression().train(), Suppression().eval()):
        torch.testing.assert_close(suppression(torch.zeros(2, 9)), torch.ones(2, 9))


@pytest.mark.parametrize("method", ["a2net", "semicon"])
@pytest.mark.parametrize("family", FAMILIES)
def test_they_read_the_patches_of_the_last_layer(method, family, tmp_path):
    """All of them, before the last norm; neither CLS nor registers; and a code is of its photo alone."""
    model = BaselineModel.from_backbone(
        save_backbone(tmp_path, family), NAMES, method=method, num_bits=16, first_adapted_layer=1
    ).eval()
    tower, photos = model.vision_model, torch.randn(4, 3, 40, 40)
    output = model(photos, output_hidden_states=True)
    patches = output.hidden_states[-1][:, -16:]
    torch.testing.assert_close(output.code_logits, tower.hash_head(patches).code_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(photos).code_logits, output.code_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(photos[:1]).code_logits, output.code_logits[:1], rtol=1e-4, atol=1e-5)
    assert model(torch.randn(2, 3, 40, 60), interpolate_pos_encoding=True).code_logits.shape == (2, 16)


def test_without_adapters_all_frozen_tokens_are_kept(tmp_path):
    model = BaselineModel.from_backbone(
        save_backbone(tmp_path, "dinov2"), NAMES, method="a2net", num_bits=8, first_adapted_layer=3
    ).eval()
    photos = torch.randn(2, 3, 40, 40)
    states = model.vision_model.frozen_states(photos)
    assert states.shape == (2, model.vision_model.num_frozen_tokens, 32) == (2, 17, 32)
    wanted = model.vision_model.hash_head(states[:, 1:]).code_logits
    for output in (model(frozen_states=states), model(photos)):
        torch.testing.assert_close(output.code_logits, wanted)


@pytest.mark.parametrize("method", ["a2net", "semicon", "csq", "orthohash"])
def test_in_half_precision(method, tmp_path):
    """BatchNorms and what is usual stay float32, also of a file; codes are nearly those of float32."""
    folder = save_backbone(tmp_path / "dinov2", "dinov2")
    torch.manual_seed(0)
    half = BaselineModel.from_backbone(folder, NAMES, method=method, num_bits=16, dtype=torch.bfloat16).eval()
    half.save_pretrained(tmp_path / "half")
    loaded = BaselineModel.from_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    for model in (half, loaded):
        kept = {name for name, t in model.vision_model.hash_head.state_dict().items() if t.dtype == torch.float32}
        assert all("batch_norm" in name or "running_deviation" in name for name in kept)
        assert bool(kept) == (method in ("semicon", "orthohash"))
    photos = torch.randn(4, 3, 40, 40)
    logits, whole = loaded(photos.bfloat16()).code_logits, half.float()(photos).code_logits
    assert logits.dtype == torch.float32
    assert torch.corrcoef(torch.stack([logits.flatten(), whole.flatten()]))[0, 1] > 0.99


def test_sizes_that_semicon_cannot_have_say_so():
    with pytest.raises(ValueError, match="SEMICON takes a num_bits that is a multiple of 8, got 12"):
        SemiconHead(a_config(num_bits=12))
    with pytest.raises(ValueError, match="SEMICON takes a hidden_size that is a multiple of 16, got 40"):
        SemiconHead(a_config(hidden_size=40))
