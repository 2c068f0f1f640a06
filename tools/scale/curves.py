"""Draws how much of each quota is used: both axes are logarithmic, and a quota is met at the dashed line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.figures import svg
from tools.scale import quotas
from tools.scale.document import DAY, HOUR, RATES, SIZES, number

_WIDTH, _HEIGHT, _LEFT, _TOP, _PLOT = 900, 520, 60, 40, 320
_COLOURS = ("#3b6ea5", "#a5563b", "#4f8a4a", "#7a5aa0", "#b08a2e", "#4a9a9a", "#a0527a")
_LOWEST, _HIGHEST = 1e-3, 1e4
_POINTS = 60
Used = Callable[[float], float]  # of a quota, as a share, at a rate or a size


def write(folder: Path) -> None:
    """Write scale_creates.svg and scale_schedules.svg."""
    by_creates, by_schedules = _by_creates(), _by_schedules()
    title = "share of a quota that creates use"
    (folder / "scale_creates.svg").write_text(_draw(title, "creates a second", RATES[0], RATES[-1], by_creates))
    title = "share of a quota that schedules use"
    (folder / "scale_schedules.svg").write_text(_draw(title, "schedules", SIZES[0], SIZES[-1], by_schedules))


def _by_creates() -> dict[str, Used]:
    def share(most: float) -> Used:
        return lambda rate: rate / most

    return {
        f"{quota['name'].replace('`', '')}{'' if way == 'standard' else ', over HTTP'}": share(
            quotas.most_creates(quota, way)
        )
        for quota in quotas.QUOTAS["create"]
        for way in quota["ways"]
    }


def _by_schedules() -> dict[str, Used]:
    def fires(quota: dict[str, Any], interval: int) -> Used:
        return lambda size: size / interval / float(quota["limit"])

    def runs(quota: dict[str, Any]) -> Used:
        return lambda size: quotas.used_by_run(quota, int(size)) / float(quota["limit"])

    def lists(quota: dict[str, Any]) -> Used:
        most = quotas.most_schedules_by_lists(quota, quotas.RUN_SECONDS)
        return lambda size: size / most

    found: dict[str, Used] = {}
    for quota in quotas.QUOTAS["fire"]:
        found |= {f"{quota['name']}, hourly": fires(quota, HOUR), f"{quota['name']}, daily": fires(quota, DAY)}
    found |= {f"{quota['name']}, lists of a report in 6 h": lists(quota) for quota in quotas.QUOTAS["list"]}
    return found | {quota["name"].replace("`", ""): runs(quota) for quota in quotas.QUOTAS["run"]}


def _draw(title: str, what: str, first: float, last: float, lines: dict[str, Used]) -> str:
    width = _WIDTH - _LEFT - 20

    def x(value: float) -> float:
        return _LEFT + width * math.log(value / first) / math.log(last / first)

    def y(share: float) -> float:
        clipped = min(max(share, _LOWEST), _HIGHEST)
        return _TOP + _PLOT * math.log(_HIGHEST / clipped) / math.log(_HIGHEST / _LOWEST)

    height = _HEIGHT + 16 * max(0, math.ceil(len(lines) / 2) - 6)
    parts = [
        svg.text(8, 18, f"{title}; at ×1 it is met", weight="bold"),
        f'<path d="M{_LEFT} {_TOP}V{_TOP + _PLOT}H{_LEFT + width}" fill="none" stroke="black"/>',
        f'<path d="M{_LEFT} {y(1):.1f}H{_LEFT + width}" stroke="black" stroke-dasharray="4"/>',
    ]
    for power in range(round(math.log10(first)), round(math.log10(last)) + 1):
        anchor = "end" if 10**power == last else "middle"
        parts.append(svg.text(x(10**power), _TOP + _PLOT + 16, number(10**power), anchor=anchor))
    parts.append(svg.text(_LEFT + width / 2, _TOP + _PLOT + 34, what, anchor="middle"))
    powers = range(round(math.log10(_LOWEST)), round(math.log10(_HIGHEST)) + 1)
    parts += [svg.text(_LEFT - 6, y(10**power) + 4, f"×{10**power:g}", anchor="end") for power in powers]
    for place, (name, used) in enumerate(lines.items()):
        values = [first * (last / first) ** (step / _POINTS) for step in range(_POINTS + 1)]
        line = "L".join(f"{x(value):.1f} {y(used(value)):.1f}" for value in values if used(value) <= _HIGHEST)
        colour = _COLOURS[place % len(_COLOURS)]
        dashes = ' stroke-dasharray="7 3"' if place >= len(_COLOURS) else ""
        parts.append(f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        column, row = place % 2, place // 2
        left, top = _LEFT - 40 + column * 430, _TOP + _PLOT + 56 + row * 16
        parts.append(f'<path d="M{left} {top - 4}h24" stroke="{colour}" stroke-width="2"{dashes}/>')
        parts.append(svg.text(left + 30, top, name, size=10))
    return svg.page(_WIDTH, height, parts)
