"""What does hashing cost beside the backbone it is built on, family by family?

    python examples/benchmarks/hashing_cost.py --output outputs/hashing_cost.json
    python examples/benchmarks/hashing_cost.py --dtype bfloat16 --batch_size 256 --shapes dinov2-small vit-b-16

Hashes a batch of photos and runs transformers' own model of the same shape over it, both with random weights, one
after the other in every repeat so that a busy machine slows both. On a GPU where there is one. Prints and writes
photos per second, and the median ratio of the times.
"""

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    PreTrainedConfig,
    SiglipVisionConfig,
    ViTConfig,
)

import concepthash_hf
from concepthash_hf import ConceptHashVisionConfig, ConceptHashVisionModel
from concepthash_hf.backbones import family_of
from concepthash_hf.hashing import on_cpu
from concepthash_hf.presets import model_fields

LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
SHAPES: dict[str, PreTrainedConfig] = {
    "clip-vit-b-32": CLIPVisionConfig(),
    "dinov2-small": Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=224),
    "dinov2-small-registers": Dinov2WithRegistersConfig(
        hidden_size=384, num_attention_heads=6, image_size=224, patch_size=14
    ),
    "vit-b-16": ViTConfig(),
    "siglip-b-16": SiglipVisionConfig(vision_use_head=False),
    "clip-vit-l-14": CLIPVisionConfig(patch_size=14, **LARGE),
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES)[:-1])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch_size", type=int, default=32, help="photos hashed at a time")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("outputs/hashing_cost.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = "cpu" if on_cpu() else torch.accelerator.current_accelerator().type
    results = {
        "command": shlex.join(["python", *sys.argv]),
        "bits_and_concepts": "64 bits, 4 concepts",
        **{name: getattr(arguments, name) for name in ("dtype", "batch_size", "repeats", "threads")},
        "seed": 0,
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "concepthash_hf": concepthash_hf.__version__,
        "rows": [],
    }
    for name in arguments.shapes:
        row = measure_shape(SHAPES[name], getattr(torch, arguments.dtype), device, arguments)
        results["rows"].append({"shape": name, "family": SHAPES[name].model_type} | row)
        print(results["rows"][-1], flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def measure_shape(
    config: PreTrainedConfig, dtype: torch.dtype, device: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Photos per second of the bare backbone and of hashing by both presets, and what hashing costs in terms of it."""
    torch.manual_seed(0)
    models = {"bare": bare(config)}
    for preset in ("fast", "paper"):
        models[preset] = ConceptHashVisionModel(
            ConceptHashVisionConfig(backbone_config=config, **model_fields(preset, config))
        )
    size = config.image_size
    pixel_values = torch.randn(arguments.batch_size, 3, size, size, device=device, dtype=dtype)
    for model in models.values():
        model.to(device, dtype).eval()
        if hasattr(model, "hash_head"):
            model.hash_head.batch_norm.float()

    def call(model: torch.nn.Module) -> Callable[[], None]:
        def run() -> None:
            model(pixel_values)
            if device == "cuda":
                torch.cuda.synchronize()

        return run

    with torch.inference_mode():
        seconds = dict(
            zip(models, measure([call(model) for model in models.values()], arguments.repeats), strict=True)
        )
    row: dict[str, Any] = {
        f"{name}_photos_per_second": round(arguments.batch_size / statistics.median(times), 1)
        for name, times in seconds.items()
    }
    for preset in ("fast", "paper"):
        # repeat by repeat: what slows the machine for a while slows both
        ratios = (ours / bare for ours, bare in zip(seconds[preset], seconds["bare"], strict=True))
        row[f"{preset}_times_bare"] = round(statistics.median(ratios), 3)
    return row


def bare(config: PreTrainedConfig) -> torch.nn.Module:
    """The backbone as transformers has it, with random weights."""
    family = family_of(config)
    return family.model(config, **(family.model_kwargs or {}))


def measure(functions: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of every repeat of every function, interleaved, after one call that does not count."""
    seconds: list[list[float]] = [[] for _ in functions]
    for repeat in range(-1, repeats):
        for function, measured in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            if repeat >= 0:
                measured.append(time.perf_counter() - start)
    return seconds


def cpu_name() -> str:
    """As the system calls it, where it does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def circumstances() -> dict[str, str]:
    """What a benchmark on a CPU writes beside its numbers: its command, the processor and the versions."""
    return {
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "concepthash_hf": concepthash_hf.__version__,
    }


if __name__ == "__main__":
    main()
