"""What only a GPU can show; without one, all of it is skipped."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from common import tiny_config
from runs import TinyPhotos, arguments, forget_accelerate, largest_difference, state_of, untrained
from torch.nn.attention import SDPBackend, sdpa_kernel

from concepthash_hf import ConceptHashModel
from concepthash_hf.training import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ON_ONE_GPU = Path(__file__).parent / "distributed" / "train_on_one_gpu.py"


@pytest.fixture(autouse=True)
def _anew():
    forget_accelerate()
    yield
    forget_accelerate()


@pytest.fixture
def photos():
    return TinyPhotos(64).photos.cuda()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ConceptHashModel(tiny_config()).cuda().eval().vision_model


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_it_learns_in_every_precision(tmp_path, precision):
    photos = TinyPhotos(64)
    run = arguments(tmp_path / "run", num_train_epochs=20, mixed_precision=precision, dataloader_num_workers=0)
    found = train(untrained(), photos, run, photos, photos)
    assert found["eval_map"] > 0.9, found
    assert found["environment"]["device"] == torch.cuda.get_device_name()


@torch.inference_mode()
def test_codes_are_those_of_a_cpu(model, photos):
    on_gpu = model(photos).code_logits.cpu()
    on_cpu = model.cpu()(photos.cpu()).code_logits
    assert (on_gpu - on_cpu).abs().max() < 1e-4
    clear = on_cpu.abs() > 1e-4
    assert ((on_gpu > 0) == (on_cpu > 0))[clear].all()


@torch.inference_mode()
def test_flash_attention_gives_the_codes_of_plain_attention(model, photos):
    model.bfloat16().hash_head.batch_norm.float()
    logits = []
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        with sdpa_kernel(backend):  # an error if it cannot be had
            logits.append(model(photos.bfloat16()).code_logits.float())
    flash, plain = logits
    assert (flash - plain).abs().max() < 0.1
    assert ((flash > 0) == (plain > 0))[plain.abs() > 0.1].all()


@torch.inference_mode()
def test_compiled_codes(model, photos):
    plain = model(photos).code_logits
    model.compile()
    assert (model(photos).code_logits - plain).abs().max() < 1e-3


def test_two_processes_normalise_together(tmp_path):
    """SyncBatchNorm: two processes with half of each batch train the weights of one, running statistics too."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", ON_ONE_GPU]
    done = subprocess.run([*map(str, command), str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-5000:]
    of_both = torch.load(tmp_path / "weights.pt")
    alone = untrained(dropout=0.0)
    train(alone, TinyPhotos(64), arguments(tmp_path / "alone", num_train_epochs=3, per_device_train_batch_size=32))
    assert largest_difference(of_both, {name: tensor.cpu() for name, tensor in state_of(alone).items()}) < 1e-3
    assert largest_difference(of_both, state_of(untrained(dropout=0.0))) > 0.01
