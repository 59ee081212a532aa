"""Panels of one axial slice side by side, with contours that tell apart without colour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

SCALE_BAR_MM = 20

_PANEL_INCHES = 2.4


@dataclass(frozen=True)
class Panel:
    """One image with contours.

    Attributes
    ----------
    title
        Above it.
    grey
        (rows, columns), 0 = black to 1 = white.
    contours
        Masks of the same shape by role: ``reference``, ``unperturbed``, ``perturbed``.
    remark
        At its foot: what the absence of a contour means.
    """

    title: str
    grey: npt.NDArray[np.float32]
    contours: Mapping[str, npt.NDArray[np.bool_]]
    remark: str


@dataclass(frozen=True)
class _Line:
    """How a contour is drawn: dashes and lightness tell apart what colours tell most readers."""

    label: str
    colour: str
    dashes: Any
    width: float = 1.8


_LINES = {
    "reference": _Line("reference", "#F0E442", "solid"),
    "unperturbed": _Line("prediction, unperturbed", "#56B4E9", (0, (3, 1.5))),
    "perturbed": _Line("prediction, perturbed", "#D55E00", (0, (1.5, 0.8))),
}
_HALO = [withStroke(linewidth=3.2, foreground="black")]
_TINT = 0.22


def draw_figure(panels: Sequence[Panel], spacing_mm: tuple[float, float], title: str) -> Figure:
    """Draw panels of one slice.

    Parameters
    ----------
    panels
        All of one shape.
    spacing_mm
        Height and width of a voxel.
    title
        Above all of them.
    """
    columns = len(panels) if len(panels) <= 3 else math.ceil(len(panels) / 2)
    rows = math.ceil(len(panels) / columns)
    height, width = (size * mm for size, mm in zip(panels[0].grey.shape, spacing_mm, strict=True))
    size = _PANEL_INCHES * columns, 0.6 + rows * (0.3 + _PANEL_INCHES * height / width)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03))
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, panel in zip_longest(grid, panels):
        if panel is None:
            axes.set_axis_off()
        else:
            _draw_panel(axes, panel, (width, height))
    _mark_sides(figure.axes[0], (width, height))
    figure.suptitle(title, fontsize=11)
    lines = list(_LINES.values())
    # A tuple of artists is drawn over each other, which matplotlib's types do not know.
    handles: list[Any] = [_handle(line) for line in lines]
    labels = [line.label for line in lines]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9, handlelength=3.2)
    return figure


def _draw_panel(axes: Axes, panel: Panel, size_mm: tuple[float, float]) -> None:
    width, height = size_mm
    axes.imshow(panel.grey, cmap="gray", vmin=0, vmax=1, interpolation="none", extent=(0, width, height, 0))
    rows, columns = panel.grey.shape
    x, y = (np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows
    for role, mask in panel.contours.items():
        if mask.any():
            _draw_contour(axes, x, y, mask, role)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color="0.5", linewidth=0.6)
    axes.set_title(panel.title, fontsize=10)
    if panel.remark:
        box = {"facecolor": "black", "edgecolor": "none", "boxstyle": "round,pad=0.2"}
        axes.text(0.5, 0.06, panel.remark, transform=axes.transAxes, ha="center", color="white", fontsize=9, bbox=box)


def _draw_contour(
    axes: Axes, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_], role: str
) -> None:
    line, height = _LINES[role], mask.astype(float)
    is_reference = role == "reference"
    if not is_reference:
        axes.contourf(x, y, height, levels=[0.5, 1.5], colors=line.colour, alpha=_TINT, zorder=1.5)
    # The reference lies between a prediction's halo and its dashes: where both agree, both are seen.
    axes.contour(
        x, y, height, levels=[0.5], colors="black", linewidths=line.width + 1.4, zorder=3 if is_reference else 2
    )
    contour = axes.contour(
        x, y, height, levels=[0.5], colors=line.colour, linewidths=line.width, zorder=4 if is_reference else 5
    )
    contour.set_linestyle([line.dashes])


def _mark_sides(axes: Axes, size_mm: tuple[float, float]) -> None:
    width, height = size_mm
    for x, side in ((0.05, "R"), (0.95, "L")):
        _write(axes, x, 0.5, side)
    _write(axes, 0.5, 0.98, "A", va="top")
    bar = [0.05 * width, 0.05 * width + SCALE_BAR_MM]
    axes.plot(bar, [0.96 * height] * 2, color="white", linewidth=1.8, path_effects=_HALO)
    _write(axes, 0.05, 0.06, f"{SCALE_BAR_MM} mm", ha="left", va="bottom")


def _write(axes: Axes, x: float, y: float, text: str, ha: str = "center", va: str = "center") -> None:
    style: dict[str, Any] = {"color": "white", "fontsize": 9, "fontweight": "bold"}
    halo = [withStroke(linewidth=2.4, foreground="black")]
    axes.text(x, y, text, ha=ha, va=va, transform=axes.transAxes, path_effects=halo, zorder=6, **style)


def _handle(line: _Line) -> tuple[Line2D, Line2D]:
    """Halo and line, drawn over each other."""
    halo = Line2D([], [], color="black", linewidth=line.width + 1.4)
    return halo, Line2D([], [], color=line.colour, linestyle=line.dashes, linewidth=line.width)
