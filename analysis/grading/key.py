"""The key: what each blinded code is. Whoever grades must not have it.

::

    KEY/key.csv     a line per item and structure: code, repeat, case, variant and its metrics
    KEY/tokens.csv  rater, token; readable by its owner only
    KEY/key.toml    which kit it belongs to, and how the cases were chosen
"""

from __future__ import annotations

import hashlib
import io
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w

from analysis.errors import AnalysisError
from analysis.grading.kit import Kit

METRICS = (
    *("dice", "hd95_mm", "hd_mm", "surface_dice_2mm", "sensitivity", "specificity", "accuracy"),
    *("fold_agreement", "max_probability"),
)
"""Columns of a run's rows that are set beside the grades."""

IDENTITY = ("item", "repeat", "case", "modality", "perturbation", "severity", "structure", "sample", "synthetic")
"""Columns that say what was graded. ``repeat`` is 1 for the second showing of the same contours."""


def write_key(folder: Path, table: pd.DataFrame, tokens: Mapping[str, str], facts: Mapping[str, Any]) -> None:
    """Write a key into a folder that is not there yet.

    Parameters
    ----------
    folder
        Where to.
    table
        With the columns ``IDENTITY`` and ``METRICS``.
    tokens
        By rater.
    facts
        For ``key.toml``: ``kit_sha256`` and what else there is to say.
    """
    folder.mkdir(parents=True)
    table.to_csv(folder / "key.csv", index=False)
    file = folder / "tokens.csv"
    file.touch(mode=0o600)
    pd.DataFrame(tokens.items(), columns=["rater", "token"]).to_csv(file, index=False)
    sha256 = hashlib.sha256((folder / "key.csv").read_bytes()).hexdigest()
    (folder / "key.toml").write_bytes(tomli_w.dumps({**facts, "key_sha256": sha256}).encode())


def read_key(folder: Path, kit: Kit) -> pd.DataFrame:
    """Read what the items of a kit are.

    Returns
    -------
    DataFrame
        The table that was given to :func:`write_key`.

    Raises
    ------
    AnalysisError
        Where it cannot be read, is the key of another kit, or does not list the kit's items.
    """
    try:
        facts = tomllib.loads((folder / "key.toml").read_text(encoding="utf-8"))
        content = (folder / "key.csv").read_bytes()
        texts = {"item": str, "case": str}
        table = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""], dtype=texts)
    except (OSError, ValueError) as error:  # TOML, CSV and UTF-8 errors are ValueErrors
        raise AnalysisError(
            f"{folder}: is no key that can be read ({error}); name the folder that select wrote beside the kit, "
            f"{kit.path.name}-key unless it was told otherwise"
        ) from error
    if facts.get("kit_sha256") != kit.sha256:
        raise AnalysisError(
            f"{folder}: is not the key of {kit.path}, or the kit was changed since; name the key that was made with it"
        )
    if facts.get("key_sha256") != hashlib.sha256(content).hexdigest():
        raise AnalysisError(f"{folder / 'key.csv'}: was changed since it was made; restore it")
    expected = {(code, structure) for code in kit.items for structure in kit.structures}
    found = [name for name in (*IDENTITY, *METRICS) if name in table]
    if found != [*IDENTITY, *METRICS] or set(zip(table["item"], table["structure"], strict=True)) != expected:
        raise AnalysisError(f"{folder / 'key.csv'}: does not list the items of {kit.path}; restore it")
    return table
