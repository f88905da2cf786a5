"""Hashing photos without torch, with the folder that `concepthash export` writes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .data.decode import decode_image
from .index import CodeSpec, ModelCodes
from .pixels import PixelProcessor

MODEL_FILE = "model.onnx"


class OnnxHasher:
    """Photos in, the codes of `ConceptHasher.encode` out; needs onnxruntime, numpy and PIL.

    Pixel values are the same bit by bit, see `pixels`. Code logits differ by rounding, about 1e-5, so that only the
    bit of a logit that is 0 but for this can be another one.

    Args:
        folder: that `export.export_folder` wrote.
        batch_size: photos at a time.

    Attributes:
        spec: what the codes are, and which model makes them.

    Raises:
        FileNotFoundError: if there is no model or no image processor.
        ImportError: if onnxruntime is not installed.
        ValueError: if a file is not what `export_folder` writes.

    Example:
        >>> hasher = OnnxHasher("my_model_onnx")  # doctest: +SKIP
        >>> codes = hasher.encode(["robin.jpg", "wren.jpg"])  # doctest: +SKIP
        >>> HammingIndex.load("my_index").search(codes, k=5).ids  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, *, batch_size: int = 64) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError('onnxruntime is not installed: pip install "concepthash_hf[onnx]"') from error
        self.folder, self.batch_size = Path(folder), batch_size
        file = self.folder / MODEL_FILE
        if not file.is_file():
            raise FileNotFoundError(f"there is no {MODEL_FILE} in {folder}: concepthash export writes such a folder")
        self._pixels = PixelProcessor.load(folder)
        try:
            self._session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
            known = self._session.get_modelmeta().custom_metadata_map
            bits, concepts = int(known["num_bits"]), int(known["num_concepts"])
        except Exception as error:  # onnxruntime has errors of its own, below none of Python's
            raise ValueError(f"{file} is not what concepthash export writes ({error})") from error
        self.spec = CodeSpec(bits, concepts, known.get("model_id"), known.get("revision"))

    def __repr__(self) -> str:
        return f"OnnxHasher({str(self.folder)!r}: {self.spec.num_bits} bits, {self.spec.num_concepts} concepts)"

    def encode(self, photos: Any) -> ModelCodes:
        """Hash photos.

        Args:
            photos: what `data.decode_image` reads (a path, bytes, a PIL picture), or several of these.

        Returns:
            Packed codes uint8 `(n, ceil(K / 8))`, which an index of another model refuses.

        Raises:
            BadImageError: if a photo cannot be read; says which and why.
            ValueError: if there are no photos.
        """
        is_one = isinstance(photos, str | Path | bytes | Image.Image | Mapping) or not isinstance(photos, Iterable)
        pictures = [photos] if is_one else list(photos)
        if not pictures:
            raise ValueError("no photos given; expected a path, bytes, a PIL picture, or several of these")
        rows = [None] if len(pictures) == 1 else list(range(len(pictures)))
        batches = [slice(start, start + self.batch_size) for start in range(0, len(pictures), self.batch_size)]
        codes = [self._encode(pictures[batch], rows[batch]) for batch in batches]
        return ModelCodes.of(np.concatenate(codes), self.spec)

    def _encode(self, pictures: Sequence[Any], rows: Sequence[int | None]) -> np.ndarray:
        photos = map(decode_image, pictures, rows)
        (codes,) = self._session.run(["codes"], {"pixel_values": np.stack(list(map(self._pixels, photos)))})
        return codes
