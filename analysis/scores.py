"""Scores of a run beside ΔDice: HECKTOR's aggregated Dice, stability, and ROOD-MRI's degradation score."""

from __future__ import annotations

import pandas as pd

from analysis.pairing import CELL_COLUMNS, is_baseline
from analysis.statistics import bootstrap_interval, quantile

SEVERITY_WEIGHT = 2 / 3
"""Each severity counts this share of the one before, as in ROOD-MRI: mild degradation is what clinics see most."""


def aggregated_dice(rows: pd.DataFrame) -> pd.DataFrame:
    """Pool all cases before taking Dice, per structure (HECKTOR's DSCagg, whose ranking takes the mean of both).

    2 Σ|P∩Y| / Σ(|P| + |Y|) with volumes in mm³ over all cases: a false positive counts in proportion to its volume,
    and a case without the structure need not be left out.

    Parameters
    ----------
    rows
        Rows of a run.

    Returns
    -------
    DataFrame
        One row per variant and structure, ``n`` cases each; ``aggregated_dice`` is NaN where all masks are empty.

    References
    ----------
    Andrearczyk et al. (2022), overview of the HECKTOR challenge at MICCAI 2022.
    """
    voxels = 2 * rows["tp"] + rows["fp"] + rows["fn"]
    volume = rows["reference_mm3"] + rows["predicted_mm3"]
    # Cases may have different voxels: their own size turns counts into mm³.
    voxel_mm3 = (volume / voxels.where(voxels > 0)).fillna(0.0)
    pooled = rows.assign(overlap=2 * rows["tp"] * voxel_mm3, volume=volume)
    table = pooled.groupby(CELL_COLUMNS, sort=False, dropna=False).agg(
        n=("case", "size"), overlap=("overlap", "sum"), volume=("volume", "sum")
    )
    table["aggregated_dice"] = table["overlap"] / table["volume"].where(table["volume"] > 0)
    return table.drop(columns=["overlap", "volume"]).reset_index()


def stability_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare every perturbed mask with the model's own unperturbed one, whatever the reference says.

    Parameters
    ----------
    rows
        Rows of a run.

    Returns
    -------
    DataFrame
        One row per cell: Dice of the two masks over ``n`` cases (``median``, ``q1``, ``q3``, ``lowest``), and the
        number of cases in which it is exactly 1 (``unchanged``; both empty included).
    """
    perturbed = rows[~is_baseline(rows)]
    records = []
    for key, of_cell in perturbed.groupby(CELL_COLUMNS, sort=False):
        dice = of_cell["dice_to_baseline_prediction"].to_numpy(dtype=float)
        figures = {"median": quantile(dice, 0.5), "q1": quantile(dice, 0.25), "q3": quantile(dice, 0.75)}
        figures |= {"n": len(dice), "lowest": quantile(dice, 0.0), "unchanged": int((dice == 1).sum())}
        records.append(dict(zip(CELL_COLUMNS, key, strict=True)) | figures)
    return pd.DataFrame.from_records(records, columns=[*CELL_COLUMNS, "n", "median", "q1", "q3", "lowest", "unchanged"])


def degradation_scores(pairs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Condense ΔDice into one figure per perturbation and one per modality and structure (ROOD-MRI).

    Per perturbation Σ w^s d_s / Σ w^s over its severities s with w = 2/3 and d_s the mean ΔDice; the score of a
    modality and structure is the mean of its perturbations.

    Parameters
    ----------
    pairs
        From :func:`analysis.pairing.paired`. Cases without a reference, or lacking a variant, are left out.
    seed
        Seed of the bootstrap over cases.

    Returns
    -------
    DataFrame
        One row per modality, structure and perturbation (``all``: their mean) with ``n`` cases, ``degradation``
        (positive = harm) and its 95 % interval ``low`` to ``high``. NaN where a severity of the perturbation has no
        ΔDice at all: without its worst level, a score would look better.

    References
    ----------
    Boone et al. (2023), ROOD-MRI: benchmarking the robustness of deep learning segmentation models, NeuroImage 278.
    """
    population = pairs[pairs["reference_present"]]
    grid = pairs[["perturbation", "severity"]].drop_duplicates()
    records = []
    for (modality, structure), of_pair in population.groupby(["modality", "structure"], sort=False):
        by_case = _case_scores(of_pair, grid)
        for perturbation, scores in [*by_case.items(), ("all", by_case.mean(axis=1, skipna=False))]:
            values = scores.to_numpy(dtype=float)
            interval = bootstrap_interval(values, "mean", seed=seed)
            names = {"modality": modality, "structure": structure, "perturbation": perturbation}
            figures = {"n": len(values), "degradation": scores.mean(), "low": interval.low, "high": interval.high}
            records.append(names | figures)
    columns = ["modality", "structure", "perturbation", "n", "degradation", "low", "high"]
    return pd.DataFrame.from_records(records, columns=columns)


def _case_scores(of_pair: pd.DataFrame, grid: pd.DataFrame) -> pd.DataFrame:
    """Weighted mean over severities: a row per case that has every measured variant, a column per perturbation."""
    columns = pd.MultiIndex.from_frame(grid)
    variants = of_pair.pivot_table(values="delta_dice", index="case", columns=["perturbation", "severity"])
    complete = variants.dropna().reindex(columns=columns)
    weights = pd.Series([SEVERITY_WEIGHT ** int(severity) for _, severity in columns], columns)
    scores = {
        name: (complete[name] * weights[name]).sum(axis=1, skipna=False) / weights[name].sum()
        for name in dict.fromkeys(grid["perturbation"])
    }
    return pd.DataFrame(scores)
