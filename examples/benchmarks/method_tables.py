"""Tables and a picture of the rows that `compare_methods.py` has written.

    python examples/benchmarks/method_tables.py                        # of method_rows.jsonl
    python examples/benchmarks/method_tables.py rows.jsonl --figure methods.png

A table for each set of photos and protocol, and one for what was changed of ConceptHash; means over seeds, whose
number stands in brackets where there are several.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from concepthash_hf.methods import METHODS
from concepthash_hf.metrics.figures import STYLE

ROWS = Path(__file__).with_name("method_rows.jsonl")
SETTING = ("photos", "backbone", "size", "steps")
OURS = {"concepthash": "**ConceptHash**", "concepthash_paper": "ConceptHash, published recipe"}

Rows = list[dict[str, Any]]


def main() -> None:
    """Print the tables; draw, if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="?", default=ROWS)
    parser.add_argument("--figure", type=Path, help="where the picture goes: mAP against bits")
    args = parser.parse_args()
    rows = read(args.rows)
    tables = [f"{heading(of_it[0])}\n\n{table(of_it)}" for of_it in groups(unchanged(rows)).values()]
    tables += [f"{heading(of_it[0], ', ablations')}\n\n{table(of_it)}" for of_it in groups(ablations(rows)).values()]
    print("\n\n".join(tables))
    if args.figure:
        figure(rows).savefig(args.figure, dpi=160)


def read(file: Path) -> Rows:
    """One row for each run and side (queries@database)."""
    runs = [json.loads(line) for line in file.read_text().splitlines()]
    if not runs:
        raise SystemExit(f"error: {file} has no rows yet: compare_methods.py writes them")
    return [run | {"side": side} | found for run in runs for side, found in run["measured"].items()]


def unchanged(rows: Rows) -> Rows:
    """Rows of methods as they are, and of ConceptHash as it is."""
    return [row for row in rows if "-" not in row["method"]]


def ablations(rows: Rows) -> Rows:
    """Rows of ConceptHash with something changed, and beside each, ConceptHash as it is with as many bits."""
    changed = [row for row in rows if "-" in row["method"]]

    def place(row: dict[str, Any]) -> tuple:
        return (*(row[name] for name in SETTING), row["side"], row["num_bits"])

    places = {place(row) for row in changed}
    return changed + [row for row in rows if row["method"] == "concepthash" and place(row) in places]


def groups(rows: Rows) -> dict[tuple, Rows]:
    """Rows that are compared with each other."""
    found = defaultdict(list)
    for row in rows:
        found[*(row[name] for name in SETTING), row["side"]].append(row)
    return dict(found)


def heading(row: dict[str, Any], about: str = "") -> str:
    """What a table is of."""
    size = f", {row['size']} px" if row["size"] else ""
    return f"### {row['photos']}, {row['side']}{about}: {row['backbone']}{size}, {row['steps']} steps, batch 32"


def table(rows: Rows) -> str:
    """Markdown: a line for each method, best first."""
    bits = lengths(rows)
    columns = [f"mAP, {number} bits" for number in bits]
    columns += [f"P@1, {bits[-1]} bits", "of wrong P@1 in the family", "mAP in the family"]
    lines = [f"| method | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for method, of_it in sorted(by_method(rows).items(), key=lambda item: -best(item[1])):
        cells = [cell(chosen(of_it, number), "map") for number in bits]
        longest = chosen(of_it, bits[-1])
        cells += [cell(longest, name) for name in ("precision@1", "wrong_top1_in_family", "map_in_family")]
        lines.append(f"| {title(method)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(rows: Rows) -> plt.Figure:
    """Draw mAP against bits, ConceptHash in front: a panel for photos, backbone and protocol.

    Of their longest training, and of those that have the most lengths.
    """
    longest: dict[tuple, Rows] = {}
    for setting, of_it in sorted(groups(unchanged(rows)).items(), key=effort):
        photos, backbone, *_, side = setting
        longest[photos, backbone, side] = of_it
    most = max(len(lengths(of_it)) for of_it in longest.values())
    shown = [of_it for of_it in longest.values() if len(lengths(of_it)) == most]
    of_method = by_method([row for of_it in shown for row in of_it])
    with plt.rc_context(STYLE):
        drawn, panels = plt.subplots(
            1, len(shown), figsize=(1 + 4.2 * len(shown), 4.4), squeeze=False, sharey=True, layout="constrained"
        )
        methods = sorted(of_method, key=lambda method: -best(of_method[method]))
        colours = plt.get_cmap("tab20").colors
        for panel, of_it in zip(panels[0], shown, strict=True):
            bits = lengths(of_it)
            for number, method in enumerate(methods):
                found = [(k, mean(chosen(of_it, k, method), "map")) for k in bits if chosen(of_it, k, method)]
                ours = method == "concepthash"
                width, order = (3, 9) if ours else (1.3, 3)
                colour = "black" if ours else colours[number % len(colours)]
                label = title(method).strip("*")
                panel.plot(
                    *zip(*found, strict=True) if found else ((), ()),
                    "o-",
                    c=colour,
                    lw=width,
                    zorder=order,
                    label=label,
                )
            panel.set(title=f"{of_it[0]['photos']}, {of_it[0]['side']}", xlabel="bits", xscale="log", xticks=bits)
            panel.set_xticks(bits, [str(number) for number in bits])
            panel.minorticks_off()
        panels[0][0].set(ylabel="mAP over the whole ranking", ylim=(0, 1))
        drawn.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right center")
    return drawn


def effort(group: tuple[tuple, Rows]) -> tuple[int, int]:
    """Steps, and pixels, of runs that are compared with each other."""
    row = group[1][0]
    return row["steps"], row["size"] or 0


def by_method(rows: Rows) -> dict[str, Rows]:
    """The rows of each method."""
    found = defaultdict(list)
    for row in rows:
        found[row["method"]].append(row)
    return dict(found)


def lengths(rows: Rows) -> list[int]:
    """The numbers of bits that there are."""
    return sorted({row["num_bits"] for row in rows})


def chosen(rows: Rows, num_bits: int, method: str | None = None) -> Rows:
    """Those of so many bits, and of a method."""
    return [row for row in rows if row["num_bits"] == num_bits and method in (None, row["method"])]


def best(rows: Rows) -> float:
    """The mean mAP at the most bits that there are."""
    return mean(chosen(rows, lengths(rows)[-1]), "map")


def mean(rows: Rows, name: str) -> float:
    """Over seeds."""
    return statistics.mean(row[name] for row in rows)


def cell(rows: Rows, name: str) -> str:
    """A number, or nothing where there is none."""
    there = [row for row in rows if row[name] is not None]
    seeds = f" ({len(there)})" if len(there) > 1 else ""
    return f"{mean(there, name):.3f}{seeds}" if there else ""


def title(method: str) -> str:
    """How a method is written."""
    if method in METHODS:
        return METHODS[method].title
    return OURS.get(method) or f"ConceptHash, {method.partition('-')[2].replace('_', ' ')}"


if __name__ == "__main__":
    main()
