"""Export to ONNX and with torch.export, against the model itself, on real photos."""

import importlib.util
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from common import TINY_VISION, photos, tiny_model, tiny_tower
from real_photos import hash_model_and_photos

from concepthash_hf import ConceptHashModel
from concepthash_hf.codes import binarize, pack_bits
from concepthash_hf.encoding import code_spec
from concepthash_hf.export import export_onnx

BITS, SIZE = TINY_VISION["num_bits"], TINY_VISION["image_size"]


def run(path: Path, pixel_values: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Code logits and codes, from the file alone."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["code_logits", "codes"], {"pixel_values": pixel_values.numpy()})


def check(path: Path, model: ConceptHashModel, pixel_values: torch.Tensor, **kwargs: bool) -> None:
    """The file does what the model does in evaluation mode."""
    code_logits, codes = run(path, pixel_values)
    with torch.no_grad():
        expected = model(pixel_values, **kwargs).code_logits.numpy()
    np.testing.assert_allclose(code_logits, expected, rtol=0, atol=1e-4)
    differing = (code_logits > 0) != (expected > 0)
    assert not (differing & (np.abs(expected) > 1e-4)).any()
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, pack_bits(code_logits > 0))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ConceptHashModel]:
    """A file and the model that it was made of."""
    torch.manual_seed(0)
    model = tiny_model()
    return export_onnx(model, tmp_path_factory.mktemp("export") / "new folder" / "model.onnx"), model


# ONNX


def test_real_photos(shared_dir, tmp_path):
    model, pixel_values = hash_model_and_photos(shared_dir, 24)
    path = export_onnx(model, tmp_path / "model.onnx")
    check(path, model, pixel_values)
    codes = run(path, pixel_values)[1]
    assert len(np.unique(codes, axis=0)) == 24
    np.testing.assert_array_equal(codes, model.get_hash_codes(pixel_values).numpy())


def test_in_whole_numbers_of_8_bits(shared_dir, tmp_path):
    model, pixel_values = hash_model_and_photos(shared_dir, 24)
    whole, small = export_onnx(model, tmp_path / "whole.onnx"), export_onnx(model, tmp_path / "small.onnx", int8=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small.onnx", "whole.onnx"]
    # the last layer multiplies with these by head, which onnxruntime does in float32 alone
    of_last = [
        f"tower.encoder.layers.{model.config.vision_config.num_hidden_layers - 1}.self_attn.{name}_proj.weight"
        for name in "kv"
    ]
    in_float32 = {weight.name: weight for weight in onnx.load(small).graph.initializer if weight.data_type == 1}
    assert [name for name in in_float32 if "encoder" in name and len(in_float32[name].dims) > 1] == of_last
    left = sum(len(weight.raw_data) for weight in in_float32.values())
    assert small.stat().st_size < 0.27 * (whole.stat().st_size - left) + left
    (exact, _), (code_logits, codes) = run(whole, pixel_values), run(small, pixel_values)
    np.testing.assert_array_equal(codes, pack_bits(code_logits > 0))
    assert 0 < np.abs(code_logits - exact).mean() < 0.1 * exact.std()
    assert ((code_logits > 0) == (exact > 0)).mean() > 0.95
    one_by_one = np.concatenate([run(small, photo[None])[1] for photo in pixel_values[:4]])
    assert np.unpackbits(one_by_one ^ codes[:4]).mean() < 0.05  # the scale is that of all photos of a batch


@pytest.mark.parametrize("batch", [1, 2, 3, 17])
def test_any_number_of_photos(tiny, batch):
    path, model = tiny
    check(path, model, photos(batch))


@pytest.mark.parametrize("int8", [False, True])
def test_the_file_says_what_it_is(tiny, int8, tmp_path):
    path, model = tiny
    if int8:
        path = export_onnx(model, tmp_path / "model.onnx", int8=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (pixel_values,) = session.get_inputs()
    assert (pixel_values.name, pixel_values.type) == ("pixel_values", "tensor(float)")
    assert pixel_values.shape == ["batch", 3, SIZE, SIZE]
    described = [(output.name, output.type, output.shape) for output in session.get_outputs()]
    assert described == [
        ("code_logits", "tensor(float)", ["batch", BITS]),
        ("codes", "tensor(uint8)", ["batch", 2]),  # 12 bits
    ]
    metadata = session.get_modelmeta().custom_metadata_map
    spec = code_spec(model)
    expected = {"num_bits": str(BITS), "num_concepts": str(spec.num_concepts), "revision": spec.revision}
    assert metadata.items() >= expected.items() and metadata.keys() - expected.keys() <= {"onnx.infer"}
    onnx.checker.check_model(path, full_check=True)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]  # weights and all


def test_another_image_size(tmp_path):
    model = tiny_tower()
    path = export_onnx(model, tmp_path / "model.onnx", image_size=50)
    check(path, model, photos(3, 50), interpolate_pos_encoding=True)


def test_the_model_stays_as_it_is_and_the_file_is_float32(tmp_path):
    tiny_model(text=False).save_pretrained(tmp_path)
    model = ConceptHashModel.from_pretrained(tmp_path, dtype=torch.bfloat16, attn_implementation="eager").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = export_onnx(model, tmp_path / "model.onnx")
    assert model.training
    assert model.vision_model.config._attn_implementation == "eager"
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name]), name
    check(path, model.float().eval(), photos())


@pytest.mark.parametrize("int8", [False, True])
def test_it_is_quiet(int8, tmp_path, capfd, caplog, recwarn):
    level = logging.getLogger("onnxscript").level
    export_onnx(tiny_tower(num_hidden_layers=1), tmp_path / "model.onnx", int8=int8)
    assert capfd.readouterr() == ("", "")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [str(warning.message) for warning in recwarn] == []
    assert logging.getLogger("onnxscript").level == level


def test_a_graph_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_text("the one before")

    def half(_, destination):
        Path(destination).write_text("half of the n")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", half)
    with pytest.raises(OSError, match="model.onnx"):
        export_onnx(tiny_tower(num_hidden_layers=1), path)
    assert path.read_text() == "the one before" and [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("absent", "int8", "named"),
    [
        (("onnxscript",), False, "needs onnxscript,"),
        (("onnx", "onnxscript"), False, "needs onnx and onnxscript"),
        (("onnxruntime",), True, "needs onnxruntime,"),
    ],
)
def test_without_the_extra(absent, int8, named, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find_spec(name))
    with pytest.raises(ImportError, match=named) as error:
        export_onnx(tiny_tower(), tmp_path / "model.onnx", int8=int8)
    assert 'pip install "concepthash_hf[onnx]"' in str(error.value)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("size", [0, 9])
def test_an_image_smaller_than_a_patch(size, tmp_path):
    with pytest.raises(ValueError, match=f"at least one patch .10 pixels., got {size}"):
        export_onnx(tiny_tower(), tmp_path / "model.onnx", image_size=size)


# torch.export


def test_torch_export_on_real_photos(shared_dir, tmp_path):
    model, pixel_values = hash_model_and_photos(shared_dir, 8)
    shapes = {"pixel_values": {0: torch.export.Dim("batch", min=1, max=1024)}}
    program = torch.export.export(model.vision_model, (pixel_values[:3],), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    for batch in (1, 8):
        with torch.no_grad():
            code_logits = loaded(pixel_values[:batch]).code_logits
            expected = model(pixel_values[:batch]).code_logits
        torch.testing.assert_close(code_logits, expected, rtol=0, atol=1e-4)
        assert torch.equal(pack_bits(binarize(code_logits)), model.get_hash_codes(pixel_values[:batch]))
