"""Photos per second through decode and augmentation, beside a bare torchvision pipeline on the same files.

python examples/benchmarks/data_throughput.py                                  # toy birds, written as JPEG files
python examples/benchmarks/data_throughput.py --folder my_photos --num_workers 2 --output throughput.json

Both sides read the same files through a DataLoader with the same workers and batches, in alternating rounds of one
run; the first round warms up and is not counted. `ratio` is the median over rounds of ours / bare. Without workers,
seconds are those that this process used of a core, so that other programs do not disturb them. The bare side is
torchvision's `ImageFolder` (PIL decoding) with the fastest order of torchvision's own transforms: it neither turns
photos upright nor looks for bad ones.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torchvision
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from transformers import CLIPImageProcessor, HfArgumentParser
from transformers.utils.logging import set_verbosity_error

from concepthash_hf.data import eval_transform, load_photos, train_transform

SIZE = 224
BICUBIC = v2.InterpolationMode.BICUBIC


@dataclass
class Arguments:
    """What to measure."""

    folder: Path | None = field(
        default=None, metadata={"help": "Class folders, or train/ of them; default toy birds."}
    )
    num_photos: int = field(default=1000, metadata={"help": "Photos in a round, at most."})
    num_workers: int = field(default=1, metadata={"help": "DataLoader workers."})
    rounds: int = field(default=5, metadata={"help": "Counted rounds."})
    output: Path | None = field(default=None, metadata={"help": "JSON file for the numbers."})


def bare_transforms(processor: CLIPImageProcessor) -> dict[str, v2.Compose]:
    """Torchvision's transforms written out, by the name of ours."""
    finish = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(processor.image_mean, processor.image_std)]
    flip, crop = v2.RandomHorizontalFlip(), v2.CenterCrop(SIZE)
    steps = {
        "paper": [v2.ToImage(), v2.RandomResizedCrop(SIZE, interpolation=BICUBIC, antialias=True), flip],
        "reference": [v2.Resize(256), flip, v2.TrivialAugmentWide(interpolation=BICUBIC), crop, v2.ToImage()],
        "eval": [v2.ToImage(), v2.Resize(256, interpolation=BICUBIC, antialias=True), crop],
    }
    return {name: v2.Compose([*before, *finish]) for name, before in steps.items()}


def write_toy_photos(folder: Path, count: int) -> Path:
    """Toy birds as JPEG files of the size of a usual photo, 500 x 375."""
    splits = load_photos("toy_birds")
    photos = splits.torch_dataset("train", lambda image: v2.functional.pil_to_tensor(image.resize((500, 375))))
    for row in range(min(count, len(photos))):
        item = photos[row]
        file = folder / "train" / str(item["labels"]) / f"{row}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        torchvision.io.write_jpeg(item["pixel_values"], str(file), quality=90)
    return folder / "train"


class Reader:
    """A data set read from its beginning to its end, again and again, by workers that stay."""

    def __init__(self, photos: Dataset, num_workers: int) -> None:
        self.loader = DataLoader(photos, batch_size=32, num_workers=num_workers, persistent_workers=num_workers > 0)
        self.clock = time.perf_counter if num_workers else time.process_time

    def photos_per_second(self) -> float:
        """Read everything once."""
        start = self.clock()
        count = sum(len(batch["labels"] if isinstance(batch, dict) else batch[1]) for batch in self.loader)
        return count / (self.clock() - start)


def measure(args: Arguments, folder: Path) -> dict[str, dict[str, float]]:
    """Photos per second and worker, ours and bare, by transform."""
    processor = CLIPImageProcessor(size={"shortest_edge": 256}, crop_size={"height": SIZE, "width": SIZE})
    splits = load_photos(folder, query_fraction=0.01)
    paths = [image["path"] for image in splits.database[splits.image_column]]
    rows = torch.randperm(len(paths), generator=torch.Generator().manual_seed(0))[: args.num_photos].tolist()

    results = {}
    for name, bare in bare_transforms(processor).items():
        ours = eval_transform(processor) if name == "eval" else train_transform(name, processor)
        plain = ImageFolder(str(folder), transform=bare)
        place = {path: row for row, (path, _) in enumerate(plain.samples)}
        pair = [
            Reader(Subset(splits.torch_dataset("database", ours), rows), args.num_workers),
            Reader(Subset(plain, [place[paths[row]] for row in rows]), args.num_workers),
        ]
        rates = [[reader.photos_per_second() for reader in pair] for _ in range(args.rounds + 1)][1:]
        workers = max(args.num_workers, 1)
        results[name] = {
            "photos_per_second_per_worker": statistics.median(ours for ours, _ in rates) / workers,
            "bare_photos_per_second_per_worker": statistics.median(bare for _, bare in rates) / workers,
            "ratio": statistics.median(ours / bare for ours, bare in rates),
        }
    return results


def main() -> None:
    """Measure and print a table."""
    set_verbosity_error()
    torch.set_num_threads(1)  # as in a worker
    args: Arguments = HfArgumentParser(Arguments).parse_args_into_dataclasses()[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or write_toy_photos(Path(scratch), args.num_photos)
        results = measure(args, folder / "train" if (folder / "train").is_dir() else folder)

    print("| transform | photos/s per worker | bare torchvision | ratio |")
    print("| --- | --- | --- | --- |")
    for name, row in results.items():
        ours, bare, ratio = row.values()
        print(f"| {name} | {ours:.0f} | {bare:.0f} | {ratio:.2f} |")
    if args.output:
        about = {"cpus": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}
        about |= {"torchvision": torchvision.__version__, "arguments": {k: str(v) for k, v in asdict(args).items()}}
        args.output.write_text(json.dumps({"results": results, **about}, indent=2) + "\n")


if __name__ == "__main__":
    main()
