"""Aggregated Dice against the hand-derived HECKTOR example; stability and degradation by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.pairing import paired
from analysis.scores import aggregated_dice, degradation_scores, stability_table

MakeRow = Callable[..., dict[str, Any]]
BASE = (None, "baseline", 0)


def test_aggregated_dice_agrees_with_hecktors_formula(oracles: Path) -> None:
    cases = json.loads((oracles / "segmentation_metrics.json").read_text())["cases"]
    (oracle,) = (case for case in cases if case["id"] == "hecktor_dscagg_formula")
    rows = []
    for number, case in enumerate(oracle["input"]["cases"]):
        for structure, tp, reference, predicted in zip(
            ("GTVp", "GTVn"), case["tp"], case["gt"], case["pred"], strict=True
        ):
            volumes = {"reference_mm3": reference * case["voxvol"], "predicted_mm3": predicted * case["voxvol"]}
            counts = {"tp": tp, "fp": predicted - tp, "fn": reference - tp}
            key = {"case": str(number), "modality": None, "perturbation": "baseline", "severity": 0}
            rows.append(key | {"structure": structure} | volumes | counts)
    table = aggregated_dice(pd.DataFrame(rows)).set_index("structure")["aggregated_dice"]
    for structure in ("GTVp", "GTVn"):
        assert table[structure] == pytest.approx(oracle["expected"][structure])


def test_aggregated_dice_of_empty_masks_is_undefined(make_row: MakeRow) -> None:
    rows = pd.DataFrame([make_row(case, BASE, "GTVp", 1.0, 0, 0) for case in "ab"])
    (found,) = aggregated_dice(rows).to_dict("records")
    assert found["n"] == 2
    assert math.isnan(found["aggregated_dice"])


def test_a_false_positive_lowers_aggregated_dice_in_proportion(make_row: MakeRow) -> None:
    rows = pd.DataFrame([make_row("a", BASE, "GTVp", 0.8, 100, 100), make_row("b", BASE, "GTVp", 0.0, 0, 50)])
    (found,) = aggregated_dice(rows).to_dict("records")
    assert found["aggregated_dice"] == pytest.approx(2 * 80 / (200 + 50))


def test_stability_by_hand(make_row: MakeRow) -> None:
    to_baseline = {"a": 1.0, "b": 0.9, "c": 0.5, "d": 0.0}
    rows = [make_row(case, BASE, "GTVp", 0.8) for case in to_baseline]
    rows += [
        make_row(c, ("CT", "blur", 1), "GTVp", 0.7) | {"dice_to_baseline_prediction": d} for c, d in to_baseline.items()
    ]
    (found,) = stability_table(pd.DataFrame(rows)).to_dict("records")
    assert (found["n"], found["unchanged"], found["lowest"]) == (4, 1, 0)
    assert (found["median"], found["q1"], found["q3"]) == pytest.approx((0.7, 0.375, 0.925))


def test_degradation_by_hand(make_row: MakeRow) -> None:
    dice = {
        BASE: (0.8, 0.6),
        ("CT", "spike", 1): (0.7, 0.6),
        ("CT", "spike", 2): (0.4, 0.4),
        ("CT", "blur", 1): (0.8, 0.5),
    }
    rows = [make_row(c, v, "GTVp", d) for v, values in dice.items() for c, d in zip("ab", values, strict=True)]
    rows += [make_row("absent", v, "GTVp", 0.0, 0, 9) for v in dice]
    scores = degradation_scores(paired(pd.DataFrame(rows))).set_index("perturbation")
    # spike: d_1 = 0.05, d_2 = 0.3; blur: d_1 = 0.05
    spike = (2 / 3 * 0.05 + 4 / 9 * 0.3) / (2 / 3 + 4 / 9)
    assert scores["degradation"].to_dict() == pytest.approx({"spike": spike, "blur": 0.05, "all": (spike + 0.05) / 2})
    assert scores["n"].tolist() == [2, 2, 2]


def test_degradation_leaves_out_cases_that_lack_a_variant(make_row: MakeRow) -> None:
    rows = [make_row(c, v, "GTVp", 0.5) for c in "ab" for v in (BASE, ("CT", "spike", 1), ("CT", "spike", 2))]
    scores = degradation_scores(paired(pd.DataFrame(rows[:-1])))
    assert scores["n"].tolist() == [1, 1]


def test_degradation_is_the_weighted_mean_of_mean_losses(rows_of_40: pd.DataFrame) -> None:
    """Against the formula applied to the cells' means, by pandas alone."""
    pairs = paired(rows_of_40)
    present = pairs[pairs["reference_present"]]
    means = present.groupby(["modality", "structure", "perturbation", "severity"])["delta_dice"].mean()
    weights = (2 / 3) ** means.index.get_level_values("severity").to_numpy()
    keys = ["modality", "structure", "perturbation"]
    expected = (means * weights).groupby(keys).sum() / weights[:3].sum()
    found = degradation_scores(pairs).set_index(keys)["degradation"]
    for key, value in expected.items():
        assert found[key] == pytest.approx(value)
    for pair, of_pair in expected.groupby(["modality", "structure"]):
        assert found[(*pair, "all")] == pytest.approx(np.mean(of_pair))
