"""Figures of what goes together: descriptors with ΔDice, the model's confidence with its failures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.correlations import FEWEST_CASES, SIGNIFICANT
from analysis.drawing import Drawing, counts_in_words, file_name, in_brackets, save, sentence, short, style, text_colour
from analysis.failure_prediction import CONFIDENCES, risk_coverage
from analysis.formatting import number
from analysis.safety import USABLE_DICE

_SIGN_COLOURS = "RdBu_r"
_LINES: Mapping[str, dict[str, Any]] = {
    "fold_agreement": {"color": "#0b3c8c", "linestyle": "solid"},
    "max_probability": {"color": "#d1690e", "linestyle": (0, (4, 1.5))},
}


def draw_correlations(
    table: pd.DataFrame,
    labels: Mapping[str, str],
    modality: str,
    structure: str,
    folder: Path,
    note: str = "",
    test: str = "Spearman's test",
) -> Drawing | None:
    """Draw the correlations of descriptors with ΔDice of one perturbed modality and structure.

    Parameters
    ----------
    table
        From :func:`analysis.correlations.correlation_table`.
    labels
        Name on the axis of each descriptor to draw, in order.
    modality, structure
        The panel.
    folder
        Where the files go.
    note
        Said in title and caption, e.g. ``phantom``.
    test
        What ``p`` and ``q`` of the table are of.

    Returns
    -------
    Drawing or None
        None where no correlation is defined here.
    """
    chosen = (table["modality"] == modality) & (table["structure"] == structure) & table["descriptor"].isin(labels)
    panel = table[chosen]
    if panel["r"].isna().all():
        return None
    variants = list(dict.fromkeys(zip(panel["perturbation"], panel["severity"], strict=True)))
    with style():
        figure = Figure(figsize=(max(6.6, 2.6 + 0.44 * len(variants)), 1.3 + 0.27 * len(labels)), layout="constrained")
        axes = figure.add_subplot()
        norm = Normalize(-1, 1)
        _draw_grid(axes, panel, list(labels), variants, norm)
        restating = set(
            panel.loc[panel["restates_baseline"], ["perturbation", "severity"]].itertuples(index=False, name=None)
        )
        _name_axes(axes, list(labels.values()), variants, restating)
        axes.set_title(
            f"{short(modality)} perturbed: descriptors and ΔDice of {short(structure)}{in_brackets(note)}",
            loc="left",
            pad=22,
        )
        figure.colorbar(ScalarMappable(norm, _SIGN_COLOURS), ax=axes, label="Pearson's r", shrink=0.8, pad=0.01)
        name = f"correlations_{file_name(modality)}_{file_name(structure)}"
        return save(figure, folder, name, _correlation_caption(panel, modality, structure, note, test))


def _draw_grid(
    axes: Axes, panel: pd.DataFrame, descriptors: Sequence[str], variants: Sequence[tuple[str, int]], norm: Normalize
) -> None:
    colours = mpl.colormaps[_SIGN_COLOURS].with_extremes(bad="white")
    cells = {(c["descriptor"], c["perturbation"], c["severity"]): c for c in panel.to_dict("records")}
    grid = [
        [cells.get((name, *variant), {"r": math.nan, "significant": False}) for variant in variants]
        for name in descriptors
    ]
    values = np.array([[cell["r"] for cell in row] for row in grid], dtype=float)
    axes.imshow(np.ma.masked_invalid(values), cmap=colours, norm=norm, aspect="auto")
    for (y, x), r in np.ndenumerate(values):
        shade = "white" if math.isnan(r) else to_hex(colours(norm(r)))
        significant = grid[y][x]["significant"]
        weight = "bold" if significant else "normal"
        style_of = {"color": text_colour(shade), "fontsize": 7.5, "fontweight": weight}
        axes.text(float(x), float(y), number(float(r)), ha="center", va="center", **style_of)
        if significant:
            frame = {"fill": False, "edgecolor": "black", "linewidth": 1.5}
            axes.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, **frame))


def _name_axes(
    axes: Axes, labels: Sequence[str], variants: Sequence[tuple[str, int]], restating: set[tuple[str, int]]
) -> None:
    axes.set_yticks(range(len(labels)), [short(label, 24) for label in labels])
    axes.set_xticks(range(len(variants)), [f"{variant[1]}{'*' * (variant in restating)}" for variant in variants])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("severity")
    perturbations = [perturbation for perturbation, _ in variants]
    for perturbation in dict.fromkeys(perturbations):
        places = [x for x, name in enumerate(perturbations) if name == perturbation]
        axes.text(np.mean(places), -0.65, short(perturbation), ha="center", va="bottom", fontsize=9)
        if places[0]:
            axes.axvline(places[0] - 0.5, color="white", linewidth=3)


def _correlation_caption(panel: pd.DataFrame, modality: str, structure: str, note: str, test: str) -> str:
    counts = counts_in_words([int(n) for n in panel["n"]])
    few = ""
    if panel["n"].max() < FEWEST_CASES:
        few = f"Below {FEWEST_CASES} cases nothing is tested, and any of these can be chance. "
    family = int(panel["family"].iloc[0])
    stars = ""
    if panel["restates_baseline"].any():
        stars = " *: every structure has Dice 0; these columns correlate with the baseline's Dice and are one finding."
    return (
        f"{sentence(note)}Pearson correlation of lesion descriptors with ΔDice of {structure} with {modality} "
        f"perturbed (n = {counts} cases whose reference has {structure}). {few}Positive (red): the larger the "
        f"descriptor, the more is lost. Framed: q < {SIGNIFICANT} ({test}, Benjamini-Hochberg over all {family} "
        f"tests). Empty: no spread, or fewer than 3 cases.{stars}"
    )


def draw_risk_coverage(rows: pd.DataFrame, structures: Sequence[str], folder: Path, note: str = "") -> Drawing | None:
    """Draw the share of failures among the most confident contours, a panel per structure.

    Parameters
    ----------
    rows
        Rows of a run, all variants.
    structures
        Panels, in order; those without a single confidence are left out.
    folder
        Where the files go.
    note
        Said in title and caption, e.g. ``phantom``.

    Returns
    -------
    Drawing or None
        None where no structure has a curve.
    """
    curves = {structure: _curves(rows[rows["structure"] == structure]) for structure in structures}
    drawn = {structure: found for structure, found in curves.items() if found}
    if not drawn:
        return None
    with style():
        figure = Figure(figsize=(max(5.2, 3.4 * len(drawn)), 3.4), layout="constrained")
        grid = figure.subplots(1, len(drawn), squeeze=False, sharey=True)[0]
        for axes, (structure, found) in zip(grid, drawn.items(), strict=True):
            for confidence, curve in found.items():
                line = {"label": CONFIDENCES[confidence], "drawstyle": "steps-pre", **_LINES[confidence]}
                axes.plot(curve["coverage"], curve["risk"], **line)
            overall = _failure_rate(rows[rows["structure"] == structure])
            axes.axhline(overall, color="black", linewidth=0.8, linestyle="dotted", label="no selection")
            axes.set_title(short(structure) + in_brackets(note), loc="left")
            axes.set_xlabel("share of contours kept, most confident first")
            axes.set_xlim(0, 1)
            axes.set_ylim(-0.02, 1.02)
            axes.grid(linewidth=0.3)
        grid[0].set_ylabel(f"share with Dice < {USABLE_DICE}")
        handles, names = grid[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        return save(figure, folder, "risk_coverage", _risk_caption(rows, list(drawn), note))


def _curves(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    curves = {confidence: risk_coverage(rows, confidence) for confidence in CONFIDENCES}
    return {confidence: curve for confidence, curve in curves.items() if len(curve)}


def _failure_rate(rows: pd.DataFrame) -> float:
    dice = rows.loc[rows["reference_mm3"] > 0, "dice"].dropna()
    return float((dice < USABLE_DICE).mean())


def _risk_caption(rows: pd.DataFrame, structures: Sequence[str], note: str) -> str:
    present = rows[rows["reference_mm3"] > 0].dropna(subset="dice")
    counts = [
        f"{structure} n = {len(of)} contours of {of['case'].nunique()} cases"
        for structure, of in ((name, present[present["structure"] == name]) for name in structures)
    ]
    return (
        f"{sentence(note)}Risk and coverage over all variants ({', '.join(counts)}; reference present): if only the "
        f"most confident share of contours were used, how many of them would have a Dice below {USABLE_DICE}. Dotted: "
        "no selection. Depends on the mix of variants, whose strength alone separates many failures from successes; an "
        "empty mask on which all folds agree counts as confident."
    )
