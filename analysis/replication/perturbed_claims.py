"""The study's statements on the loss under perturbation, judged."""

from __future__ import annotations

import math

import pandas as pd

from analysis.formatting import between, counted, number, share
from analysis.published.layout import MODALITIES, SEVERITIES, STRUCTURES
from analysis.published.study import Study
from analysis.replication.claim import Alternative, Claim, Finding, Published, judge
from analysis.replication.perturbed import cell_table, order_of_harm
from analysis.statistics import Floats
from analysis.statistics.case_bootstrap import estimate_of_draws, mean_of_draws, percentile_interval

_SOURCE = "Schanne et al., robustness to perturbations"
_BOUND = 0.05
_ERASED_MORE_OFTEN = "number of variants in which GTVn is erased more often"
_HARMFUL = ["spike", "bias"]


def perturbed_claims(study: Study, pairs: pd.DataFrame, table: pd.DataFrame) -> list[Claim]:
    """Judge the statements on ΔDice.

    Parameters
    ----------
    study
        The published tables.
    pairs, table
        Rows in pairs and the table of cells, over the authors' rows.
    """
    claims = [_below(study, table, name) for name in ("blur", "ghosting", "motion")]
    return [*claims, _gtvn_above_gtvp(study, table), _most_harmful(study, pairs, table)]


def restating(cells: pd.DataFrame) -> str:
    """Name in a sentence the variants that erase everything; empty where none does."""
    erased = cells[cells["restates_baseline"].astype(bool)]
    names = list(dict.fromkeys(zip(erased["modality"], erased["perturbation"], erased["severity"], strict=True)))
    if not names:
        return ""
    listed = ", ".join(" ".join(map(str, name)) for name in names)
    return f"{listed} erase every structure: ΔDice there is the baseline Dice, and these are no independent findings."


def _below(study: Study, table: pd.DataFrame, perturbation: str) -> Claim:
    of_perturbation = table[table["perturbation"] == perturbation]
    missing = study.missing_variants([perturbation])
    largest = float(of_perturbation["median"].max()) if len(of_perturbation) else None
    above = int((of_perturbation["median"] >= _BOUND).sum())
    words = _in_cells(of_perturbation)
    so_far = f"holds in all {words}" if not above else f"fails in {above} of {words}"
    present = of_perturbation["median_with_reference"].max()
    return judge(
        Published(
            f"delta_dice.{perturbation}.below_0.05", _SOURCE, f"median ΔDice of {perturbation} is below 0.05", "0.05"
        ),
        Finding(
            largest,
            "largest median ΔDice over severities, modalities and structures, all rows; must be below 0.05",
            n=_cases(of_perturbation),
            holds=bool(len(of_perturbation)) and not above,
            alternatives=[Alternative("structures with a reference only", float(present), bool(present < _BOUND))],
            missing=missing,
            refuted=bool(above),
            so_far=so_far if len(of_perturbation) else "",
            note="" if missing or not len(of_perturbation) else f"It {so_far}.",
        ),
    )


def _gtvn_above_gtvp(study: Study, table: pd.DataFrame) -> Claim:
    missing = study.missing_variants()
    wide = table.pivot_table(
        index=["modality", "perturbation", "severity"],
        columns="structure",
        values=["median", "mean", "median_with_reference", "erased", "with_reference"],
        sort=False,
    )
    if wide.empty:
        return judge(_GTVN, Finding(None, _GTVN_METHOD, holds=False, missing=missing))
    total = len(wide)
    higher = {
        name: int((wide[name, "GTVn"] > wide[name, "GTVp"]).sum())
        for name in ("median", "mean", "median_with_reference")
    }
    erasure, note = _erasure(wide)
    readings = {
        "number of variants with a higher mean": higher["mean"],
        "number of variants with a higher median, with a reference only": higher["median_with_reference"],
        _ERASED_MORE_OFTEN: erasure,
    }
    so_far = f"the median is higher in GTVn in {share(higher['median'], total)} variants"
    return judge(
        _GTVN,
        Finding(
            higher["median"],
            _GTVN_METHOD,
            n=_cases(table),
            holds=2 * higher["median"] > total,
            alternatives=[Alternative(name, count, 2 * count > total) for name, count in readings.items()],
            missing=missing,
            # A statement about all variants falls with those that are there.
            refuted=2 * higher["median"] <= total,
            so_far=so_far,
            note=f"The mean is higher in {share(higher['mean'], total)}. {note}",
        ),
    )


def _erasure(wide: pd.DataFrame) -> tuple[int, str]:
    rate = {name: wide["erased", name] / wide["with_reference", name] for name in STRUCTURES}
    more, less = int((rate["GTVn"] > rate["GTVp"]).sum()), int((rate["GTVn"] < rate["GTVp"]).sum())
    every = {name: wide["erased", name].sum() / wide["with_reference", name].sum() for name in STRUCTURES}
    return more, (
        f"Erasure (Dice 0 where there is a reference) is more frequent in GTVn in {share(more, len(wide))} and less in "
        f"{less}: {100 * every['GTVn']:.1f} % of GTVn and {100 * every['GTVp']:.1f} % of GTVp."
    )


_GTVN = Published(
    "delta_dice.gtvn_above_gtvp", _SOURCE, "ΔDice is markedly higher in GTVn than in GTVp (medians)", "markedly higher"
)
_GTVN_METHOD = (
    "number of variants whose median ΔDice over all rows is higher in GTVn than in GTVp; must be more than half"
)


def _most_harmful(study: Study, pairs: pd.DataFrame, table: pd.DataFrame) -> Claim:
    missing = study.missing_variants()
    published = Published(
        "most_harmful", _SOURCE, "spike and bias field are the most harmful perturbations", "spike, bias field"
    )
    method = "perturbations by mean ΔDice over all modalities, severities, structures and rows"
    if pairs.empty:
        return judge(published, Finding(None, method, holds=False, missing=missing))
    order = order_of_harm(pairs)
    mean = pairs.groupby("perturbation")["delta_dice"].mean()
    means = ", ".join(f"{name} {number(float(mean[name]), 3)}" for name in order)
    first = "Spike is first." if order[0] == "spike" else f"{order[0]} is first, not spike."
    return judge(
        published,
        Finding(
            ", ".join(order),
            method,
            n=int(pairs["case"].nunique()),
            holds=order[:2] == _HARMFUL,
            alternatives=_other_orders(pairs),
            missing=missing,
            so_far=f"the order is {', '.join(order)}",
            note=" ".join(["Means:", f"{means}.", first, _noise_and_bias(pairs), restating(table)]).strip(),
        ),
    )


def _other_orders(pairs: pd.DataFrame) -> list[Alternative]:
    parts: dict[str, pd.DataFrame] = {
        **{f"severity {severity} only": pairs[pairs["severity"] == severity] for severity in SEVERITIES},
        **{f"{modality} only": pairs[pairs["modality"] == modality] for modality in MODALITIES},
        **{f"{structure} only": pairs[pairs["structure"] == structure] for structure in STRUCTURES},
        "structures with a reference only": pairs[pairs["reference_present"]],
    }
    orders = {"by median": order_of_harm(pairs, "median")}
    orders |= {f"by mean, {name}": order_of_harm(part) for name, part in parts.items() if len(part)}
    orders["by largest median of a cell"] = _by_cells(pairs)
    return [Alternative(name, ", ".join(order[:2]), order[:2] == _HARMFUL) for name, order in orders.items()]


def _by_cells(pairs: pd.DataFrame) -> list[str]:
    medians = cell_table(pairs).groupby("perturbation")["median"].max()
    return [str(name) for name in medians.sort_values(ascending=False, kind="stable").index]


def _noise_and_bias(pairs: pd.DataFrame) -> str:
    both = pairs[pairs["perturbation"].isin(["noise", "bias"])].reset_index(drop=True)
    if both["perturbation"].nunique() < 2:
        return ""
    delta = both["delta_dice"].to_numpy(dtype=float)
    noise = (both["perturbation"] == "noise").to_numpy()

    def difference(draws: Floats) -> Floats:
        of_noise, of_bias = (mean_of_draws(delta[which], draws[:, which]) for which in (noise, ~noise))
        return of_noise - of_bias

    value = number(float(delta[noise].mean() - delta[~noise].mean()), 3)
    low, high = percentile_interval(estimate_of_draws(difference, list(both["case"])), both["case"].nunique())
    if math.isnan(low):
        return f"Noise minus bias: {value}, without an interval: too few cases or no spread."
    tie = "they tie" if low <= 0 <= high else "they differ"
    return f"Noise minus bias: {value} (95 % interval over cases {between(low, high, 3)}): {tie}."


def _in_cells(table: pd.DataFrame) -> str:
    modalities = " and ".join(str(name) for name in table["modality"].unique())
    return counted(len(table), f"{modalities} cell")


def _cases(table: pd.DataFrame) -> int | None:
    return int(table["n"].max()) if len(table) else None
