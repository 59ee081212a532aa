"""Which segmentations of a run are graded: unperturbed ones, and perturbed ones of what harms most."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.grading.samples import Sample
from analysis.pairing import BASELINE, cells, is_baseline, paired
from analysis.statistics import DECIMALS


@dataclass(frozen=True)
class Chosen:
    """A segmentation that is graded; ``modality`` is None for the unperturbed one of a case."""

    case: str
    modality: str | None
    perturbation: str
    severity: int


@dataclass(frozen=True)
class Selection:
    """What was chosen, and why.

    Attributes
    ----------
    chosen
        Unperturbed segmentations first.
    harm
        ``perturbation`` and ``mean_delta_dice`` over its cells, most harmful first.
    notes
        Where there was less to choose from than was asked for.
    """

    chosen: tuple[Chosen, ...]
    harm: pd.DataFrame
    notes: tuple[str, ...]


def select(rows: pd.DataFrame, *, baseline: int, top: int, per: int, sample: Sample, seed: int) -> Selection:
    """Choose what is graded, by the study's protocol.

    Unperturbed cases are drawn at random. Perturbations are ranked by the mean of their cells' mean ΔDice (cases whose
    reference has the structure). For each of the ``top`` perturbations and each modality, ``per`` different cases are
    taken at one severity each; what counts is their ΔDice, averaged over structures.

    Parameters
    ----------
    rows
        Rows of a run.
    baseline
        Number of unperturbed cases; all of them where there are fewer.
    top
        Number of perturbations.
    per
        Number of cases of each perturbation and modality.
    sample
        ``worst``: those that lose most; ``random``; ``stratified``: one from each of ``per`` parts of equally many.
    seed
        The same rows and seed give the same choice.

    Raises
    ------
    AnalysisError
        Where nothing would be chosen.
    """
    draw = random.Random(seed)  # noqa: S311
    unperturbed = sorted(rows.loc[is_baseline(rows), "case"].unique())
    notes = []
    if len(unperturbed) < baseline:
        notes.append(f"{baseline} unperturbed cases were asked for, the run has {len(unperturbed)}: all are taken")
    chosen = [Chosen(case, None, BASELINE, 0) for case in draw.sample(unperturbed, min(baseline, len(unperturbed)))]
    pairs = paired(rows)
    pairs = pairs[pairs["reference_present"]].dropna(subset="delta_dice")
    harm = _harm(pairs)
    if len(harm) < top:
        notes.append(f"{top} perturbations were asked for, the run has {len(harm)}: all are taken")
    for name in harm["perturbation"].head(top):
        for modality in sorted(pairs["modality"].unique()):
            of_both = pairs[(pairs["perturbation"] == name) & (pairs["modality"] == modality)]
            found = _cases(of_both, per, sample, draw)
            if len(found) < per:
                notes.append(f"{modality} {name}: {per} cases were asked for, {len(found)} have a ΔDice")
            chosen += found
    if not chosen:
        raise AnalysisError(
            "nothing is chosen; ask for unperturbed cases (--baseline) or perturbed ones (--top, --per)"
        )
    return Selection(tuple(chosen), harm, tuple(notes))


def _harm(pairs: pd.DataFrame) -> pd.DataFrame:
    means = pd.DataFrame.from_records(
        [(key.perturbation, of_cell["delta_dice"].mean()) for key, of_cell in cells(pairs)],
        columns=["perturbation", "mean_delta_dice"],
    )
    table = means.groupby("perturbation", as_index=False).mean()
    return table.sort_values(["mean_delta_dice", "perturbation"], ascending=[False, True], ignore_index=True)


def _cases(pairs: pd.DataFrame, per: int, sample: Sample, draw: random.Random) -> list[Chosen]:
    keys = ["case", "modality", "perturbation", "severity"]
    # Rounded, so that the order of the rows does not break ties.
    losses = pairs.groupby(keys)["delta_dice"].mean().round(DECIMALS).reset_index()
    losses = losses.sort_values(["delta_dice", "case", "severity"], ascending=[False, True, True])
    candidates = [Chosen(case, modality, name, int(level)) for case, modality, name, level, _ in losses.to_numpy()]
    orders = {"worst": _in_order, "random": _shuffled, "stratified": _by_part}
    found: dict[str, Chosen] = {}
    for candidate in orders[sample](candidates, per, draw):
        if len(found) < per:
            found.setdefault(candidate.case, candidate)
    return list(found.values())


def _in_order(candidates: Sequence[Chosen], _per: int, _draw: random.Random) -> Iterator[Chosen]:
    yield from candidates


def _shuffled(candidates: Sequence[Chosen], _per: int, draw: random.Random) -> Iterator[Chosen]:
    yield from draw.sample(candidates, len(candidates))


def _by_part(candidates: Sequence[Chosen], per: int, draw: random.Random) -> Iterator[Chosen]:
    """One of each part in turn; a part whose cases are all taken is made up for by the others."""
    parts = [
        draw.sample([candidates[i] for i in part], len(part)) for part in np.array_split(range(len(candidates)), per)
    ]
    taken: set[str] = set()
    while any(parts):
        for part in parts:
            fresh = next((index for index, candidate in enumerate(part) if candidate.case not in taken), None)
            if fresh is None:
                part.clear()
            else:
                taken.add(part[fresh].case)
                yield part.pop(fresh)
