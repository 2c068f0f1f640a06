"""The figures as a table, as JSON and as plots."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.figures import svg
from tools.figures.figure import Figure

_LEFT, _WIDTH, _BAR, _ROW = 330, 900, 400, 22
_COLOURS = ("#3b6ea5", "#a5563b", "#4f8a4a", "#7a5aa0")


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| part | what | this tree | baseline | ratio (quartiles) | rounds |", "|---|---|---:|---:|---:|---:|"]
    for figure in figures:
        base = f"{_number(figure.base)} {figure.unit}, {figure.against}" if figure.against else ""
        low, middle, high = figure.ratio
        ratio = f"×{middle:.2f} ({low:.2f}–{high:.2f})" if figure.rounds > 1 else f"×{middle:.2f}"
        own = f"{_number(figure.value)} {figure.unit}"
        shown = ratio if figure.base else ""
        lines.append(f"| {figure.part} | {figure.what} | {own} | {base} | {shown} | {figure.rounds} |")
    return "\n".join(lines)


def write(folder: Path, machines: dict[str, dict[str, Any]], figures: Sequence[Figure]) -> None:
    """Write results.json, results.md and a plot of each part, and keep what other parts have written before.

    ``machines`` describes the machine at the time of each part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"machines": {}, "figures": []}
    kept = [Figure(**{**each, "ratio": tuple(each["ratio"])}) for each in before["figures"]]
    every = [*(figure for figure in kept if figure.part not in machines), *figures]
    every.sort(key=lambda figure: figure.part)
    described = {**before["machines"], **machines}
    content = {"machines": dict(sorted(described.items())), "figures": [asdict(figure) for figure in every]}
    path.write_text(json.dumps(content, indent=1) + "\n")
    for part in machines:
        shown = [figure for figure in figures if figure.part == part and figure.base]
        if shown:
            (folder / f"{part}.svg").write_text(plot(part, shown))


def plot(title: str, figures: Sequence[Figure]) -> str:
    """Bars of the ratios, with a line from quartile to quartile, and a line where the baseline is."""
    most = max(1.0, *(figure.ratio[2] for figure in figures)) * 1.05
    baselines = list(dict.fromkeys(figure.against for figure in figures))
    height = _ROW * (len(figures) + len(baselines) + 2)
    heading = f"{title}: ratio to the baseline of the same run; shorter is better"
    parts = [svg.text(8, 16, heading, weight="bold")]
    for row, figure in enumerate(figures, 1):
        low, middle, high = (_LEFT + ratio / most * _BAR for ratio in figure.ratio)
        y = row * _ROW + 6
        colour = _COLOURS[baselines.index(figure.against) % len(_COLOURS)]
        parts.append(svg.text(_LEFT - 8, y + 12, figure.what, anchor="end"))
        parts.append(f'<rect x="{_LEFT}" y="{y}" width="{middle - _LEFT:.1f}" height="{_ROW - 7}" fill="{colour}"/>')
        parts.append(f'<path d="M{low:.1f} {y + 7}H{high:.1f}" stroke="black"/>')
        text = f"×{figure.ratio[1]:.2f}  ({_number(figure.value)} of {_number(figure.base)} {figure.unit})"
        parts.append(svg.text(max(middle, high) + 6, y + 12, text))
    one, end = _LEFT + _BAR / most, (len(figures) + 1) * _ROW
    parts.append(f'<path d="M{one:.1f} {_ROW}V{end}" stroke="black" stroke-dasharray="3"/>')
    for row, name in enumerate(baselines):
        y = end + row * _ROW + 6
        parts.append(f'<rect x="{_LEFT}" y="{y}" width="12" height="12" fill="{_COLOURS[row % len(_COLOURS)]}"/>')
        parts.append(svg.text(_LEFT + 18, y + 11, f"against {name}"))
    return svg.page(_WIDTH, height, parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
