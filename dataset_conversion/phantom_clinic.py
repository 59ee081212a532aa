"""The clinical table of a synthetic cohort, in HECKTOR 2022's columns and codes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

CLINICAL_FILE = "hecktor2022_clinical_info_training.csv"

_CENTRES = ("CHUM", "CHUP", "CHUS", "CHUV", "MDA", "HGJ", "HMR")
"""In the order of HECKTOR's CenterID, from 1."""

_MISSING = "NaN"
_YES_NO = {"Tobacco": (0.6, 0.58), "Alcohol": (0.6, 0.65), "HPV status (0=-, 1=+)": (0.7, 0.35), "Surgery": (0.2, 0.42)}
"""Share of patients with a 1, and share without a value: as common as in HECKTOR's own table."""


def clinical_table(cases: Sequence[str], with_nodes: Sequence[bool], seed: int) -> str:
    """Make up clinical data; no patient is behind it.

    Parameters
    ----------
    cases
        Case names, which begin with the centre.
    with_nodes
        Whether each case has GTVn.
    seed
        A case depends on it and on its own name only.

    Returns
    -------
    str
        CSV text; missing values are the word NaN, as in HECKTOR's file.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _row("CHUM-001", with_node=True, seed=0), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(case, node, seed) for case, node in zip(cases, with_nodes, strict=True))
    return text.getvalue()


def _row(case: str, with_node: bool, seed: int) -> dict[str, object]:
    rng = np.random.default_rng([seed, *case.encode()])
    row: dict[str, object] = {"PatientID": case, "Task 1": 1, "Task 2": int(rng.random() < 0.93)}
    row["CenterID"] = 1 + _CENTRES.index(case.split("-")[0])
    row["Gender"] = "M" if rng.random() < 0.82 else "F"
    row["Age"] = int(np.clip(rng.normal(60, 9), 25, 90))
    row["Weight"] = round(float(np.clip(rng.normal(80, 16), 45, 140)), 1) if rng.random() > 0.02 else _MISSING
    for name, (share, missing) in _YES_NO.items():
        row[name] = int(rng.random() < share) if rng.random() > missing else _MISSING
    row["Performance status"] = int(rng.integers(0, 3)) if rng.random() > 0.5 else _MISSING
    # Nodal disease is what chemotherapy is most often given for.
    row["Chemotherapy"] = int(rng.random() < (0.95 if with_node else 0.6))
    return row
