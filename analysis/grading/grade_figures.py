"""Figures of the grading: how grades flow from rater to rater, and which metrics go together with them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.patheffects import withStroke

from analysis.correlations import SIGNIFICANT
from analysis.drawing import (
    Drawing,
    counts_in_words,
    in_brackets,
    save,
    sentence,
    severity_shade,
    short,
    style,
    text_colour,
)
from analysis.formatting import counted, number
from analysis.grading.correlation import MEAN_OF_COEFFICIENTS
from analysis.grading.grades import GRADED_WORDS, PERTURBED, USABLE_FROM, Grades, Part, parts
from analysis.statistics import LIKERT

_BLOCK = 0.24
"""Width of a block; raters are 1 apart."""

_GAP = 0.07
"""Space between blocks, as a share of the contours."""

_SIGN_COLOURS = "RdBu_r"

Spans = dict[int, tuple[float, float]]


def draw_grade_flow(grades: Grades, graded: str, folder: Path, note: str = "") -> Drawing | None:
    """Draw how the raters' grades of the same contours go together, a panel per structure (the study's figures 2, 3).

    Parameters
    ----------
    grades
        All grades; first showings count.
    graded
        ``baseline`` or ``perturbed``.
    folder
        Where the files go.
    note
        Said in title and caption, e.g. ``phantom``.

    Returns
    -------
    Drawing or None
        None where no two raters graded there.
    """
    panels = [part for part in parts(grades) if part.graded == graded and len(part.raters) > 1]
    if not panels:
        return None
    with style():
        widest = max(len(part.raters) for part in panels)
        size = (max(5.2, (0.9 + 1.25 * widest) * len(panels)), 5.4)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, part in zip(grid, panels, strict=True):
            _draw_panel(axes, part)
            axes.set_title(short(part.structure), loc="left")
        _name(figure, f"{GRADED_WORDS[graded]} contours, grades by rater{in_brackets(note)}")
        return save(figure, folder, f"grade_flow_{graded}", _flow_caption(panels, graded, grades.choice_words, note))


def _name(figure: Figure, title: str) -> None:
    # A note can be long: it is a title of the figure, in as many lines as it takes.
    width = int(11 * figure.get_figwidth())
    figure.suptitle("\n".join(textwrap.wrap(title[0].upper() + title[1:], width)), fontsize=11)


def _draw_panel(axes: Axes, part: Part) -> None:
    gap = _GAP * max(int(part.grades[rater].notna().sum()) for rater in part.raters)
    spans = [_spans(part.grades[rater], gap) for rater in part.raters]
    for place, (first, second) in enumerate(zip(part.raters, part.raters[1:], strict=False)):
        _draw_ribbons(axes, place, part.of([first, second]).grades, spans[place], spans[place + 1])
    for place, of_rater in enumerate(spans):
        for grade, (bottom, top) in of_rater.items():
            shade = _shade(grade)
            block = {"facecolor": shade, "edgecolor": "black", "linewidth": 0.6, "zorder": 3}
            axes.add_patch(Rectangle((place - _BLOCK / 2, bottom), _BLOCK, top - bottom, **block))
            words = f"{grade}: {top - bottom:.0f}"
            # A block can be lower than its words, which then need a ground of their own.
            halo = [withStroke(linewidth=1.8, foreground="white")]
            where = {"ha": "center", "va": "center", "zorder": 4, "path_effects": halo}
            axes.text(place, (bottom + top) / 2, words, fontsize=7.5, color="black", **where)
    axes.axhline(0, color="black", linewidth=1.2, linestyle=(0, (5, 2)), zorder=2)
    right = len(spans) - 1 + 0.62
    axes.text(right, gap / 4, "usable", ha="right", va="bottom", fontsize=8)
    axes.text(right, -gap / 4, "not usable", ha="right", va="top", fontsize=8)
    ends = [end for of_rater in spans for span in of_rater.values() for end in span]
    axes.set_xlim(-0.3, right)
    axes.set_ylim(min(*ends, -2 * gap) - gap / 4, max(*ends, 2 * gap) + gap / 4)
    axes.set_xticks(range(len(spans)), [short(rater.replace("_", " "), 16) for rater in part.raters])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _spans(given: pd.Series, gap: float) -> Spans:
    """Stack a rater's blocks from the line between usable and not: 3 to 5 above it, 2 and 1 below."""
    spans: Spans = {}
    for grades, sign in ((LIKERT[USABLE_FROM - 1 :], 1), (LIKERT[: USABLE_FROM - 1][::-1], -1)):
        edge = sign * gap / 2
        for grade in grades:
            count = int((given == grade).sum())
            if count:
                far = edge + sign * count
                spans[grade] = (min(edge, far), max(edge, far))
                edge = far + sign * gap
    return spans


def _draw_ribbons(axes: Axes, place: int, both: pd.DataFrame, left: Spans, right: Spans) -> None:
    """Draw a ribbon per pair of grades, as wide as it has contours, stacked from the top of both blocks."""
    first, second = (both[rater].to_numpy(dtype=float) for rater in both.columns)
    from_top = {grade: span[1] for grade, span in left.items()}
    to_top = {grade: span[1] for grade, span in right.items()}
    start, end = place + _BLOCK / 2, place + 1 - _BLOCK / 2
    for a in reversed(LIKERT):
        for b in reversed(LIKERT):
            count = int(((first == a) & (second == b)).sum())
            if count:
                axes.add_patch(_ribbon(start, end, from_top[a], to_top[b], count, _shade(a)))
                from_top[a] -= count
                to_top[b] -= count


def _ribbon(start: float, end: float, left: float, right: float, width: int, shade: str) -> PathPatch:
    middle = (start + end) / 2
    points = [(start, left), (middle, left), (middle, right), (end, right)]
    points += [(end, right - width), (middle, right - width), (middle, left - width), (start, left - width)]
    curve = [Outline.CURVE4] * 3
    outline = Outline([*points, (start, left)], [Outline.MOVETO, *curve, Outline.LINETO, *curve, Outline.CLOSEPOLY])
    return PathPatch(outline, facecolor=shade, edgecolor="#555555", linewidth=0.4, alpha=0.6, zorder=1)


def _shade(grade: int) -> str:
    return severity_shade(LIKERT[-1] - grade, len(LIKERT))


def _flow_caption(panels: Sequence[Part], graded: str, choice: str, note: str) -> str:
    patients = {part.structure: counted(len(np.unique(part.cases)), "patient") for part in panels}
    counts = [
        f"{part.structure} n = {counted(len(part.items), 'contour')} of {patients[part.structure]}" for part in panels
    ]
    warning = f" {choice}" if graded == PERTURBED and choice else ""
    return (
        f"{sentence(note)}Grades of {GRADED_WORDS[graded]} contours from rater to rater ({', '.join(counts)}). A block "
        "is a grade with its number of contours, 5 (best) on top; a ribbon, as wide as its number of contours, goes "
        f"from one rater's grade to the next rater's of the same contours. Dashed: from {USABLE_FROM} on a contour is "
        f"usable.{warning}"
    )


def draw_metric_correlations(table: pd.DataFrame, grades: Grades, folder: Path, note: str = "") -> Drawing | None:
    """Draw Spearman's coefficients of metrics with grades, a panel per graded part (the study's figure 4).

    Parameters
    ----------
    table
        From :func:`analysis.grading.correlation.correlation_table`.
    grades
        The grades it is of.
    folder
        Where the files go.
    note
        Said in title and caption.

    Returns
    -------
    Drawing or None
        None where no coefficient is defined.
    """
    chosen = table[(table["method"] == "spearman") & (table["rater"] != MEAN_OF_COEFFICIENTS)]
    if chosen["r"].isna().all():
        return None
    panels = [chosen[chosen["graded"] == graded] for graded in dict.fromkeys(chosen["graded"])]
    metrics = list(grades.metrics)
    with style():
        columns = [len(panel.drop_duplicates(["structure", "rater"])) for panel in panels]
        size = (max(5.6, 2.8 + 0.62 * sum(columns)), 1.7 + 0.3 * len(metrics))
        figure = Figure(figsize=size, layout="constrained")
        ratios = {"width_ratios": columns}
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True, gridspec_kw=ratios)[0]
        norm = Normalize(-1, 1)
        for axes, panel in zip(grid, panels, strict=True):
            _draw_map(axes, panel, metrics, norm)
            axes.set_title(GRADED_WORDS[panel["graded"].iloc[0]], loc="left", fontsize=10, pad=18)
        _name(figure, f"metrics and grades{in_brackets(note)}")
        label = "Spearman's \N{GREEK SMALL LETTER RHO}"
        figure.colorbar(ScalarMappable(norm, _SIGN_COLOURS), ax=list(grid), label=label, shrink=0.8, pad=0.01)
        return save(figure, folder, "metric_correlations", _map_caption(chosen, grades.choice_words, note))


def _draw_map(axes: Axes, panel: pd.DataFrame, metrics: Sequence[str], norm: Normalize) -> None:
    columns = list(dict.fromkeys(zip(panel["structure"], panel["rater"], strict=True)))
    cells = {(c["metric"], c["structure"], c["rater"]): c for c in panel.to_dict("records")}
    colours = mpl.colormaps[_SIGN_COLOURS].with_extremes(bad="white")
    grid = [[cells[(metric, *column)] for column in columns] for metric in metrics]
    values = np.array([[cell["r"] for cell in row] for row in grid], dtype=float)
    axes.imshow(np.ma.masked_invalid(values), cmap=colours, norm=norm, aspect="auto")
    for (y, x), r in np.ndenumerate(values):
        _draw_cell(axes, x, y, float(r), "white" if math.isnan(r) else to_hex(colours(norm(r))), grid[y][x]["q"])
    axes.set_yticks(range(len(metrics)), [short(metric, 24) for metric in metrics])
    raters = [short(rater.replace("_", " "), 14) for _, rater in columns]
    axes.set_xticks(range(len(columns)), raters, rotation=30, ha="right", rotation_mode="anchor", fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for structure in dict.fromkeys(name for name, _ in columns):
        places = [x for x, (name, _) in enumerate(columns) if name == structure]
        axes.text(float(np.mean(places)), -0.6, short(structure), ha="center", va="bottom", fontsize=9)
        if places[0]:
            axes.axvline(places[0] - 0.5, color="white", linewidth=3)


def _draw_cell(axes: Axes, x: int, y: int, r: float, shade: str, q: float) -> None:
    significant = q < SIGNIFICANT
    words: dict[str, Any] = {"color": text_colour(shade), "fontsize": 7.5}
    axes.text(x, y, number(r), ha="center", va="center", fontweight="bold" if significant else "normal", **words)
    if significant:
        frame = {"fill": False, "edgecolor": "black", "linewidth": 1.5}
        axes.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, **frame))


def _map_caption(table: pd.DataFrame, choice: str, note: str) -> str:
    counts = [
        f"{GRADED_WORDS[graded]} n = {counts_in_words([int(n) for n in of['n']])} contours of "
        f"{counts_in_words([int(n) for n in of['cases']])} patients"
        for graded, of in table.groupby("graded", sort=False)
    ]
    family = int(table["family"].max())
    tested = ""
    if family:
        tested = f"Framed: q < {SIGNIFICANT} (Spearman's test, Benjamini-Hochberg over {counted(family, 'test')}). "
    untested = table.loc[table["p"].isna() & table["r"].notna(), "graded"]
    if len(untested):
        names = " and ".join(GRADED_WORDS[graded] for graded in dict.fromkeys(untested))
        tested += f"Not tested: {names}, where a patient is there more than once. "
    return (
        f"{sentence(note)}Spearman correlation of metrics with each rater's grade ({'; '.join(counts)}). Positive: the "
        f"higher the metric, the better the grade. {tested}Empty: undefined, no spread."
        f"{f' {choice}' if choice and PERTURBED in set(table['graded']) else ''}"
    )
