"""A newcomer's first session, recorded: every command as it is typed, with the time it takes.

    python examples/benchmarks/newcomer.py --photos my_photos --model my_model --photo new.jpg --words "blue jay"

A fresh clone, a fresh environment, photos in class folders and a model that is there already; then from photos to a
searched and explained collection, and the Python of the README. Writes `newcomer.json` beside this file, and the table
into docs/start.md, between its two comments. `--table` only writes the table anew.
"""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RECORD, PAGE = Path(__file__).with_suffix(".json"), ROOT / "docs" / "start.md"
BEGIN, END = "<!-- newcomer.py: begin -->", "<!-- newcomer.py: end -->"
PACKAGES = ("torch", "transformers", "concepthash_hf")
# what of this process's environment must not reach the new one
LEFT_BEHIND = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")


def main() -> None:
    """Run the session, or only write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="A folder of class folders.")
    parser.add_argument("--model", type=Path, help="A saved model.")
    parser.add_argument("--photo", type=Path, help="A photo that is not among them.")
    parser.add_argument("--words", default="blue jay", help="Words to search with.")
    parser.add_argument("--described", default="photos in class folders", help="What the photos are, for the record.")
    parser.add_argument("--repository", default=str(ROOT), help="What is cloned.")
    parser.add_argument("--table", action="store_true", help="Write the table of the record, and run nothing.")
    args = parser.parse_args()
    if not args.table:
        with tempfile.TemporaryDirectory() as folder:
            record = session(args, Path(folder))
        RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    write_table(json.loads(RECORD.read_text(encoding="utf-8")))


def session(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Type everything, one after the other, in an empty folder with photos and a model."""
    shutil.copytree(args.photos, folder / "my_photos")
    shutil.copytree(args.model, folder / "my_model")
    shutil.copy(args.photo, folder / "new.jpg")
    other = sorted((folder / "my_photos").rglob("*.jpg"))[0].relative_to(folder)
    (folder / "ten_lines.py").write_text(first_python(ROOT / "README.md"), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in LEFT_BEHIND}
    environment["PATH"] = f"{folder / 'env' / 'bin'}:{environment['PATH']}"
    environment["HF_HUB_OFFLINE"] = "1"
    typed = [
        ("git clone REPOSITORY concepthash_hf", f"git clone --quiet {args.repository} concepthash_hf"),
        ("python -m venv env && source env/bin/activate", f"{sys.executable} -m venv env"),
        ("pip install -e concepthash_hf", "pip install --quiet -e concepthash_hf"),
        *[
            (command, command)
            for command in (
                "concepthash --help",
                "concepthash photos my_photos",
                "concepthash index my_photos --model my_model",
                f'concepthash search new.jpg "{args.words}" --index outputs/index-my_photos',
                f"concepthash explain new.jpg {other} --model my_model",
                "concepthash report my_photos --model my_model --output_dir report",
                "python ten_lines.py",
            )
        ],
    ]
    steps = []
    for shown, command in typed:
        started, used = time.perf_counter(), processor_seconds()
        ran = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        if ran.returncode:
            raise SystemExit(f"{shown}\n{ran.stdout}\n{ran.stderr}")
        said = [line.replace(f"{folder}/", "") for line in ran.stdout.splitlines() if line.strip()]
        times = {"seconds": round(seconds, 1), "processor_seconds": round(processor_seconds() - used, 1)}
        steps.append({"typed": shown, **times, "said": said[:1] + said[1:][-2:]})
        print(f"{seconds:7.1f} s  {shown}", flush=True)
    missing = [
        name
        for name in ("search.png", "explanation.png", "report/report.html", "why.png")
        if not (folder / name).exists()
    ]
    if missing:
        raise SystemExit(f"the session left no {', '.join(missing)}")
    return {
        "photos": {"described": args.described, "number": len(list((folder / "my_photos").rglob("*.jpg")))},
        "steps": steps,
        **{name: round(sum(step[name] for step in steps), 1) for name in ("seconds", "processor_seconds")},
        **circumstances(folder, environment),
    }


def processor_seconds() -> float:
    """What all commands so far have used of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def first_python(page: Path) -> str:
    """The first Python block of a page."""
    found = re.search(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    return found[1]


def circumstances(folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """The machine, and what was installed."""
    code = f"from importlib.metadata import version; print(*map(version, {PACKAGES}))"
    ran = subprocess.run(
        ["python", "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return {
        "processor": cpu[1] if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[2], 1),
        "python": platform.python_version(),
        **dict(zip(PACKAGES, ran.stdout.split(), strict=True)),
    }


def table(record: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| typed | s | of the processor, s |", "| --- | --- | --- |"]
    lines += [
        f"| `{step['typed']}` | {step['seconds']:.1f} | {step['processor_seconds']:.1f} |" for step in record["steps"]
    ]
    lines.append(f"| **in all** | **{record['seconds']:.0f}** | {record['processor_seconds']:.0f} |")
    told = [
        f"{record['photos']['number']} {record['photos']['described']};",
        f"{record['cores']} cores ({record['processor']}) that other work shared (load {record['load_average']});",
        ", ".join(f"{name} {record[name]}" for name in ("python", *PACKAGES)) + ".",
    ]
    return "\n".join([*lines, "", *told])


def write_table(record: dict[str, Any]) -> None:
    """Put it into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(record)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
