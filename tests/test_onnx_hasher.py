"""A folder that hashes photos without torch: the codes of the model, bit by bit, on real photos."""

import json
import subprocess
import sys

import numpy as np
import pytest
from bird_photos import NAMES, save_untrained, write_photos
from PIL import Image
from real_photos import hash_model_and_photos, photo_files
from transformers import AutoImageProcessor, AutoTokenizer

from concepthash_hf import ConceptHasher
from concepthash_hf.data import BadImageError
from concepthash_hf.export import export_folder
from concepthash_hf.onnx_hasher import OnnxHasher
from concepthash_hf.pixels import PixelProcessor

# as on a machine without them: importing fails
WITHOUT_TORCH = """
import json, sys
sys.modules["torch"] = sys.modules["torchvision"] = sys.modules["transformers"] = None
from concepthash_hf.index import HammingIndex
from concepthash_hf.onnx_hasher import OnnxHasher
hasher = OnnxHasher(sys.argv[1])
codes = hasher.encode(sys.argv[3:])
found = HammingIndex.load(sys.argv[2]).search(codes, 1)
print(json.dumps({"codes": codes.tolist(), "distances": found.distances.tolist()}))
"""


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("birds") / "photos", 2)


@pytest.fixture(scope="module")
def hasher(tmp_path_factory) -> ConceptHasher:
    return ConceptHasher(save_untrained(tmp_path_factory.mktemp("model") / "untrained"))


@pytest.fixture(scope="module")
def exported(hasher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    assert export_folder(hasher, folder) == folder / "model.onnx"
    return folder


def test_real_photos_without_torch(shared_dir, tmp_path):
    """From files to hits, where nothing of torch can be imported."""
    model, _ = hash_model_and_photos(shared_dir, 24)
    model.save_pretrained(tmp_path / "model")
    model.image_processor.save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(shared_dir / "bench" / "tiny-clip").save_pretrained(tmp_path / "model")
    hasher, files = ConceptHasher(tmp_path / "model"), photo_files(shared_dir, 60)
    export_folder(hasher, tmp_path / "onnx")
    index = hasher.index(files)
    index.save(tmp_path / "index")
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "onnx"), str(tmp_path / "index"), *files]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["codes"] == hasher.encode(files).tolist()
    assert found["distances"] == [[0]] * 60


def test_the_folder_has_all_that_belongs_to_the_model(exported, hasher):
    assert {"model.onnx", "preprocessor_config.json", "tokenizer.json"} <= {file.name for file in exported.iterdir()}
    assert AutoImageProcessor.from_pretrained(exported).to_dict() == hasher.image_processor.to_dict()
    words = ["a photo of a blue jay"]
    assert AutoTokenizer.from_pretrained(exported)(words) == hasher.tokenizer(words)
    assert OnnxHasher(exported).spec == hasher.spec
    assert repr(OnnxHasher(exported)) == f"OnnxHasher('{exported}': 12 bits, 3 concepts)"


def test_photos_as_they_are_given(exported, hasher, birds):
    """One, several, in batches that do not come out even, of any kind that can be decoded."""
    paths = sorted(birds.rglob("*.png"))
    hash_few = OnnxHasher(exported, batch_size=3)
    expected = hasher.encode(birds)
    assert hash_few.encode(paths).tolist() == expected.tolist()
    for one in (paths[0], str(paths[0]), paths[0].read_bytes(), Image.open(paths[0])):
        assert hash_few.encode(one).tolist() == expected[:1].tolist()
    with pytest.raises(ValueError, match="no photos given"):
        hash_few.encode([])
    with pytest.raises(BadImageError, match=r"nowhere\.jpg: no such file"):
        hash_few.encode(["nowhere.jpg"])


def test_an_index_of_another_model_refuses_them(exported, birds, tmp_path):
    other = ConceptHasher(save_untrained(tmp_path / "other", seed=1))
    with pytest.raises(ValueError, match="made by other at revision .*, these are of revision 'sha256:"):
        other.index(birds).codes.search(OnnxHasher(exported).encode(birds / NAMES[0] / "0.png"), 1)


def test_what_is_no_such_folder(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match="no model.onnx in .*: concepthash export writes such a folder"):
        OnnxHasher(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(FileNotFoundError, match="preprocessor_config"):
        OnnxHasher(tmp_path)
    (tmp_path / "preprocessor_config.json").write_bytes((exported / "preprocessor_config.json").read_bytes())
    with pytest.raises(ValueError, match="model.onnx is not what concepthash export writes"):
        OnnxHasher(tmp_path)


def test_a_small_checkpoint_has_them_too(hasher, birds, tmp_path):
    """Saved by its hasher, it is all that another one needs, but for the base that it leaves out."""
    hasher.save_pretrained(tmp_path / "small", trained_only=True)
    assert not (tmp_path / "small" / "model.safetensors").exists()
    small = ConceptHasher(tmp_path / "small")
    assert small.encode(birds).tolist() == hasher.encode(birds).tolist()
    assert np.array_equal(small.encode_names("blue jay"), hasher.encode_names("blue jay"))
    assert PixelProcessor.load(tmp_path / "small").crop == 32


def test_one_of_several_that_cannot_be_read_is_named(exported, birds):
    good = next(birds.rglob("*.png")).read_bytes()
    hasher = OnnxHasher(exported, batch_size=1)
    with pytest.raises(BadImageError, match=r"\(row 1\)"):
        hasher.encode([good, b"xx"])
    with pytest.raises(BadImageError) as error:
        hasher.encode(b"xx")
    assert "row" not in str(error.value)
