"""The study's statements on what kind of lesion loses most, judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.formatting import number
from analysis.pairing import CellKey
from analysis.published.layout import DESCRIPTORS
from analysis.published.study import Study
from analysis.replication.claim import Claim, Finding, Published, alternatives_for, judge
from analysis.replication.rounding import is_within, tolerance_of

_SOURCE = "Schanne et al., correlation of descriptors with ΔDice"
_SIZE = ("volume_mm3", "surface_mm2", "boundary_length_mm")
_SHAPE = ("mask_entropy", "compactness")
_CONTRAST = ("PET_contrast",)


@dataclass(frozen=True)
class _Selection:
    """Some descriptors under some perturbations."""

    descriptors: Collection[str]
    perturbations: Collection[str]

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        chosen = table["descriptor"].isin(list(self.descriptors))
        return table[chosen & table["perturbation"].isin(list(self.perturbations))]

    def strongest(self, table: pd.DataFrame) -> dict[str, Any] | None:
        """Row with the largest correlation in either direction."""
        ranked = self.of(table).assign(size=lambda rows: rows["r"].abs()).dropna(subset="r")
        ranked = ranked.sort_values("size", ascending=False, kind="stable")
        return {str(k): v for k, v in ranked.iloc[0].items()} if len(ranked) else None

    def largest(self, table: pd.DataFrame) -> float:
        return float(self.of(table)["r"].abs().max())


def correlation_claims(study: Study, correlations: pd.DataFrame) -> list[Claim]:
    """Judge the statements on descriptors.

    Parameters
    ----------
    study
        The published tables.
    correlations
        From :func:`analysis.correlations.correlation_table`, with Pearson's test.
    """
    ranks = correlations.assign(r=correlations["rho"])
    return [
        _size(study, correlations, ranks),
        _shape(study, correlations, ranks),
        _contrast(study, correlations, ranks),
        _sign(study, correlations),
        _ghosting(study, correlations),
    ]


def _size(study: Study, table: pd.DataFrame, ranks: pd.DataFrame) -> Claim:
    selection = _Selection(_SIZE, ("spike", "noise"))
    contrast = _Selection(_CONTRAST, ("spike",))
    best = contrast.strongest(table)
    note = f"PET contrast under spike: {_described(best)}; the paper prints p < 2e-6." if best else ""
    return _maximum(
        Published(
            "pearson.size_spike_noise.max",
            _SOURCE,
            "volume, surface and boundary length correlate with ΔDice under spike and noise, |r| up to 0.62, p < 2e-6",
            "0.62",
        ),
        study,
        table,
        selection,
        {
            **_by_perturbation(selection, table),
            "Spearman instead of Pearson": selection.largest(ranks),
            "PET contrast under spike": contrast.largest(table),
        },
        note,
    )


def _shape(study: Study, table: pd.DataFrame, ranks: pd.DataFrame) -> Claim:
    selection = _Selection(_SHAPE, ("spike", "noise"))
    return _maximum(
        Published(
            "pearson.entropy_compactness.max",
            _SOURCE,
            "entropy and compactness correlate with ΔDice under spike and noise, |r| up to 0.39",
            "0.39",
        ),
        study,
        table,
        selection,
        {
            **_by_perturbation(selection, table),
            "entropy only": _Selection(("mask_entropy",), selection.perturbations).largest(table),
            "compactness only": _Selection(("compactness",), selection.perturbations).largest(table),
            "Spearman instead of Pearson": selection.largest(ranks),
        },
    )


def _contrast(study: Study, table: pd.DataFrame, ranks: pd.DataFrame) -> Claim:
    selection = _Selection(_CONTRAST, ("blur", "motion"))
    return _maximum(
        Published(
            "pearson.pet_contrast_blur_motion.max",
            _SOURCE,
            "PET contrast correlates with ΔDice under blur and motion, |r| up to 0.31, p = 0.028",
            "0.31",
        ),
        study,
        table,
        selection,
        {**_by_perturbation(selection, table), "Spearman instead of Pearson": selection.largest(ranks)},
    )


def _sign(study: Study, table: pd.DataFrame) -> Claim:
    selection = _Selection(_CONTRAST, ("blur", "motion"))
    best = selection.strongest(table)
    missing = _missing(study, selection.perturbations)
    harm = (
        "A positive coefficient means that structures with more PET contrast lose more, a negative one that it "
        "protects them."
    )
    significant = int(selection.of(table)["significant"].sum())
    after = f"{significant} of {len(selection.of(table))} are significant after Benjamini-Hochberg." if best else ""
    return judge(
        Published(
            "pearson.pet_contrast.sign",
            _SOURCE,
            "PET contrast protects under blur and motion (negative correlation; not significant after correction)",
            "negative",
        ),
        Finding(
            float(best["r"]) if best else None,
            "strongest Pearson correlation of PET contrast with ΔDice under blur and motion, with its sign",
            n=int(best["n"]) if best else None,
            p=float(best["p"]) if best else None,
            holds=bool(best and best["r"] < 0),
            missing=missing,
            so_far=f"the strongest is {'negative' if best['r'] < 0 else 'positive'}" if best else "",
            note=" ".join(part for part in (f"{_described(best)}." if best else "", harm, after) if part),
        ),
    )


def _ghosting(study: Study, table: pd.DataFrame) -> Claim:
    of_ghosting = table[table["perturbation"] == "ghosting"]
    count = int(of_ghosting["significant"].sum())
    smallest = f"The smallest q is {of_ghosting['q'].min():.3g}." if len(of_ghosting) else ""
    return judge(
        Published("pearson.ghosting.none", _SOURCE, "no descriptor correlates with ΔDice under ghosting", "0"),
        Finding(
            count if len(of_ghosting) else None,
            "number of correlations under ghosting with q < 0.05, Benjamini-Hochberg over the whole family of "
            f"{int(table['family'].max()) if len(table) else 0} correlations",
            n=int(of_ghosting["n"].max()) if len(of_ghosting) else None,
            # Every table is part of the family that decides.
            missing=_missing(study),
            so_far=f"{count} of {len(of_ghosting)} are significant" if len(of_ghosting) else "",
            note=smallest,
        ),
    )


def _maximum(
    published: Published,
    study: Study,
    table: pd.DataFrame,
    selection: _Selection,
    readings: Mapping[str, float],
    note: str = "",
) -> Claim:
    best, printed = selection.strongest(table), str(published.printed)
    value = abs(float(best["r"])) if best else None
    fits = value is not None and is_within(value, printed)
    so_far = f"the largest is {value:.3f}, {'as' if fits else 'not as'} printed" if value is not None else ""
    described = f"Strongest: {_described(best)}.{_restated(best)}" if best else ""
    return judge(
        published,
        Finding(
            value,
            f"largest |Pearson r| of {', '.join(DESCRIPTORS[name] for name in selection.descriptors)} with ΔDice under "
            f"{' and '.join(selection.perturbations)}, structures with a reference",
            n=int(best["n"]) if best else None,
            p=float(best["p"]) if best else None,
            alternatives=alternatives_for(printed, readings) if best else (),
            missing=_missing(study, selection.perturbations),
            # More tables can only make a maximum larger.
            refuted=value is not None and value > float(printed) + tolerance_of(printed),
            so_far=so_far,
            note=" ".join(part for part in (described, note) if part),
        ),
    )


def _by_perturbation(selection: _Selection, table: pd.DataFrame) -> dict[str, float]:
    return {
        f"{name} only": _Selection(selection.descriptors, (name,)).largest(table) for name in selection.perturbations
    }


def _missing(study: Study, perturbations: Collection[str] | None = None) -> str:
    variants = study.missing_variants() if perturbations is None else study.missing_variants(perturbations)
    descriptors = "" if len(study.descriptors) else "Baseline/results_add.csv"
    return " and ".join(part for part in (descriptors, variants) if part)


def _described(row: Mapping[str, Any]) -> str:
    key = CellKey(*(row[name] for name in CellKey._fields))
    return (
        f"r = {number(float(row['r']), 3)} ({DESCRIPTORS[row['descriptor']]}, {key.variant}, {key.structure}, "
        f"n = {row['n']}, p = {row['p']:.2g}, q = {row['q']:.2g})"
    )


def _restated(row: Mapping[str, Any]) -> str:
    if not row["restates_baseline"]:
        return ""
    return " That variant erases every structure: it is the correlation with the baseline Dice, no finding of its own."
