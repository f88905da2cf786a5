"""Are the toy birds fine-grained? Nearest neighbours by raw pixels, for species and for families.

    python examples/benchmarks/toy_birds_pixels.py

Queries are the test pictures, the database is the training pictures, the distance is L2. Writes toy_birds_pixels.json.
"""

import json
from pathlib import Path

import datasets
import numpy as np
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import euclidean_distances

from concepthash_hf.data.toy_birds import toy_birds


def pixels(birds: datasets.Dataset, mode: str, side: int) -> np.ndarray:
    """Pictures as rows, float32 `(n, features)`."""
    pictures = (bird["image"].convert(mode).resize((side, side)) for bird in birds)
    return np.stack([np.asarray(picture, dtype=np.float32).ravel() for picture in pictures])


def search(distances: np.ndarray, queries: np.ndarray, database: np.ndarray) -> dict[str, float]:
    """Share of right nearest neighbours, and mAP."""
    relevant = queries[:, None] == database
    precisions = [average_precision_score(row, -d) for row, d in zip(relevant, distances, strict=True)]
    return {
        "top1": float((database[distances.argmin(1)] == queries).mean()),
        "map": float(np.mean(precisions)),
        "chance": float(relevant.mean()),
    }


def main() -> None:
    """Search in colour and grey, small and full size."""
    birds = toy_birds()
    report = {}
    for mode, side in (("RGB", 32), ("RGB", 96), ("L", 32)):
        distances = euclidean_distances(*(pixels(birds[split], mode, side) for split in ("test", "train")))
        report[f"{mode} {side} px"] = {
            column: search(distances, np.array(birds["test"][column]), np.array(birds["train"][column]))
            for column in ("label", "family")
        }
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
