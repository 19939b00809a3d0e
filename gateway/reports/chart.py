"""Charts as SVG within an HTML page: stacked columns over time.  No script, nothing from elsewhere."""

from __future__ import annotations

from html import escape

from .report import Chart
from .words import day

#: In units of the drawing: the whole, and what is left for labels.
_WIDTH, _HEIGHT = 900, 220
_LEFT, _BOTTOM, _TOP, _RIGHT = 60, 24, 8, 8
#: Classes of the page's style sheet, for series that are neither good nor bad.
_PLAIN = ("s1", "s2", "s3", "s4", "s5")


def svg(chart: Chart) -> str:
    """Return a figure with a legend; each column tells its counts to who points at it."""
    series = [one for one in chart.series if any(one[2])]
    plain = iter(_PLAIN * len(series))
    classes = [tone or next(plain) for _, tone, _ in series]
    totals = [sum(counts[place] for _, _, counts in series) for place in range(len(chart.begins))]
    top = _round_up(max(totals, default=0) or 1)
    across, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    step = across / len(totals)
    drawn = []
    for part in range(5):
        y = _TOP + high * part / 4
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        value = top * (4 - part) / 4
        if value == int(value):
            drawn.append(f'<text class="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{int(value):,}</text>')
    for place, begin in enumerate(chart.begins):
        x, y = _LEFT + step * place, float(_TOP + high)
        said = [day(begin, chart.width)]
        columns = []
        for (name, _, counts), css in zip(series, classes, strict=True):
            tall = high * counts[place] / top
            y -= tall
            said.append(f"{name}: {counts[place]:,}")
            if tall:
                size = f'width="{max(step * 0.85, 0.5):.2f}" height="{tall:.2f}"'
                columns.append(f'<rect class="{css}" x="{x:.2f}" y="{y:.2f}" {size}/>')
        # The whole height answers to the pointer, however small the column is.
        columns.append(
            f'<rect class="touch" x="{x:.2f}" y="{_TOP}" width="{step:.2f}" height="{high}">'
            f"<title>{escape(chr(10).join(said))}</title></rect>"
        )
        drawn += columns
    for place in sorted({0, len(totals) // 2, len(totals) - 1}):
        anchor = "start" if place == 0 else "end" if place == len(totals) - 1 else "middle"
        x = _LEFT + step * (place + {"start": 0, "middle": 0.5, "end": 1}[anchor])
        label = day(chart.begins[place], chart.width)
        drawn.append(f'<text class="{anchor}" x="{x:.1f}" y="{_HEIGHT - 6}">{label}</text>')
    legend = "".join(
        f'<span><i class="{css}"></i>{escape(name)}</span>'
        for (name, _, _), css in zip(series, classes, strict=True)
    )
    return (
        f"<figure><figcaption>{escape(chart.title)}{legend}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(chart.title)}">'
        f"{''.join(drawn)}</svg></figure>"
    )


def _round_up(value: int) -> int:
    """Return the next number with one digit that counts, or 4 times one: whole labels on the axis."""
    scale = 1
    while True:
        for digit in (4, 8, 12, 20, 32):
            if digit * scale >= value:
                return digit * scale
        scale *= 10
