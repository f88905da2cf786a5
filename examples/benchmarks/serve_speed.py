"""What a server does under load, and how fast a million codes are ranked anew.

python examples/benchmarks/serve_speed.py                     # an untrained model of toy birds; serve_speed.json
python examples/benchmarks/serve_speed.py --index my_index    # a model and photos of one's own

Load: clients in this process send requests to a server in another, `POST /encode` and `POST /search` in turn, every
photo as a file. Every answer is held against the code that `ConceptHasher.encode` gives and the hits that the index
gives for it: none may be lost or be another's. Beside it, in the same rounds and while the server rests, what the bare
model does with the same photos in batches of 32: from files, and from tensors that are ready.

Ranking anew: an index of random codes with texts as ids, a class and a season each. Random weights for a query; timed
are the search with everything a card shows, the HTML of the page, and, where Chromium is there, from the key that
moves a slider to the new page in the browser.
"""

import base64
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from transformers import HfArgumentParser

from concepthash_hf import ConceptHasher, ConceptHashModel
from concepthash_hf.app import drawing
from concepthash_hf.app.explorer import Explorer, Query
from concepthash_hf.app.photos import ServedPhotos
from concepthash_hf.data import decode_image, eval_transform
from concepthash_hf.data.toy_birds import SPECIES, save_toy_birds
from concepthash_hf.hasher import open_photo_index
from concepthash_hf.index import HammingIndex
from concepthash_hf.photo_index import PhotoIndex, Source
from concepthash_hf.toy_clip import save_toy_clip

K = 10


@dataclass
class Arguments:
    """What to measure."""

    index: str | None = field(default=None, metadata={"help": "A saved index; default toy birds, untrained."})
    clients: int = field(default=8, metadata={"help": "That ask at the same time."})
    requests: int = field(default=200, metadata={"help": "In all, each round."})
    rounds: int = field(default=3, metadata={"help": "Server and bare model take turns; medians count."})
    codes: int = field(default=1_000_000, metadata={"help": "To rank anew."})
    ranked: int = field(default=50, metadata={"help": "Times that they are."})
    output: Path = field(default=Path(__file__).with_suffix(".json"), metadata={"help": "JSON file for the numbers."})


def make_toy_index(folder: Path) -> Path:
    """An index of toy birds by an untrained model of 64 bits."""
    names = [species.name for species in SPECIES]
    save_toy_clip(folder / "clip", names)
    torch.manual_seed(0)
    model = ConceptHashModel.from_clip(folder / "clip", class_names=names, num_bits=64, preset="paper")
    model.save_pretrained(folder / "model")
    model.image_processor.save_pretrained(folder / "model")
    for file in (folder / "clip").glob("tokenizer*"):
        shutil.copy(file, folder / "model" / file.name)
    save_toy_birds(folder / "photos")
    ConceptHasher(folder / "model").index(folder / "photos").save(folder / "index")
    return folder / "index"


@contextmanager
def server(index: str | Path, cache: Path) -> Iterator[tuple[str, float]]:
    """A server in another process: its address, and the seconds until it answered."""
    command = [sys.executable, "-m", "concepthash_hf", "serve", str(index), "--port", "0", "--cache_dir", str(cache)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        if not line.startswith("open "):
            raise ValueError(f"the server did not start: {line}")
        url = line.removeprefix("open ").strip()
        httpx.get(f"{url}/health", timeout=600).raise_for_status()
        yield url, time.perf_counter() - start
    finally:
        process.terminate()
        process.wait(60)


def measure_load(args: Arguments, index: str | Path, cache: Path) -> dict[str, Any]:
    """Rounds of requests, and of the bare model."""
    opened = open_photo_index(index)
    folder, hasher = opened.source.folder, opened.hasher
    if folder is None:
        raise ValueError("the photos of the index are not at hand")
    ids = opened.codes.ids[np.random.default_rng(0).choice(len(opened), args.requests, len(opened) < args.requests)]
    files = [(folder / id).read_bytes() for id in ids]
    codes = hasher.encode(files)
    found = opened.codes.search(codes, K)
    transform = eval_transform(hasher.image_processor)
    ready = torch.stack([transform(decode_image(file)) for file in files])

    def from_tensors() -> None:
        for start in range(0, len(ready), 32):
            hasher.model.get_hash_codes(ready[start : start + 32].to(hasher.device))

    hasher.batch_size, hasher.num_workers = 32, 0
    bare: dict[str, Callable[[], Any]] = {"from files": lambda: hasher.encode(files), "from tensors": from_tensors}
    rates: dict[str, list[float]] = {name: [] for name in ("server", *bare)}
    seconds: list[float] = []
    wrong = 0
    with server(index, cache) as (url, started), httpx.Client(base_url=url, timeout=300) as client:

        def ask(number: int) -> bool:
            photo = base64.b64encode(files[number]).decode()
            path, asked = ("/search", {"photo": photo, "k": K}) if number % 2 else ("/encode", {"photo": photo})
            start = time.perf_counter()
            answer = client.post(path, json=asked)
            seconds.append(time.perf_counter() - start)
            if answer.status_code != 200:
                return False
            if path == "/encode":
                return answer.json()["code"] == codes[number].tolist()
            distances = [hit["concept_distances"] for hit in answer.json()["hits"]]
            return distances == found.concept_distances[number].tolist()

        with ThreadPoolExecutor(args.clients) as pool:
            list(pool.map(ask, range(args.clients)))  # warm
            seconds.clear()
            for _ in range(args.rounds):
                start = time.perf_counter()
                wrong += sum(not right for right in pool.map(ask, range(args.requests)))
                rates["server"].append(args.requests / (time.perf_counter() - start))
                for name, run in bare.items():
                    start = time.perf_counter()
                    run()
                    rates[name].append(args.requests / (time.perf_counter() - start))
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    return {
        "model": opened.codes.spec.model_id,
        "photos": len(opened),
        "clients": args.clients,
        "requests": args.requests * args.rounds,
        "lost or mixed up": wrong,
        "p50_ms": 1000 * float(np.quantile(seconds, 0.5)),
        "p99_ms": 1000 * float(np.quantile(seconds, 0.99)),
        "photos_per_second": medians,
        "of the bare model from files": medians["server"] / medians["from files"],
        "seconds_to_start": started,
    }


def make_many(args: Arguments, hasher: ConceptHasher, folder: Path) -> Path:
    """An index of random codes, without photos."""
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 256, (args.codes, hasher.spec.num_bits // 8), dtype=np.uint8)
    names = [f"class {number % 200:03}/photo {number:08}.jpg" for number in range(args.codes)]
    index = HammingIndex(hasher.spec)
    seasons = ("spring", "summer", "autumn", "winter")
    metadata = {
        "path": names,
        "label": [name[:9] for name in names],
        "season": [seasons[number % 4] for number in range(args.codes)],
    }
    index.add(codes, names, metadata)
    PhotoIndex(hasher, index, Source(hasher.name_or_path)).save(folder / "many")
    return folder / "many"


def measure_ranking(args: Arguments, hasher: ConceptHasher, folder: Path) -> dict[str, Any]:
    """From new weights to new hits, in Python and in the browser."""
    many = make_many(args, hasher, folder)
    start = time.perf_counter()
    index = open_photo_index(many, hasher)
    opened = time.perf_counter() - start
    explorer = Explorer(index, ServedPhotos(index, folder / "cache"))
    warmed = time.perf_counter() - start
    reading = explorer.read_words("a bird")
    generator = np.random.default_rng(1)
    seconds: dict[str, list[float]] = {"search": [], "search, filtered": [], "HTML": []}
    explorer.search(Query(reading, None, {"season": "summer"}))
    for _ in range(args.ranked):
        weights = tuple(generator.uniform(0.1, 2, hasher.spec.num_concepts).round(1).tolist())
        marks = [time.perf_counter()]
        page = explorer.search(query := Query(reading, weights))
        marks.append(time.perf_counter())
        explorer.search(Query(reading, weights, {"season": "summer"}))
        marks.append(time.perf_counter())
        drawing.hits(page, query, explorer.spec)
        marks.append(time.perf_counter())
        for name, each in zip(seconds, np.diff(marks), strict=True):
            seconds[name].append(each)
    explorer.close()
    in_browser = measure_slider(args, many, folder / "cache")
    found = {name: _quantiles(values) for name, values in seconds.items()}
    return {
        "codes": args.codes,
        "seconds_to_open": opened,
        "seconds_to_open_and_warm": warmed,
        **found,
        **({"slider to page": _quantiles(in_browser)} if in_browser else {}),
    }


def measure_slider(args: Arguments, index: Path, cache: Path) -> list[float]:
    """Seconds from a key that moves a slider to new hits in Chromium; none without it."""
    binary = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return []
    if binary is None:
        return []
    with server(index, cache) as (url, _), sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"]).new_page()
        page.goto(url)
        page.wait_for_selector(".ch-card")
        page.locator("#ch-hits .ch-photo").first.click()
        page.wait_for_selector(".ch-distance")
        page.locator("#ch-concept-0 input[type=range]").focus()
        page.evaluate(
            """() => {
              window.took = [];
              addEventListener('keydown', () => { window.pressed = performance.now(); }, true);
              new MutationObserver(() => {
                if (window.pressed) { window.took.push(performance.now() - window.pressed); window.pressed = 0; }
              }).observe(document.querySelector('#ch-hits'), {subtree: true, childList: true, characterData: true});
            }"""
        )
        for number in range(min(args.ranked, 20)):
            page.keyboard.press("ArrowLeft" if number % 20 < 10 else "ArrowRight")
            page.wait_for_function(f"window.took.length > {number}")
        return [milliseconds / 1000 for milliseconds in page.evaluate("window.took")]


def _quantiles(seconds: list[float]) -> dict[str, float]:
    return {
        "p50_ms": 1000 * float(np.median(seconds)),
        "p99_ms": 1000 * float(np.quantile(seconds, 0.99)),
    }


def main() -> None:
    """Measure both, and write them down."""
    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    with tempfile.TemporaryDirectory() as scratch:
        index = args.index or make_toy_index(Path(scratch))
        result = {
            "arguments": {name: value for name, value in asdict(args).items() if name not in ("index", "output")},
            "cores": len(os.sched_getaffinity(0)),
            "load_of_others": os.getloadavg()[0],
            "machine": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "load": measure_load(args, index, Path(scratch) / "cache"),
            "ranking": measure_ranking(args, open_photo_index(index).hasher, Path(scratch)),
        }
    print(json.dumps(result, indent=2))
    args.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
