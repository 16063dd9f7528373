"""Draw the pictures of docs/how_fast_how_good.md from the tables that the other scripts wrote.

python benchmarks/front_page.py
"""

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).resolve().parents[1] / "docs"
OURS, OTHERS = "#0072B2", "#999999"


def rows(page, heading):
    """Yield the cells of the table of a page whose heading begins with some text."""
    text = (DOCS / "benchmarks" / page).read_text()
    table = re.search(rf"^\| {re.escape(heading)}.*\n\|[ :|-]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    for line in table[1].splitlines():
        yield [cell.strip() for cell in line.strip("|").split("|")]


def bars(ax, entries, xlabel):
    """Draw (label, value, low, high, whether it is of this package), from the top down."""
    labels, values, low, high, ours = zip(*entries, strict=True)
    errors = [
        [value - bound for value, bound in zip(values, low, strict=True)],
        [bound - value for value, bound in zip(values, high, strict=True)],
    ]
    colors = [OURS if own else OTHERS for own in ours]
    ax.barh(labels, values, xerr=errors, color=colors, ecolor="0.3", capsize=3)
    ax.invert_yaxis()
    ax.axvline(1, color="k", lw=0.8, ls=":")
    ax.set_xlabel(xlabel)
    ax.spines[["top", "right"]].set_visible(False)


def cost_of_a_fit():
    for name, _, ratio, quartiles, _ in rows("training_overhead.md", "fit | seconds"):
        if "dropout" not in name:
            low, high = map(float, quartiles.split(" - "))
            yield name, float(ratio), low, high, name.startswith("TorchClassifier")


def gain_of_lockstep():
    for name, size, _, gain, _ in rows("lockstep.md", "network | K"):
        if size == "20" and "MNIST" not in name:
            median, low, high = map(float, re.findall(r"[\d.]+", gain))
            yield name, median, low, high, True


def main():
    figure, ax = plt.subplots(figsize=(7, 2.4), layout="constrained")
    bars(ax, cost_of_a_fit(), "time of a fit, relative to a loop in PyTorch (quartiles)")
    figure.savefig(DOCS / "images" / "cost_of_a_fit.png", dpi=100)

    figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    bars(ax, gain_of_lockstep(), "20 networks one by one, relative to 20 together (range)")
    figure.savefig(DOCS / "images" / "gain_of_lockstep.png", dpi=100)


if __name__ == "__main__":
    main()
