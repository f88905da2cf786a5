"""What a backbone gives without ConceptHash: neighbours by its float features, and linear functions on them.

    python examples/benchmarks/linear_hash.py --dataset cub100 --model_name_or_path facebook/dinov2-small

The least that a trained ConceptHash has to beat. Features are the CLS token after the last layer norm, of the pixels
that hashing sees. The linear hash function is `BatchNorm(W x)`, trained on them with the classification and
quantization losses against class centres from language (sign of the class embeddings), 30 epochs of AdamW at 1e-2.
The linear probe is `W BatchNorm(x)` with cross-entropy, trained alike: it classifies, and hashes nothing.
Adds a JSON line for each to `real_photos.jsonl`, which `real_photos.py` prints.
"""

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from concepthash_hf import ConceptHashModel, __version__
from concepthash_hf.backbones import family_of
from concepthash_hf.building import A_TEXT_MODEL
from concepthash_hf.codes import binarize, pack_bits
from concepthash_hf.concept_layers import ConceptHashTextProjection
from concepthash_hf.data import eval_transform, load_photos
from concepthash_hf.hashing import on_cpu
from concepthash_hf.losses import binary_cosine_logits, cosine_logits, margin_cross_entropy
from concepthash_hf.metrics import feature_metrics, retrieval_metrics

ROWS = Path(__file__).with_name("real_photos.jsonl")


def main() -> None:
    """Compute features once, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--text_model_name_or_path", default=A_TEXT_MODEL)
    parser.add_argument("--num_bits", type=int, nargs="+", default=[64, 32, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43])
    parser.add_argument("--output", type=Path, default=ROWS)
    args = parser.parse_args()
    splits = load_photos(args.dataset)
    model = ConceptHashModel.from_backbone(
        args.model_name_or_path, splits.class_names, text=args.text_model_name_or_path, preset="paper"
    ).eval()
    train, query = (cls_features(model, splits, split) for split in ("train", "query"))
    words = model.class_embeddings.sign()
    found = feature_metrics(*query, *train, at=[1])
    rows = [{"method": "float neighbours"} | {name: found[name] for name in ("map", "precision@1")}]
    for seed in args.seeds:
        rows.append({"method": "linear probe", "seed": seed} | linear_probe(query, train, len(words), seed))
    for num_bits in args.num_bits:
        for seed in args.seeds:
            rows.append({"method": "linear hash", "num_bits": num_bits, "seed": seed})
            rows[-1] |= linear_hash(query, train, words, num_bits, seed)
    common = {
        "photos": splits.name,
        "backbone": Path(args.model_name_or_path).name,
        "size": model.config.vision_config.image_size,
        "command": shlex.join(["python", Path(sys.argv[0]).name, "--dataset", splits.name]),
        "device": "cpu" if on_cpu() else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{"torch": torch.__version__, "transformers": transformers.__version__, "concepthash_hf": __version__},
    }
    with args.output.open("a") as file:
        for row in rows:
            file.write(json.dumps(common | row) + "\n")
            print({name: row.get(name) for name in ("method", "num_bits", "seed", "map", "precision@1", "accuracy")})


@torch.no_grad()
def cls_features(model: ConceptHashModel, splits: Any, split: str) -> tuple[Tensor, Tensor]:
    """Features `(n, d)` of the bare backbone, and labels `(n,)`."""
    config = model.config.vision_config.backbone_config
    tower = family_of(config).model.from_pretrained(model.config.base_model_name_or_path, dtype=torch.float32).eval()
    photos = splits.torch_dataset(split, eval_transform(model.image_processor))
    loader = torch.utils.data.DataLoader(photos, 64)
    features, labels = [], []
    for batch in tqdm(loader, desc=split):
        with torch.autocast("cpu", torch.bfloat16):
            features.append(tower(batch["pixel_values"]).pooler_output.float())
        labels.append(batch["labels"])
    return torch.cat(features), torch.cat(labels)


def linear_hash(
    query: tuple[Tensor, Tensor], train: tuple[Tensor, Tensor], words: Tensor, num_bits: int, seed: int
) -> dict[str, float]:
    """Train the linear hash function and measure its codes."""
    torch.manual_seed(seed)
    features, labels = train
    hash_function = nn.Sequential(nn.Linear(features.shape[1], num_bits, bias=False), nn.BatchNorm1d(num_bits))
    projection = ConceptHashTextProjection(words.shape[1], num_bits)

    def loss(rows: Tensor) -> Tensor:
        logits, centres = hash_function(features[rows]), projection(words)
        continuous = margin_cross_entropy(cosine_logits(logits, centres), labels[rows])
        return continuous + margin_cross_entropy(binary_cosine_logits(logits, centres), labels[rows])

    seconds = minimise(loss, [*hash_function.parameters(), *projection.parameters()], len(features))
    hash_function.eval()
    with torch.no_grad():
        codes = [pack_bits(binarize(hash_function(part[0]))).numpy() for part in (query, train)]
    found = retrieval_metrics(codes[0], query[1].numpy(), codes[1], labels.numpy())
    return {name: found[name] for name in ("map", "precision@1")} | {"train_runtime": seconds}


def linear_probe(
    query: tuple[Tensor, Tensor], train: tuple[Tensor, Tensor], num_classes: int, seed: int
) -> dict[str, float]:
    """Train the linear probe; the share of photos that it classifies rightly."""
    torch.manual_seed(seed)
    features, labels = train
    width = features.shape[1]
    probe = nn.Sequential(nn.BatchNorm1d(width, affine=False), nn.Linear(width, num_classes))

    def loss(rows: Tensor) -> Tensor:
        return F.cross_entropy(probe(features[rows]), labels[rows])

    seconds = minimise(loss, probe.parameters(), len(features))
    probe.eval()
    with torch.no_grad():
        found = probe(query[0]).argmax(1)
    return {"accuracy": (found == query[1]).float().mean().item(), "train_runtime": seconds}


def minimise(loss: Callable[[Tensor], Tensor], parameters: Iterable[nn.Parameter], num_photos: int) -> float:
    """30 epochs of AdamW on a loss of rows, with a warm-up of a tenth; seconds that it took."""
    epochs, batch_size = 30, 32
    optimizer = torch.optim.AdamW(parameters, 1e-2, weight_decay=1e-4)
    steps = num_photos // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * steps, pct_start=0.1)
    started = time.perf_counter()
    for _ in range(epochs):
        for rows in torch.randperm(num_photos).split(batch_size)[:steps]:
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()
            schedule.step()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
