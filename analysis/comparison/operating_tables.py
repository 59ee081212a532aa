"""The measured figures of ``docs/gate.md``: ``python -m analysis.comparison.operating_tables``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.comparison.cases import CaseTable, case_table
from analysis.comparison.differences import compare_rows
from analysis.comparison.operating import OperatingFigures, simulate
from analysis.pairing import is_baseline
from analysis.published.study import read_study

NULL_RUNS = 2000
RUNS = 1000

_NEIGHBOUR = {1: 2, 2: 3, 3: 2}
_ARRAYS = ("clean", "perturbed", "lesions", "of_cells")
_CATASTROPHE = 0.8


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="folder of the authors' per-case tables")
    parser.add_argument("phantom", type=Path, help="metrics.parquet of the demo's run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rows = read_study(options.study).rows
    alike = stand_in(rows, "ghosting", 2)
    sources = {"alike": alike, "unlike": stand_in(rows, "noise", 1)}
    sources["phantom"] = stand_in(pd.read_parquet(options.phantom), "ghosting", 2)
    for lines in (
        _spreads(sources),
        _false_alarms(sources, options.seed),
        _false_passes(sources, options.seed),
        _power(sources, options.seed),
        _catastrophes(alike, options.seed),
    ):
        for line in lines:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        sys.stdout.write("\n")


def stand_in(rows: pd.DataFrame, perturbation: str, severity: int) -> CaseTable:
    """Make a second model out of one: its answer to an image is that of the model to a slightly different image.

    Parameters
    ----------
    rows
        Of one run.
    perturbation, severity
        The CT variant that stands in for the unperturbed image. Every other variant is stood in for by the next
        severity of the same perturbation, the last by the one before it.
    """
    chosen = (rows["modality"] == "CT") & (rows["perturbation"] == perturbation) & (rows["severity"] == severity)
    original = rows.loc[is_baseline(rows), ["modality", "perturbation", "severity"]].iloc[0]
    clean = rows[chosen].assign(**original)
    perturbed = rows[~is_baseline(rows)]
    perturbed = [perturbed[perturbed["severity"] == other].assign(severity=own) for own, other in _NEIGHBOUR.items()]
    return case_table(compare_rows(pd.concat([clean, *perturbed], ignore_index=True), rows))


def centred(table: CaseTable) -> CaseTable:
    """Shift every column to a mean of zero: no harm on average, and as skewed as the real differences are."""
    shifted = {name: getattr(table, name) - np.nanmean(getattr(table, name), axis=0) for name in _ARRAYS}
    found = {f"candidate_{block}": getattr(table, f"reference_{block}") for block in ("clean", "perturbed")}
    return replace(table, **shifted, **found)


def zero_inflated(table: CaseTable, copies: int = 5) -> CaseTable:
    """Let all but one of several copies of the cases be without any difference."""
    return _with_differences(table, copies, np.arange(copies * len(table.cases)) < len(table.cases), None)


def catastrophic(table: CaseTable, per_mille: int) -> CaseTable:
    """Let a share of the cases lose all lesions and 0.8 Dice everywhere, and the others nothing."""
    copies = 20
    affected = np.arange(copies * len(table.cases)) < round(copies * len(table.cases) * per_mille / 1000)
    return _with_differences(table, copies, affected, _CATASTROPHE)


def duplicated(table: CaseTable, copies: int = 3) -> CaseTable:
    """Have every cell several times."""
    return replace(table, cells=table.cells * copies, of_cells=np.tile(table.of_cells, (1, copies)))


def _with_differences(table: CaseTable, copies: int, which: np.ndarray, constant: float | None) -> CaseTable:
    """Repeat the cases, and leave differences only in some: as they are, or a constant loss of everything."""
    many = table.drawn(np.tile(np.arange(len(table.cases)), copies))
    values = {name: getattr(many, name) for name in _ARRAYS}
    if constant is not None:
        values = {name: np.where(np.isnan(array), np.nan, constant) for name, array in values.items()}
        values["lesions"] = np.ones(len(which))
    values = {name: (array.T * which).T for name, array in values.items()}
    for block in ("clean", "perturbed"):
        found, other = getattr(many, f"reference_{block}"), getattr(many, f"candidate_{block}")
        changed = other if constant is None else np.zeros_like(found)
        values[f"candidate_{block}"] = np.where(which[:, np.newaxis], changed, found)
    return replace(many, **values)


def _spreads(sources: dict[str, CaseTable]) -> Iterator[str]:
    yield "| source | cases | cells | SD of a case's d, clean | perturbed | zero d in cells |"
    yield "|---|---|---|---|---|---|"
    for name, table in sources.items():
        cells = table.of_cells[~np.isnan(table.of_cells)]
        yield (
            f"| {name} | {len(table.cases)} | {len(table.cells)} | {np.nanstd(table.clean, ddof=1):.3f} | "
            f"{np.nanstd(table.perturbed, ddof=1):.3f} | {100 * np.mean(cells == 0):.0f} % |"
        )


def _false_alarms(sources: dict[str, CaseTable], seed: int) -> Iterator[str]:
    yield "| no change | cases | anything significant | regression | pass |"
    yield "|---|---|---|---|---|"
    scenarios = [(name, table, n, True) for name, table in sources.items() for n in (30, 50, 100)]
    alike = sources["alike"]
    scenarios += [(f"{name}, centred and skewed", centred(sources[name]), 50, False) for name in ("alike", "unlike")]
    scenarios += [("unlike, 80 % of cases unchanged", zero_inflated(sources["unlike"]), 50, True)]
    scenarios += [("catastrophes on either side, 8 %", catastrophic(alike, 80), 50, True)]
    scenarios += [("unlike, every cell three times", duplicated(sources["unlike"]), 50, True)]
    for name, table, n, exchange in scenarios:
        found = simulate(table, cases=n, exchange=exchange, runs=NULL_RUNS, seed=seed)
        yield f"| {name} | {n} | {_rates(found, found.significant, found.regressions, found.passes)} |"


def _false_passes(sources: dict[str, CaseTable], seed: int) -> Iterator[str]:
    yield "| harm of exactly the margin | cases | mean shown non-inferior | pass |"
    yield "|---|---|---|---|"
    tables = {f"{name}, {shape}": table for name in ("alike", "unlike") for shape, table in _shapes(sources[name])}
    for name, table in tables.items():
        for n in (30, 50, 200):
            for words, clean, perturbed in (("clean 0.02", 0.02, 0.0), ("perturbed 0.03", 0.0, 0.03)):
                found = simulate(
                    table,
                    cases=n,
                    harm_clean=clean,
                    harm_perturbed=perturbed,
                    exchange="symmetric" in name,
                    runs=RUNS,
                    seed=seed,
                )
                shown = found.clean_non_inferior if clean else found.perturbed_non_inferior
                yield f"| {name}, {words} | {n} | {_rates(found, shown, found.passes)} |"


def _shapes(table: CaseTable) -> Iterator[tuple[str, CaseTable]]:
    yield "symmetric", table
    yield "skewed", centred(table)


def _power(sources: dict[str, CaseTable], seed: int) -> Iterator[str]:
    yield "| harm | cases | alike: regression | pass | unlike: regression | pass |"
    yield "|---|---|---|---|---|---|"
    everywhere = [(harm, harm, (20, 50, 100)) for harm in (-0.02, 0.0, 0.03, 0.05)]
    clean_only = [(harm, 0.0, (50, 100, 200)) for harm in (0.03, 0.05, 0.10)]
    for clean, perturbed, sizes in everywhere + clean_only:
        words = f"{clean:+.2f} {'everywhere' if clean == perturbed else 'clean only'}"
        for n in sizes:
            cells = []
            for name in ("alike", "unlike"):
                found = simulate(
                    sources[name], cases=n, harm_clean=clean, harm_perturbed=perturbed, runs=RUNS, seed=seed
                )
                cells += [f"{100 * found.regressions / RUNS:.1f} %", f"{100 * found.passes / RUNS:.1f} %"]
            yield f"| {words} | {n} | {' | '.join(cells)} |"


def _catastrophes(table: CaseTable, seed: int) -> Iterator[str]:
    yield "| share of cases that lose 0.8 and every lesion | mean harm | cases | regression | pass |"
    yield "|---|---|---|---|---|"
    for per_mille in (25, 80, 150):
        for n in (50, 100, 200):
            found = simulate(catastrophic(table, per_mille), cases=n, exchange=False, runs=RUNS, seed=seed)
            rates = _rates(found, found.regressions, found.passes)
            yield f"| {per_mille / 10:g} % | {_CATASTROPHE * per_mille / 1000:.3f} | {n} | {rates} |"


def _rates(figures: OperatingFigures, *counts: int) -> str:
    texts = []
    for count in counts:
        share, low, high = (100 * value for value in figures.rate(count))
        texts.append(f"{share:.1f} % ({low:.1f} to {high:.1f})")
    return " | ".join(texts)


if __name__ == "__main__":
    main()
