"""Opening a run of many cases: the run folder's table against parsing every line of its row files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from bench.results import Agreement, Row, Settings
from bench.simulated_rows import measure_opening, write_simulated_run
from bench.timing import interleaved
from nnunet_plugin.benchmark.results import RunFolder

_CASES = {False: 5000, True: 500}
"""By whether it is to be quick."""


def measure(settings: Settings) -> list[Row]:
    """One row; what opening takes after some cases have changed is in its other columns."""
    cases = _CASES[settings.quick]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        settings.show(f"writing {cases} cases")
        write_simulated_run(folder, cases).write_table()
        settings.show("opening them")
        times, ours, theirs = interleaved(lambda: RunFolder(folder).rows(), partial(_parsed, folder), settings.repeats)
        differ = _differing(ours, theirs)
        settings.show("opening them after changes")
        opening = measure_opening(folder)
    agreement = Agreement(f"{differ} of {len(theirs)} rows differ", differ == 0)
    extra = {"cases": cases, "rows": len(theirs), **{f"{name}_s": value for name, value in vars(opening).items()}}
    return [times.row("rows_5000", "json.loads of every line", agreement, **extra)]


def _parsed(folder: Path) -> pd.DataFrame:
    files = sorted((folder / "rows").glob("*.jsonl"))
    # The first line of a file is its header.
    return pd.DataFrame([json.loads(line) for file in files for line in file.read_bytes().splitlines()[1:]])


def _differing(ours: pd.DataFrame, theirs: pd.DataFrame) -> int:
    if len(ours) != len(theirs):
        return max(len(ours), len(theirs))
    columns = [column for column in theirs if column != "crc32"]
    key = ["case", "modality", "perturbation", "severity", "structure"]
    one, other = (frame[columns].sort_values(key, ignore_index=True) for frame in (ours, theirs))
    equal = [(one[name] == other[name]) | (one[name].isna() & other[name].isna()) for name in columns]
    return int((~pd.concat(equal, axis=1).all(axis=1)).sum())
