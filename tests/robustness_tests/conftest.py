"""A project of its own that runs the gate on the toy model."""

from __future__ import annotations

import pandas as pd
import pytest

NOTHING_FAILS = '[[limit]]\nmedian_delta_dice = 1\nperturbation = "spike"\n'


@pytest.fixture(autouse=True, scope="module")
def parquet_is_imported(tmp_path_factory):
    """pytester forgets what its sessions imported, but pyarrow's types can be registered only once."""
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path_factory.mktemp("once") / "once.parquet")


@pytest.fixture
def configured(toy, pytester, monkeypatch):
    """Arguments that configure the gate for the toy; the run folder is ``run``."""
    for variable in ("MODEL", "IMAGES", "LABELS"):
        monkeypatch.delenv(f"ROBUSTNESS_{variable}", raising=False)
    pytester.makefile(".toml", limits=NOTHING_FAILS)
    return [
        "--pyargs",
        "robustness_tests",
        f"--robustness-model={toy.folder}",
        f"--robustness-images={toy.images}",
        f"--robustness-labels={toy.labels}",
        "--robustness-run=run",
        "--robustness-device=cpu",
        "--robustness-limits=limits.toml",
        "-p",
        "no:cacheprovider",
    ]
