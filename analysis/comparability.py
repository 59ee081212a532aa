"""Whether two runs can be compared: the same cases, perturbed in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.errors import AnalysisError
from analysis.formatting import listed
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import read_header

_MUST_BE_EQUAL = {
    "seed": ("seed",),
    "catalogue": ("catalogue", "sha256"),
    "modalities": ("cohort", "modalities"),
    "structures": ("cohort", "structures"),
    "label values": ("cohort", "labels"),
}
_MAY_DIFFER = {
    "step size": ("step_size",),
    "label rule": ("label_rule",),
    "network spacing in mm": ("spacing",),
    "device": ("device",),
    "torch threads": ("torch_threads",),
    "versions": ("versions",),
    "folds": ("model", "folds"),
}


def check_comparable(candidate: RunFolder, reference: RunFolder) -> list[str]:
    """Compare what two runs were measured on.

    Parameters
    ----------
    candidate, reference
        The runs of the two models.

    Returns
    -------
    list of str
        Settings that differ and do not forbid a comparison, in words: they are part of what is compared.

    Raises
    ------
    AnalysisError
        Where cases, their images or labels (by hash), catalogue, seed, modalities or structures differ.
    """
    differences = [
        f"{name}: {_of(candidate, path)!r} here, {_of(reference, path)!r} in the reference"
        for name, path in _MUST_BE_EQUAL.items()
        if _of(candidate, path) != _of(reference, path)
    ]
    differences += _different_cases(candidate, reference)
    if differences:
        raise AnalysisError(
            f"{reference.path} cannot be the reference of {candidate.path}, found:\n"
            + "\n".join(f"  {difference}" for difference in differences)
            + "\nexpected the same cases, catalogue and seed; measure the reference model again with these"
        )
    return [
        f"{name}: {_of(candidate, path)} here, {_of(reference, path)} in the reference"
        for name, path in _MAY_DIFFER.items()
        if _of(candidate, path) != _of(reference, path)
    ]


def _of(run: RunFolder, path: tuple[str, ...]) -> Any:
    value: Any = run.settings
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _different_cases(candidate: RunFolder, reference: RunFolder) -> list[str]:
    here, there = (set(_of(run, ("cohort", "cases")) or ()) for run in (candidate, reference))
    differences = []
    if missing := sorted(there - here):
        differences.append(f"cases: {listed(missing)} only in the reference")
    if more := sorted(here - there):
        differences.append(f"cases: {listed(more)} not in the reference")
    changed = [case for case in sorted(here & there) if _inputs_differ(candidate, reference, case)]
    if changed:
        differences.append(f"images or labels of {listed(changed)} have other hashes")
    return differences


def _inputs_differ(candidate: RunFolder, reference: RunFolder, case: str) -> bool:
    """Whether both runs have measured a case, on different files."""
    headers = [read_header(run.path / "rows" / f"{case}.jsonl") for run in (candidate, reference)]
    first, second = headers
    return first is not None and second is not None and first["sha256"] != second["sha256"]
