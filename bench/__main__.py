"""``python -m bench``: measure, print the ratios, keep them in ``bench/results.json``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.registry import BENCHMARKS, Benchmark, UnknownNameError, selected
from bench.results import RESULTS, ResultsError, Row, Settings, store
from bench.show import listing, progress, table

_WIDTH_OF_FILES = 160


def main(
    argv: Sequence[str] | None = None, benchmarks: Sequence[Benchmark] = BENCHMARKS, results: Path = RESULTS
) -> int:
    """Run benchmarks; returns 1 where results of both sides differ, 2 where nothing could be measured, else 0."""
    arguments = _parser().parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)
    if arguments.list:
        console.print(listing(benchmarks))
        return 0
    try:
        wanted = selected(arguments.only, benchmarks)
        rows = _run(wanted, benchmarks, results, console, quick=arguments.quick)
    except (UnknownNameError, ResultsError) as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"bench: stopped; what was measured before is in {results}", file=sys.stderr)
        return 130
    console.print(table(rows))
    if arguments.quick:
        console.print("Small volumes and few repeats: these ratios say that it runs, not how fast it is.")
    console.print(f"Wrote {results}", highlight=False)
    return int(any(row.agreement and not row.agreement.holds for row in rows))


def _run(
    wanted: Sequence[Benchmark], all_: Sequence[Benchmark], results: Path, console: Console, *, quick: bool
) -> list[Row]:
    from bench.machine import describe_machine

    machine = describe_machine()
    known = [name for benchmark in all_ for name in benchmark.targets]
    console.print(", ".join(f"{key} {value}" for key, value in machine.items() if value and key != "versions"))
    console.print(", ".join(f"{name} {version}" for name, version in machine["versions"].items()))
    rows: list[Row] = []
    for benchmark in wanted:
        with progress(console, benchmark.name) as show:
            rows += benchmark.run(Settings(quick=quick, show=show))
        # After each, so that Ctrl-C in a long one loses nothing.
        dropped = store(rows, machine, known, results, quick=quick)
        if dropped:
            console.print(f"Dropped from {results}, measured on another machine: {', '.join(dropped)}")
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Time what this software does against what users have today, in turns, and compare the results. "
        "A missed target is only reported; results that differ make the exit status 1.",
    )
    add = parser.add_argument
    add("--only", nargs="+", default=[], metavar="NAME", help="benchmarks or rows to measure; see --list")
    add("--quick", action="store_true", help="small volumes, few repeats: under two minutes")
    add("--list", action="store_true", help="name the benchmarks and their targets")
    return parser


if __name__ == "__main__":
    sys.exit(main())
