"""Figures of a run: box plots of ΔDice and the overview heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch, Rectangle

from analysis.drawing import (
    Drawing,
    counts_in_words,
    file_name,
    in_brackets,
    save,
    sentence,
    severity_shade,
    short,
    style,
    text_colour,
)
from analysis.formatting import number
from analysis.limit_table import Limits
from analysis.pairing import CellKey

POINTS_UP_TO = 20
"""Largest number of cases that are drawn one by one; a box of few cases hides more than it shows."""

_FEWEST_FOR_A_BOX = 10

_HARM_COLOURS = "Oranges"
_GROUP_WIDTH = 0.8


@dataclass(frozen=True)
class _Box:
    """Where a cell stands in its panel, and its values."""

    key: CellKey
    delta: npt.NDArray[np.float64]
    position: float
    width: float
    shade: str


def draw_box_plots(
    pairs: pd.DataFrame, limits: Limits, modality: str, structure: str, folder: Path, note: str = ""
) -> Drawing | None:
    """Draw ΔDice of one perturbed modality and structure, a box per perturbation and severity (figure 1).

    Parameters
    ----------
    pairs
        All rows of :func:`analysis.pairing.paired`: the axis is the same for all panels of a run.
    limits
        Those of the median are drawn as dashes.
    modality, structure
        The panel.
    folder
        Where the files go.
    note
        Said in title and caption, e.g. ``phantom``.

    Returns
    -------
    Drawing or None
        None where no case has a ΔDice here.
    """
    population = pairs[pairs["reference_present"]].dropna(subset="delta_dice")
    panel = population[(population["modality"] == modality) & (population["structure"] == structure)]
    if panel.empty:
        return None
    perturbations = [str(name) for name in panel["perturbation"].unique()]
    severities = sorted(int(severity) for severity in panel["severity"].unique())
    boxes = _boxes(panel, perturbations, severities)
    with style():
        figure = Figure(figsize=(max(5.2, 0.85 * len(perturbations)), 3.6), layout="constrained")
        axes = figure.add_subplot()
        for box in boxes:
            _draw_box(axes, box)
            _draw_limit(axes, box, limits)
        title = f"{short(modality)} perturbed: ΔDice of {short(structure)}{in_brackets(note)}"
        axes.set_title(title, loc="left")
        _dress_axes(axes, perturbations, _commoncounts_in_words(population))
        _add_severity_legend(figure, severities)
        caption = _box_caption(modality, structure, [len(box.delta) for box in boxes], note)
        return save(figure, folder, f"delta_dice_{file_name(modality)}_{file_name(structure)}", caption)


def draw_heat_map(table: pd.DataFrame, folder: Path, note: str = "") -> Drawing:
    """Draw the median ΔDice of all cells: a panel per modality and structure, perturbation by severity.

    Parameters
    ----------
    table
        From :func:`analysis.tables.cell_table`.
    folder
        Where the files go.
    note
        Said in title and caption, e.g. ``phantom``.
    """
    modalities, structures = list(table["modality"].unique()), list(table["structure"].unique())
    perturbations, severities = list(table["perturbation"].unique()), sorted(table["severity"].unique())
    margin = 0.1 * max(len(short(name)) for name in perturbations)
    width = 0.9 + margin + len(structures) * max(2.0, 0.62 * len(severities))
    height = 1.4 + len(modalities) * (0.5 + 0.3 * len(perturbations))
    with style():
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.09))
        grid = figure.subplots(len(modalities), len(structures), squeeze=False, sharex=True, sharey=True)
        # Small losses are where limits lie: they get more of the scale.
        norm = PowerNorm(0.6, 0.0, 1.0, clip=True)
        for row, modality in enumerate(modalities):
            for column, structure in enumerate(structures):
                panel = table[(table["modality"] == modality) & (table["structure"] == structure)]
                _draw_heat_panel(grid[row, column], panel, perturbations, severities, norm)
                grid[row, column].set_title(f"{short(modality)}, {short(structure)}", loc="left", fontsize=10)
        for axes in grid[-1]:
            axes.set_xlabel("severity")
        ticks = [0, 0.05, 0.2, 0.5, 1]
        figure.colorbar(ScalarMappable(norm, _HARM_COLOURS), ax=grid, label="median ΔDice", shrink=0.7, ticks=ticks)
        figure.suptitle(f"Median ΔDice by perturbed modality{in_brackets(note)}", fontsize=11)
        return save(figure, folder, "overview_median_delta_dice", _heat_caption(table, note))


def _boxes(panel: pd.DataFrame, perturbations: Sequence[str], severities: Sequence[int]) -> list[_Box]:
    pitch = _GROUP_WIDTH / len(severities)
    boxes = []
    for (modality, perturbation, severity, structure), of_cell in panel.groupby(list(CellKey._fields), sort=False):
        index = severities.index(int(severity))
        position = perturbations.index(perturbation) + (index - (len(severities) - 1) / 2) * pitch
        key = CellKey(modality, perturbation, int(severity), structure)
        delta = of_cell["delta_dice"].to_numpy(dtype=float)
        boxes.append(_Box(key, delta, position, 0.8 * pitch, severity_shade(index, len(severities))))
    return boxes


def _draw_box(axes: Axes, box: _Box) -> None:
    few = len(box.delta) <= POINTS_UP_TO
    if len(box.delta) < _FEWEST_FOR_A_BOX:
        ends = box.position - box.width / 2, box.position + box.width / 2
        axes.hlines(float(np.median(box.delta)), *ends, colors="black", linewidth=1.6)
        _draw_points(axes, box)
        return
    axes.boxplot(
        box.delta,
        positions=[box.position],
        widths=box.width,
        manage_ticks=False,
        patch_artist=True,
        showfliers=not few,
        boxprops={"facecolor": box.shade, "edgecolor": "black", "linewidth": 0.7},
        medianprops={"color": "black", "linewidth": 1.6},
        whiskerprops={"linewidth": 0.7},
        capprops={"linewidth": 0.7},
        flierprops={"marker": "o", "markersize": 2, "markerfacecolor": "none", "markeredgewidth": 0.5},
    )
    if few:
        _draw_points(axes, box)


def _draw_points(axes: Axes, box: _Box) -> None:
    # Side by side in order of their value: spread without chance.
    x = box.position + 0.3 * box.width * np.resize([-1.0, 0.0, 1.0], len(box.delta))
    axes.scatter(x, np.sort(box.delta), s=14, facecolor=box.shade, edgecolor="black", linewidth=0.6, zorder=3)


def _draw_limit(axes: Axes, box: _Box, limits: Limits) -> None:
    limit = limits.of(*box.key).median_delta_dice
    if limit is not None:
        ends = box.position - 0.625 * box.width, box.position + 0.625 * box.width
        axes.hlines(limit, *ends, colors="black", linestyles=(0, (2, 1)), linewidth=0.9)


def _dress_axes(axes: Axes, perturbations: Sequence[str], limits: tuple[float, float]) -> None:
    names = [short(name) for name in perturbations]
    crowded = sum(len(name) for name in names) > 45
    axes.set_xticks(range(len(names)), names, rotation=30 if crowded else 0)
    axes.set_xlim(-0.6, len(perturbations) - 0.4)
    axes.set_ylim(*limits)
    axes.set_ylabel("ΔDice (positive = harm)")
    axes.axhline(0, color="black", linewidth=0.6)
    axes.grid(axis="y", linewidth=0.3)
    axes.set_axisbelow(True)


def _add_severity_legend(figure: Figure, severities: Sequence[int]) -> None:
    handles = [
        Patch(
            facecolor=severity_shade(index, len(severities)),
            edgecolor="black",
            linewidth=0.7,
            label=f"severity {severity}",
        )
        for index, severity in enumerate(severities)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5), frameon=False, fontsize=9)


def _commoncounts_in_words(population: pd.DataFrame) -> tuple[float, float]:
    low, high = min(population["delta_dice"].min(), 0.0), max(population["delta_dice"].max(), 0.1)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _draw_heat_panel(
    axes: Axes, panel: pd.DataFrame, perturbations: Sequence[str], severities: Sequence[int], norm: Normalize
) -> None:
    grid = panel.pivot_table(values="median", index="perturbation", columns="severity", dropna=False)
    values = grid.reindex(index=perturbations, columns=severities).to_numpy(dtype=float)
    colours = mpl.colormaps[_HARM_COLOURS].with_extremes(bad="white")
    axes.imshow(np.ma.masked_invalid(values), cmap=colours, norm=norm, aspect="auto")
    over = panel[panel["violations"] != ""]
    broken = set(zip(over["perturbation"], over["severity"], strict=True))
    for (y, x), value in np.ndenumerate(values):
        shade = "white" if math.isnan(value) else to_hex(colours(norm(value)))
        is_broken = (perturbations[y], severities[x]) in broken
        text: dict[str, Any] = {"color": text_colour(shade), "fontsize": 9.5}
        text["fontweight"] = "bold" if is_broken else "normal"
        axes.text(float(x), float(y), number(float(value)), ha="center", va="center", **text)
        if is_broken:
            axes.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor="black", linewidth=1.8))
    axes.set_xticks(range(len(severities)), [str(severity) for severity in severities])
    axes.set_yticks(range(len(perturbations)), [short(name) for name in perturbations])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _box_caption(modality: str, structure: str, counts: Sequence[int], note: str) -> str:
    drawn = "Bars: median" if min(counts) < _FEWEST_FOR_A_BOX else ""
    if max(counts) >= _FEWEST_FOR_A_BOX:
        quartiles = "Boxes: median and quartiles, whiskers at most 1.5 interquartile ranges"
        drawn = f"{drawn} below {_FEWEST_FOR_A_BOX} cases. {quartiles}" if drawn else quartiles
    if min(counts) <= POINTS_UP_TO:
        everyone = "" if max(counts) <= POINTS_UP_TO else f" of cells with up to {POINTS_UP_TO} cases"
        drawn += f". Points: every case{everyone}"
    if max(counts) > POINTS_UP_TO:
        drawn += ". Open circles: cases beyond the whiskers"
    return (
        f"{sentence(note)}ΔDice of {structure} with {modality} perturbed (n = {counts_in_words(counts)}: cases whose "
        f"reference has {structure}). {drawn}. "
        "Dashes: limit of the median, where there is one."
    )


def _heat_caption(table: pd.DataFrame, note: str) -> str:
    counts = [
        f"{structure} n = {counts_in_words(list(of_structure['n']))}"
        for structure, of_structure in table.groupby("structure", sort=False)
    ]
    return (
        f"{sentence(note)}Median ΔDice by perturbation and severity ({', '.join(counts)}). "
        "Positive = harm, gains have the colour of 0; framed: a limit is broken."
    )
