"""A figure of retrieval quality for a paper. Needs matplotlib (`pip install concepthash_hf[viz]`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..lettering import font_files, legible
from .retrieval import PrecisionRecallCurve

COLOUR, REFERENCE = "#20639b", "#4a4f57"
MOST_NAMES = 40
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}


def retrieval_figure(
    curve: PrecisionRecallCurve,
    per_class: Mapping[int, Mapping[str, float]],
    class_names: Sequence[str],
    mean_average_precision: float,
) -> Any:
    """Draw the precision-recall curve, and the mAP of every class as a bar.

    Args:
        curve: from `precision_recall_curve`.
        per_class: from `per_class_metrics`; bars are drawn from the best class to the worst.
        class_names: the name of class 0, 1, ...; shown where there is room, up to 40 classes.
        mean_average_precision: `map` from `retrieval_metrics`, over all queries.

    Returns:
        A `matplotlib.figure.Figure`, 7 inches wide (two columns of a paper): `figure.savefig("quality.pdf")`.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE | {"font.family": _font_families()}):
        named_bars = len(per_class) if len(per_class) <= MOST_NAMES else 0
        figure = Figure(figsize=(7, max(2.8, 0.7 + 0.115 * named_bars)), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_curve(left, curve, mean_average_precision)
        _draw_bars(right, per_class, class_names, mean_average_precision)
    return figure


def _font_families() -> list[str]:
    """Matplotlib's own font, then those that have the letters of other scripts."""
    from matplotlib.font_manager import FontProperties, fontManager

    files = font_files()
    for file in files:
        fontManager.addfont(file)
    return list(dict.fromkeys(["DejaVu Sans", *(FontProperties(fname=file).get_name() for file in files)]))


def _draw_curve(axes: Any, curve: PrecisionRecallCurve, mean_average_precision: float) -> None:
    """The curve ends at the precision of the whole database, which is that of chance."""
    axes.plot(curve.recall, curve.precision, color=COLOUR, linewidth=1.5)
    chance = curve.precision[-1]
    axes.axhline(chance, color=REFERENCE, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.annotate("chance", (0.02, chance), (0, 2), textcoords="offset points", color=REFERENCE)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"all queries: mAP {mean_average_precision:.3f}")
    axes.grid(linewidth=0.4, alpha=0.4)
    axes.set_axisbelow(True)


def _draw_bars(
    axes: Any, per_class: Mapping[int, Mapping[str, float]], class_names: Sequence[str], mean_average_precision: float
) -> None:
    """The best class on top; of many classes, only the first and the last are named."""
    ordered = sorted(per_class, key=lambda label: per_class[label]["map"], reverse=True)
    axes.barh(range(len(ordered)), [per_class[label]["map"] for label in ordered], height=0.78, color=COLOUR)
    axes.axvline(mean_average_precision, color=REFERENCE, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set(xlabel="mAP", xlim=(0, 1), ylim=(len(ordered) - 0.4, -0.6))
    axes.set_title(f"{len(ordered)} classes (dashed: all queries)")
    named = range(len(ordered)) if len(ordered) <= MOST_NAMES else (0, len(ordered) - 1)
    names = [legible(class_names[ordered[place]].replace("_", " ")) for place in named]
    axes.set_yticks(named, names, fontsize=6, parse_math=False)  # a class may be called "$5"
    axes.tick_params(axis="y", length=0, pad=2)
    axes.grid(axis="x", linewidth=0.4, alpha=0.4)
    axes.set_axisbelow(True)
