"""What do bfloat16, compiling, ONNX, 8-bit whole numbers and drafts of JPEG files gain, and which bits do they change?

    python examples/benchmarks/hashing_ways.py --model my_model --photos my_photos --output outputs/hashing_ways.json

A trained model hashes the same photos in every way, in batches of 32, from pixel values; the ways take turns, and the
fastest of the repeats counts. Bits are held against those of float32. Drafts: the photos are enlarged to the size of a
camera's, with grain, and written as JPEG files; what is timed there is from file to pixel values, by one process.
"""

import argparse
import io
import json
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers
from hashing_cost import cpu_name, measure
from PIL import Image
from torch import Tensor

import concepthash_hf
from concepthash_hf import ConceptHasher
from concepthash_hf.data import decode_image, eval_transform
from concepthash_hf.data.transforms import EvalTransform
from concepthash_hf.export import export_onnx

BATCH = 32
LARGE = 3000  # pixels of the shorter side: a camera's 12 million
GRAIN = 4.0  # standard deviation, of 255

Hash = Callable[[Tensor], np.ndarray]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a saved model")
    parser.add_argument("--photos", type=Path, required=True, help="a folder of JPEG files, also below it")
    parser.add_argument("--num_photos", type=int, default=256, help="of them")
    parser.add_argument("--num_large", type=int, default=64, help="photos to enlarge")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("outputs/hashing_ways.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = sorted(args.photos.rglob("*.jpg"))
    files = found[:: max(1, len(found) // args.num_photos)][: args.num_photos]
    hasher = ConceptHasher(args.model, "cpu")
    transform = eval_transform(hasher.image_processor)
    pixel_values = torch.stack([transform(decode_image(file)) for file in files])
    ways, warm_up = make_ways(hasher, pixel_values[:BATCH], args.threads)
    times = measure([lambda hash=hash: hash(pixel_values[:BATCH]) for hash in ways.values()], args.repeats)
    exact = in_batches(ways["float32"], pixel_values)
    results: dict[str, Any] = {
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        **{"num_photos": len(files), "batch_size": BATCH, "repeats": args.repeats, "threads": args.threads},
        **{"seed": 0, "cpu": cpu_name(), "python": platform.python_version(), "torch": torch.__version__},
        **{"transformers": transformers.__version__, "onnxruntime": onnxruntime.__version__},
        **{"concepthash_hf": concepthash_hf.__version__, "ways": {}},
    }
    fastest = {name: min(seconds) for name, seconds in zip(ways, times, strict=True)}
    for name, hash in ways.items():
        results["ways"][name] = {
            "seconds_a_photo": round(fastest[name] / BATCH, 5),
            "times_as_fast": round(fastest["float32"] / fastest[name], 2),
            "seconds_to_warm_up": round(warm_up[name], 1),
            **compare(in_batches(hash, pixel_values), exact),
        }
        print(name, results["ways"][name], flush=True)
    results["drafts"] = measure_drafts(files[:: max(1, len(files) // args.num_large)], transform, ways["float32"])
    print("drafts", results["drafts"])
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n")


def make_ways(hasher: ConceptHasher, batch: Tensor, threads: int) -> tuple[dict[str, Hash], dict[str, float]]:
    """Ways to hash pixel values into packed codes, and the seconds of the first batch of each."""
    tower = hasher.model.base_model
    compiled = ConceptHasher(hasher.name_or_path, "cpu").model.base_model
    compiled.compile()

    def by_torch(tower: Any, half: bool) -> Hash:
        def hash(pixel_values: Tensor) -> np.ndarray:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                return tower.get_hash_codes(pixel_values).numpy()

        return hash

    def by_onnx(int8: bool) -> Hash:
        with tempfile.TemporaryDirectory() as folder:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            file = export_onnx(hasher.model, Path(folder) / "model.onnx", int8=int8)
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda pixel_values: session.run(["codes"], {"pixel_values": pixel_values.numpy()})[0]

    ways = {
        "float32": by_torch(tower, False),
        "float32, compiled": by_torch(compiled, False),
        "bfloat16": by_torch(tower, True),
        "bfloat16, compiled": by_torch(compiled, True),
        "ONNX, float32": by_onnx(False),
        "ONNX, int8": by_onnx(True),
    }
    warm_up = {}
    for name, hash in ways.items():
        started = time.perf_counter()
        hash(batch)
        warm_up[name] = time.perf_counter() - started
    return ways, warm_up


def in_batches(hash: Hash, pixel_values: Tensor) -> np.ndarray:
    """Packed codes of all."""
    return np.concatenate([hash(batch) for batch in pixel_values.split(BATCH)])


def compare(codes: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Which share of the bits, and of the photos, has stayed as it is."""
    differing = np.unpackbits(codes ^ exact, axis=1).sum(1)
    return {
        "equal_bits": round(1 - float(differing.mean()) / (8 * exact.shape[1]), 5),
        "equal_codes": round(float((differing == 0).mean()), 4),
    }


def measure_drafts(files: list[Path], transform: EvalTransform, hash: Hash) -> dict[str, Any]:
    """Large JPEG files decoded whole and as drafts."""
    rng = np.random.default_rng(0)
    large = [as_of_a_camera(file, rng) for file in files]
    seconds, pixels = [], []
    for draft in (None, transform.shorter_side):
        started = time.perf_counter()
        pixels.append(torch.stack([transform(decode_image(file, draft=draft)) for file in large]))
        seconds.append((time.perf_counter() - started) / len(large))
    std = torch.tensor(transform.image_processor.image_std)[:, None, None]
    levels = ((pixels[1] - pixels[0]) * std * 255).abs()
    with Image.open(io.BytesIO(large[0])) as photo:
        size = photo.size
    return {
        **{"num_photos": len(large), "size": size, "mean_bytes": sum(map(len, large)) // len(large)},
        **{"seconds_whole": round(seconds[0], 4), "seconds_draft": round(seconds[1], 4)},
        "times_as_fast": round(seconds[0] / seconds[1], 2),
        **{"mean_levels": round(float(levels.mean()), 3), "largest_levels": round(float(levels.max()), 1)},
        **compare(in_batches(hash, pixels[1]), in_batches(hash, pixels[0])),
    }


def as_of_a_camera(file: Path, rng: np.random.Generator) -> bytes:
    """A photo enlarged, with grain, as the bytes of a JPEG file."""
    photo = decode_image(file)
    factor = LARGE / min(photo.size)
    photo = photo.resize((round(photo.width * factor), round(photo.height * factor)), Image.Resampling.BICUBIC)
    grain = rng.normal(0, GRAIN, (photo.height, photo.width, 1)).astype(np.float32)
    noisy = (np.asarray(photo) + grain).round().clip(0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(out := io.BytesIO(), "JPEG", quality=92)
    return out.getvalue()


if __name__ == "__main__":
    main()
