"""How long does an import or a help page take, beside torch's and transformers' own?

    python examples/benchmarks/import_times.py --output examples/benchmarks/import_times.json

Each command runs in a process of its own, all of them once in every repeat, so that a busy machine slows all alike;
one repeat before warms the disk cache. Prints and writes medians, in seconds.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

COMMANDS = {
    "python, nothing imported": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import transformers": ["-c", "import transformers"],
    "from transformers import CLIPModel": ["-c", "from transformers import CLIPModel"],
    "import concepthash_hf": ["-c", "import concepthash_hf"],
    "import concepthash_hf.codes": ["-c", "import concepthash_hf.codes"],
    "from concepthash_hf.index import HammingIndex": ["-c", "from concepthash_hf.index import HammingIndex"],
    "from concepthash_hf import ConceptHashModel": ["-c", "from concepthash_hf import ConceptHashModel"],
    "from concepthash_hf import ConceptHasher": ["-c", "from concepthash_hf import ConceptHasher"],
    "transformers --help": [
        "-c",
        "import sys; sys.argv = ['transformers', '--help']; from transformers.cli.transformers import main; main()",
    ],
    "concepthash --help": ["-m", "concepthash_hf", "--help"],
    "concepthash search --help": ["-m", "concepthash_hf", "search", "--help"],
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path("outputs/import_times.json"))
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for repeat in range(args.repeats + 1):
        for name, words in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: round(statistics.median(times), 3) for name, times in seconds.items()}
    record = {
        "median_seconds": medians,
        "repeats": args.repeats,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[2], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "typer")},
    }
    for name, median in medians.items():
        print(f"{median:8.3f} s  {name}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
