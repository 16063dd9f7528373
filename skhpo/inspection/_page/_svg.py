"""Pictures as text: a few kilobytes each, sharp at any size, and known to the page's script.

matplotlib's own SVG would be ten times as large, and know no row of a line.
"""

from __future__ import annotations

from html import escape

import numpy as np

__all__ = ["Picture", "colour_of"]

# Viridis at nine places: from dark to light, which holds for colour-blind readers and in grey.
_VIRIDIS = np.array(
    [
        (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142),
        (31, 158, 137), (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37),
    ]
)  # fmt: skip


def colour_of(share):
    """Return the colour of a share from 0 to 1."""
    place = float(np.clip(share, 0, 1)) * (len(_VIRIDIS) - 1)
    low = min(int(place), len(_VIRIDIS) - 2)
    red, green, blue = _VIRIDIS[low] + (place - low) * (_VIRIDIS[low + 1] - _VIRIDIS[low])
    return f"#{round(red):02x}{round(green):02x}{round(blue):02x}"


class Picture:
    """An SVG with one pair of axes.

    `x` and `y` are what the axes run over, backwards where the first number is the larger one.
    Sizes are in pixels of the picture's own; `left`, `bottom` and `right` are room for labels.
    """

    def __init__(
        self,
        x,
        y,
        *,
        width=460,
        height=260,
        log_x=False,
        log_y=False,
        left=52,
        bottom=40,
        right=12,
    ):
        self._log_x, self._log_y = log_x, log_y
        self._x = np.log10(x) if log_x else np.array(x, dtype=float)
        self._y = np.log10(y) if log_y else np.array(y, dtype=float)
        self.width, self.height, self._left, self._bottom = width, height, left, bottom
        self._right = right
        self.parts = []

    def at(self, x, y):
        """Return pixels of points."""
        x = np.log10(x) if self._log_x else np.asarray(x, dtype=float)
        y = np.log10(y) if self._log_y else np.asarray(y, dtype=float)
        px = self._left + (x - self._x[0]) / ((self._x[1] - self._x[0]) or 1.0) * (
            self.width - self._left - self._right
        )
        py = (self._y[1] - y) / ((self._y[1] - self._y[0]) or 1.0)
        return px, 10 + np.clip(py, 0, 1) * (self.height - self._bottom - 10)

    def line(self, x, y, style, row=None):
        """Add a line; NaN is left out."""
        px, py = self.at(x, y)
        path = " ".join(
            f"{a:.1f},{b:.1f}" for a, b in zip(px, py, strict=True) if a == a and b == b
        )
        data = "" if row is None else f' data-row="{row}"'
        self.parts.append(f'<polyline points="{path}" fill="none" {style}{data}/>')

    def band(self, x, low, high, style):
        """Add an area between two lines."""
        px, top = self.at(x, high)
        _, bottom = self.at(x, low)
        points = [*zip(px, top, strict=True), *list(zip(px, bottom, strict=True))[::-1]]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        self.parts.append(f'<polygon points="{path}" {style}/>')

    def dots(self, x, y, style, rows=None, radius=2.4):
        """Add a dot for each point."""
        for i, (a, b) in enumerate(zip(*self.at(x, y), strict=True)):
            data = "" if rows is None else f' data-row="{rows[i]}"'
            self.parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius}" {style}{data}/>')

    def crosses(self, x, y, style, rows):
        """Add a cross for each point."""
        for a, b, row in zip(*self.at(x, y), rows, strict=True):
            self.parts.append(
                f'<path d="M{a - 3:.1f} {b - 3:.1f}l6 6m-6 0l6-6" fill="none" {style} '
                f'data-row="{row}"/>'
            )

    def text(self, px, py, text, *, anchor="middle", more=""):
        """Add a text at a pixel."""
        self.parts.append(
            f'<text x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}" {more}>'
            f"{escape(str(text))}</text>"
        )

    def axes(self, x_label, y_label, *, x_ticks=None):
        """Add axes with labels and ticks: pairs of a number and its text, by default some."""
        bottom = self.height - self._bottom
        self.x_axis(x_label, ticks=x_ticks)
        self.parts.append(f'<path class="axis" d="M{self._left} 10V{bottom}"/>')
        for value in _ticks(self._y, self._log_y):
            _, py = self.at([1.0 if self._log_x else self._x[0]], [value])
            self.parts.append(f'<path class="axis" d="M{self._left} {py[0]:.1f}h-4"/>')
            self.text(self._left - 7, py[0] + 4, f"{value:.4g}", anchor="end")
        middle = (10 + bottom) / 2
        turn = f'class="label" transform="rotate(-90 12 {middle:.0f})"'
        self.text(12, middle, y_label, more=turn)

    def x_axis(self, label, *, ticks=None):
        """Add the lower axis; `ticks` as of `axes`."""
        bottom, right = self.height - self._bottom, self.width - self._right
        self.parts.append(f'<path class="axis" d="M{self._left} {bottom}H{right}"/>')
        if ticks is None:
            ticks = [(v, f"{v:.4g}") for v in _ticks(self._x, self._log_x)]
        for value, text in ticks:
            px, _ = self.at([value], [1.0])
            self.parts.append(f'<path class="axis" d="M{px[0]:.1f} {bottom}v4"/>')
            self.text(px[0], bottom + 16, text)
        self.text((self._left + right) / 2, self.height - 6, label, more='class="label"')

    def svg(self, title):
        """Return the SVG element; `title` is what a screen reader says."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" '
            f'style="max-width:{round(1.35 * self.width)}px" '
            f'aria-label="{escape(title, quote=True)}">' + "".join(self.parts) + "</svg>"
        )


def _ticks(ends, log):
    """Return about five numbers that are easy to read, between two (exponents, where `log`)."""
    low, high = sorted(ends)
    if log:
        step = max(1, int(np.ceil((high - low) / 5)))
        found = [10.0**k for k in range(int(np.ceil(low)), int(np.floor(high)) + 1, step)]
        return found if len(found) > 1 else [float(f"{10**v:.2g}") for v in (low, high)]
    if not high > low:
        return [low]
    step = 10.0 ** np.floor(np.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 6)
    return [k * step for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
