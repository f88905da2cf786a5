"""Export to ONNX: what hashes photos, for programs without PyTorch."""

import copy
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .backbones import Adapter
from .codes import binarize, pack_bits
from .encoding import code_spec
from .modeling_hashing import HashingPreTrainedModel, HashingTower
from .whole_files import put, scratch_folder

if TYPE_CHECKING:
    from .hasher import ConceptHasher


def export_folder(hasher: "ConceptHasher", folder: str | Path, *, int8: bool = False) -> Path:
    """Write all that it takes to hash photos without torch, which `onnx_hasher.OnnxHasher` reads.

    Args:
        hasher: with the model.
        folder: gets `model.onnx`, the image processor and, of a model that reads words, the tokenizer.
        int8: see `export_onnx`.

    Returns:
        The ONNX file.

    Raises:
        ImportError: if the extra `concepthash_hf[onnx]` is not installed.

    Example:
        >>> export_folder(ConceptHasher("my_model"), "my_model_onnx")  # doctest: +SKIP
        PosixPath('my_model_onnx/model.onnx')
    """
    path = export_onnx(hasher.model, Path(folder) / "model.onnx", int8=int8)
    hasher.save_companions(folder)
    return path


def export_onnx(
    model: HashingPreTrainedModel, path: str | Path, image_size: int | None = None, *, int8: bool = False
) -> Path:
    """Write the part of a model that hashes photos as an ONNX file; needs the extra `concepthash_hf[onnx]`.

    The graph has one input: `pixel_values`, float32 `(batch, 3, size, size)`, any number of photos as the image
    processor saved with the model makes them. It has two outputs: `code_logits`, float32 `(batch, K)`, and `codes`,
    uint8 `(batch, ceil(K / 8))`, what `get_hash_codes` gives. The metadata of the file are the fields of
    `encoding.code_spec`. Weights are written in float32, and the model stays as it is.

    Args:
        model: on any device, in any mode.
        path: the file to write, e.g. `model.onnx`; its folder is made. Weights over 2 GB go into a second file beside.
        image_size: side of the photos in pixels; default what the model was made for.
        int8: multiply matrices in 8-bit whole numbers: weights are rounded once, each output channel to its own
            scale, and what they are multiplied with as it comes ("dynamic"). A quarter of the size; one bit in a
            hundred differs from the model's, and a code depends a little on the other photos of its batch.

    Returns:
        The path.

    Raises:
        ImportError: if the extra is not installed.
        OSError: if the file cannot be written; says which and why.
        ValueError: if the image size is smaller than a patch.

    Example:
        >>> export_onnx(ConceptHashModel.from_pretrained("my_model"), "my_model/model.onnx")  # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession("my_model/model.onnx")  # doctest: +SKIP
        >>> code_logits, codes = session.run(None, {"pixel_values": pixel_values})  # doctest: +SKIP
    """
    needed = ("onnx", "onnxscript", *(("onnxruntime",) if int8 else ()))
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise ImportError(
            f'export to ONNX needs {" and ".join(missing)}, which is not installed: pip install "concepthash_hf[onnx]"'
        )
    tower = model.base_model
    size = tower.config.image_size if image_size is None else image_size
    if size < tower.config.patch_size:
        raise ValueError(f"image_size must be at least one patch ({tower.config.patch_size} pixels), got {size}")
    with _quiet("onnxscript"):
        program = torch.onnx.export(
            _Hasher(tower, interpolate_pos_encoding=size != tower.config.image_size),
            # a batch of 1 would be taken for the only one
            (torch.zeros(2, tower.config.num_channels, size, size),),
            dynamo=True,
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}},
            input_names=["pixel_values"],
            output_names=["code_logits", "codes"],
            verbose=False,
        )
    assert program is not None
    spec = {name: value for name, value in asdict(code_spec(model)).items() if value is not None}
    program.model.metadata_props.update({name: str(value) for name, value in spec.items()})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(path.parent, for_file=path) as scratch:
        program.save(scratch / path.name)
        folder = _in_whole_numbers(scratch / path.name) if int8 else scratch
        # the graph last, which names the file of its weights
        for written in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
            put(written, path.with_name(written.name))
    return path


def _in_whole_numbers(path: Path) -> Path:
    """Make the matrix products of a graph ones of 8-bit whole numbers, in a folder beside it, which is given."""
    from onnxruntime.quantization import quantize_dynamic

    folder = path.parent / "int8"
    folder.mkdir()
    with _quiet("root"):  # it suggests to prepare the graph, which changed nothing here
        # convolution stays: of a photo's patches, a hundredth of the work
        quantize_dynamic(path, folder / path.name, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)
    return folder


class _Hasher(nn.Module):
    """Pixels to code logits and packed codes, on the CPU, in float32, in evaluation mode."""

    def __init__(self, tower: HashingTower, interpolate_pos_encoding: bool):
        super().__init__()
        self.tower = copy.deepcopy(tower).to("cpu", torch.float32)
        for module in self.tower.modules():
            if isinstance(module, Adapter):
                module.fold_scale()
        self.tower.set_attn_implementation("sdpa")  # flash attention has no place in a graph
        self.interpolate_pos_encoding = interpolate_pos_encoding
        self.eval()

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        output = self.tower(pixel_values, interpolate_pos_encoding=self.interpolate_pos_encoding)
        code_logits = output.code_logits
        return code_logits, pack_bits(binarize(code_logits))


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """Only errors of a logger inside: the exporter's optimizer warns of what it leaves as it is, torch of itself."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
