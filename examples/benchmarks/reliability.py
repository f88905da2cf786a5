"""Kill, damage and race what is saved, and count what is lost: index, codes, model, training.

    python examples/benchmarks/reliability.py --kills 200 --damages 10000 --races 200

Every trial runs in processes of its own. *Kills*: a save or a run is killed (SIGKILL) at a random moment and begun
again; in the end the folder must hold one whole version, and a run that goes on must give the rows or weights of an
undisturbed one, bit by bit. *Damages*: bits are flipped, files cut, overwritten, emptied; what loads must be equal, or
the error must name the place, within 10 seconds and 1 GiB. *Races*: two processes save into one folder at once.
What was found is added to a file of JSON lines, one for each kind and trial. Exits with status 1 if anything was lost.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import random
import resource
import shlex
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from hashing_cost import cpu_name
from safetensors.torch import load_file
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import AutoImageProcessor

import concepthash_hf
from concepthash_hf import ConceptHashModel, ConceptHashVisionModel
from concepthash_hf.checkpoints import newest_checkpoint
from concepthash_hf.data import eval_transform, load_collection
from concepthash_hf.data.toy_birds import SPECIES, draw_bird
from concepthash_hf.encoding import encode_collection, read_codes, read_plan
from concepthash_hf.index import HammingIndex
from concepthash_hf.toy_clip import save_toy_clip
from concepthash_hf.training import ConceptHashTrainingArguments, train

NAMES = [species.name for species in SPECIES[:4]]
MOST_SECONDS, MOST_BYTES = 10, 2**30
PROCESSES = multiprocessing.get_context("fork")  # of a process that has only imported, which is fast


@dataclass(frozen=True)
class Material:
    """What trials start from, made once.

    Attributes:
        models: folders of two saved models.
        photos: a folder with a folder for each class.
    """

    models: tuple[Path, Path]
    photos: Path


@dataclass(frozen=True)
class Kind:
    """Something that is saved.

    Attributes:
        save: writes version 0 or 1 into a folder, or goes on with what is there.
        content: loads it and gives a hash of all that it says.
        goes_on: whether what was begun is gone on with; else version 1 takes the place of version 0.
        files: that hold its content, as a pattern.
    """

    save: Callable[[Material, Path, int], None]
    content: Callable[[Path], str]
    goes_on: bool
    files: str


def main() -> None:
    """Parse, try, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what to try")
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--damages", type=int, default=1000, help="of each kind")
    parser.add_argument("--races", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("outputs/reliability.jsonl"), help="gets a line a trial")
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    lost = False
    with tempfile.TemporaryDirectory() as folder:
        material = Material((Path(folder) / "model-0", Path(folder) / "model-1"), Path(folder) / "photos")
        in_process(make_material, material)
        for name in args.kinds:
            kind, place = KINDS[name], Path(folder) / name
            for trial in TRIALS:
                if not (number := getattr(args, trial)):
                    continue
                rng, started = random.Random(f"{name} {trial} {args.seed}"), time.perf_counter()
                found = TRIALS[trial](kind, material, place / trial, number, rng)
                seconds = round(time.perf_counter() - started)
                row = {"kind": name, "trial": trial, "number": number, "found": found, "seconds": seconds}
                print(json.dumps(row), flush=True)
                with args.output.open("a") as file:
                    file.write(json.dumps(row | circumstances(args.seed)) + "\n")
                lost |= any(outcome.startswith("lost") for outcome in found)
    sys.exit(lost)


def circumstances(seed: int) -> dict[str, Any]:
    """Command, seed, versions, hardware; no paths."""
    words = [Path(word).name if "/" in word else word for word in sys.argv]
    return {
        "command": shlex.join(["python", *words]),
        "seed": seed,
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "concepthash_hf": concepthash_hf.__version__,
    }


# --- trials


def kill(kind: Kind, material: Material, place: Path, number: int, rng: random.Random) -> Counter[str]:
    """Kill at random moments of an undisturbed save; then see what is there, and save again."""
    found: Counter[str] = Counter()
    versions = [in_process(content_of, kind, material, place / f"whole-{version}", version) for version in (0, 1)]
    started = time.perf_counter()
    in_process(kind.save, material, place / "timed", 1)
    seconds = time.perf_counter() - started
    for trial in tqdm(range(number), desc="kills"):
        folder = place / f"trial-{trial}"
        if not kind.goes_on:
            in_process(kind.save, material, folder, 0)
        process = PROCESSES.Process(target=quietly, args=(kind.save, material, folder, 1))
        process.start()
        time.sleep(rng.uniform(0, 1.1 * seconds))
        process.kill()
        process.join()
        if not kind.goes_on:
            found["old" if (there := in_process(kind.content, folder)) == versions[0] else "new"] += 1
            if there not in versions:
                found["lost: mixed"] += 1
        in_process(kind.save, material, folder, 1)
        found["whole in the end" if in_process(kind.content, folder) == versions[1] else "lost: another content"] += 1
        left = [path.name for path in folder.iterdir() if path.name.startswith((".writing", "partial"))]
        found["left behind"] += len(left)
        shutil.rmtree(folder)
    return found


def damage(kind: Kind, material: Material, place: Path, number: int, rng: random.Random) -> Counter[str]:
    """Damage one file after the other, each time anew; a process loads many, until one ends it."""
    whole = in_process(content_of, kind, material, place / "whole", 1)
    files = [file for file in sorted((place / "whole").glob(kind.files)) if file.stat().st_size]
    jobs = [(rng.choice(files), rng.random()) for _ in range(number)]
    found: Counter[str] = Counter()
    with tqdm(total=number, desc="damages") as bar:
        while jobs:
            receiver, sender = PROCESSES.Pipe(duplex=False)
            batch = jobs[:200]
            process = PROCESSES.Process(target=load_damaged, args=(kind, place / "whole", whole, batch, sender))
            process.start()
            sender.close()
            tried = 0
            try:
                while tried < len(batch):
                    found[receiver.recv()] += 1
                    tried += 1
                    bar.update()
            except EOFError:  # it is gone
                found[f"lost: crash, {batch[tried][0].name}"] += 1
                tried += 1
            process.join()
            jobs = jobs[tried:]
    return found


def load_damaged(kind: Kind, folder: Path, whole: str, jobs: list[tuple[Path, float]], sender: Any) -> None:
    """Load with each damage and say what came of it."""
    be_quiet()
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MOST_BYTES, in_use + MOST_BYTES))
    for file, chance in jobs:
        content = file.read_bytes()
        file.write_bytes(damaged(content, random.Random(chance)))
        started = time.perf_counter()
        try:
            outcome = "equal" if kind.content(folder) == whole else f"lost: other content, {file.name}"
        except (ValueError, OSError) as error:
            named = folder.name in str(error) or file.name in str(error)
            outcome = "refused, by name" if named else f"lost: an error without a name: {error}"
        except BaseException as error:
            outcome = f"lost: {type(error).__name__}, {file.name}: {error}"
        if time.perf_counter() - started > MOST_SECONDS:
            outcome = f"lost: slow, {file.name}"
        file.write_bytes(content)
        sender.send(outcome)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One of the things that happen to files."""
    changed = bytearray(content)
    position = rng.randrange(len(changed))
    match rng.randrange(6):
        case 0 | 1:
            changed[position] ^= 1 << rng.randrange(8)
        case 2:
            changed[position : position + 64] = rng.randbytes(len(changed[position : position + 64]))
        case 3:
            return bytes(changed[:position])
        case 4:
            changed[position : position + 512] = bytes(len(changed[position : position + 512]))
        case 5:
            changed[position:position] = rng.randbytes(rng.randrange(1, 20))
    return bytes(changed)


def race(kind: Kind, material: Material, place: Path, number: int, rng: random.Random) -> Counter[str]:
    """Let two save different versions at once: one, or one after the other, must be there in the end."""
    found: Counter[str] = Counter()
    pairs = (1, 1) if kind.goes_on else (0, 1)
    versions = [in_process(content_of, kind, material, place / f"whole-{version}", version) for version in set(pairs)]
    for trial in tqdm(range(number), desc="races"):
        folder = place / f"trial-{trial}"
        start = PROCESSES.Barrier(2)
        processes = [
            PROCESSES.Process(target=save_at_once, args=(start, kind, material, folder, version)) for version in pairs
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        found[f"{sum(process.exitcode == 0 for process in processes)} of 2 saved"] += 1
        found["whole in the end" if in_process(kind.content, folder) in versions else "lost: mixed"] += 1
        shutil.rmtree(folder)
    return found


def save_at_once(start: Any, kind: Kind, material: Material, folder: Path, version: int) -> None:
    """Save when the other is ready too."""
    be_quiet()
    start.wait()
    try:
        kind.save(material, folder, version)
    except (ValueError, OSError):  # the other was first
        os._exit(1)


TRIALS = {"kills": kill, "damages": damage, "races": race}

# --- processes


def in_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a process of its own."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=call_and_send, args=(sender, function, *args))
    process.start()
    sender.close()
    try:
        result, failure = receiver.recv()
    except EOFError:
        result, failure = None, "it crashed"
    process.join()
    if failure is not None:
        raise RuntimeError(f"{function.__name__} failed: {failure}")
    return result


def call_and_send(sender: Any, function: Callable[..., Any], *args: Any) -> None:
    """Send what comes of it, or how it failed."""
    be_quiet()
    try:
        sender.send((function(*args), None))
    except Exception:
        sender.send((None, traceback.format_exc()))


def quietly(function: Callable[..., Any], *args: Any) -> None:
    """Call without showing progress."""
    be_quiet()
    function(*args)


def be_quiet() -> None:
    """Show neither progress nor warnings, in this process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    for bars in (tqdm, tqdm.__base__):  # the lock that processes share stays shut when one is killed that holds it
        bars.set_lock(threading.RLock())


# --- what is saved


def content_of(kind: Kind, material: Material, folder: Path, version: int) -> str:
    """The content of an undisturbed save."""
    kind.save(material, folder, version)
    return kind.content(folder)


def make_material(material: Material) -> None:
    """Two untrained models, and photos."""
    for seed, folder in enumerate(material.models):
        torch.manual_seed(seed)
        with tempfile.TemporaryDirectory() as clip:
            save_toy_clip(clip, NAMES, image_size=32, seed=seed)
            names = [f"{name} {seed}" for name in NAMES]
            model = ConceptHashModel.from_clip(clip, names, num_bits=16, num_concepts=4, adapter_dim=8)
        model.save_pretrained(folder)
        model.image_processor.save_pretrained(folder)
    for name in NAMES:
        (material.photos / name).mkdir(parents=True)
        for seed in range(10):
            draw_bird(name, seed, 32).image.save(material.photos / name / f"{seed}.png")


def save_index(material: Material, folder: Path, version: int) -> None:
    """Of 3,000 random codes, with a graph."""
    rng = np.random.default_rng(version)
    codes = rng.integers(0, 256, (3000, 8), np.uint8)
    ids = [f"{version}/{number}.jpg" for number in range(len(codes))]
    index = HammingIndex.from_codes(codes, ids, num_bits=64, num_concepts=4, metadata={"version": [version] * 3000})
    index.kind = "hnsw"
    index.save(folder)


def index_content(folder: Path) -> str:
    """Codes, ids, metadata; and a search, for the graph."""
    index = HammingIndex.load(folder)
    index.search(index.get_codes(index.ids[:20]), 5)
    rows = [index.ids.tolist(), index.get_metadata(index.ids), index.get_codes(index.ids).tolist()]
    return digest(json.dumps([rows, str(index.spec)]))


def save_codes(material: Material, folder: Path, version: int) -> None:
    """Of all photos, in ten files."""
    model = ConceptHashVisionModel.from_pretrained(material.models[1])
    transform = eval_transform(AutoImageProcessor.from_pretrained(material.models[1]))
    encode_collection(model, load_collection(material.photos), transform, folder, batch_size=2, photos_per_file=4)


def codes_content(folder: Path) -> str:
    """All rows with their codes."""
    rows = [[codes.tolist(), table.to_pydict()] for codes, table in read_codes(folder)]
    plan = read_plan(folder)
    return digest(json.dumps([rows, plan["spec"], plan["collection"], plan["ids"]], default=str))


def save_model(material: Material, folder: Path, version: int) -> None:
    """A model in place of another."""
    ConceptHashModel.from_pretrained(material.models[version]).save_pretrained(folder)


def model_content(folder: Path) -> str:
    """Class names and weights."""
    model = ConceptHashModel.from_pretrained(folder)
    return digest(json.dumps(model.config.id2label)) + weights_digest(model.state_dict())


class FewPhotos(Dataset):
    """Noise, the same every time."""

    def __init__(self) -> None:
        self.pixels = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(24) % len(NAMES)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.pixels[index], "labels": self.labels[index]}


def save_training(material: Material, folder: Path, version: int) -> None:
    """Four epochs with checkpoints; from the newest one, if there is one."""
    if not (folder / "all_results.json").exists():
        torch.manual_seed(0)
        train_four_epochs(ConceptHashModel.from_pretrained(material.models[1]), folder)


def training_content(folder: Path) -> str:
    """The weights that its checkpoint gives."""
    (folder / "all_results.json").unlink(missing_ok=True)
    train_four_epochs(ConceptHashModel.from_pretrained(folder), folder)
    return weights_digest(load_file(folder / "model.safetensors"))


def train_four_epochs(model: ConceptHashModel, folder: Path) -> None:
    """From the newest checkpoint, if there is one."""
    newest = newest_checkpoint(folder)
    args = ConceptHashTrainingArguments(
        str(folder),
        num_train_epochs=4,
        per_device_train_batch_size=8,
        optimizer="adamw",
        save_epochs=1,
        resume_from_checkpoint=None if newest is None else str(folder),
        overwrite_output_dir=newest is None and (folder / "config.json").exists(),
    )
    train(model, FewPhotos(), args)


def weights_digest(weights: dict[str, torch.Tensor]) -> str:
    """A hash of names and numbers."""
    return digest(json.dumps([[name, weights[name].tolist()] for name in sorted(weights)]))


def digest(text: str) -> str:
    """A hash."""
    return hashlib.sha256(text.encode()).hexdigest()


KINDS = {
    "index": Kind(save_index, index_content, goes_on=False, files="*.[jps]*"),
    "codes": Kind(save_codes, codes_content, goes_on=True, files="*.[jp]*"),
    "model": Kind(save_model, model_content, goes_on=False, files="model.safetensors"),
    "training": Kind(save_training, training_content, goes_on=True, files="checkpoint-*/*"),
}


if __name__ == "__main__":
    main()
