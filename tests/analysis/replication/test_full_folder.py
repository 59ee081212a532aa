"""All tables there (CT's stand in for PET's): nothing may be missing but what was never published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.replication.page import Replication


@pytest.fixture(scope="module")
def claims(full: Replication, read_claims: Callable[[Path], dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return read_claims(full.html.parent)


def test_nothing_is_missing(full: Replication, claims: dict[str, dict[str, Any]]) -> None:
    assert full.missing == ()
    missing = {name for name, claim in claims.items() if claim["verdict"] == "data_missing"}
    assert missing == {"development.GTVp.median", "development.GTVn.median"}
    assert "Not all tables are there" not in full.html.read_text(encoding="utf-8")


def test_the_family_is_whole(full: Replication) -> None:
    folder = full.html.parent / "tables"
    correlations, cells = pd.read_csv(folder / "correlations.csv"), pd.read_csv(folder / "delta_dice.csv")
    assert (len(correlations), set(correlations["family"])) == (936, {936})
    assert (len(cells), set(cells["family"])) == (72, {72})
    assert set(correlations["modality"]) == {"CT", "PET"}
    assert len(pd.read_csv(folder / "ranking.csv")) == 18
    assert len(pd.read_csv(folder / "grades.csv")) == 40


def test_claims_are_now_decided(claims: dict[str, dict[str, Any]]) -> None:
    verdicts = {name: claim["verdict"] for name, claim in claims.items()}
    for name in ("blur", "ghosting", "motion"):
        assert verdicts[f"delta_dice.{name}.below_0.05"] == "reproduced"
    assert "holds in all 12 CT and PET cells" in claims["delta_dice.blur.below_0.05"]["note"]
    assert verdicts["pearson.ghosting.none"] == "reproduced"
    assert verdicts["pearson.entropy_compactness.max"] == "reproduced"
    assert verdicts["pearson.size_spike_noise.max"] == "reproduced_by_alternative"
    assert claims["pearson.size_spike_noise.max"]["alternative"] == "PET contrast under spike"
    assert verdicts["pearson.pet_contrast.sign"] == "not_reproduced"
    assert verdicts["pearson.pet_contrast_blur_motion.max"] == "not_reproduced"
    # CT twice: the median is higher in GTVn in 6 of 36 variants, erasure is more frequent in 30.
    assert claims["delta_dice.gtvn_above_gtvp"]["recomputed"] == 6
    assert verdicts["delta_dice.gtvn_above_gtvp"] == "reproduced_by_alternative"
    assert verdicts["most_harmful"] == "reproduced"
    assert claims["usable.perturbed.GTVp"]["n"] == 18
