"""Command line of the analysis: ``nnUNetv2_robustness_report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.errors import AnalysisError
from analysis.report import write_report
from nnunet_plugin.benchmark.errors import BenchmarkError


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, call, print; bad input ends with one message and exit status 2."""
    options = _parser().parse_args(arguments)
    try:
        options.call(options)
    except (AnalysisError, BenchmarkError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_robustness_report",
        description="Turn the measured rows of a robustness run into a verdict, tables and figures.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="report of one run",
        description=(
            "Write RUN/report: report.html (one self-contained page: is it safe, the results, methods and "
            "exclusions), summary.md, tables/*.csv, figures/*.svg and *.png. Exit status 0 once the report is "
            "written, whatever the verdict; 2 for input that cannot be used."
        ),
    )
    run.add_argument("run", type=Path, metavar="RUN", help="run folder made by nnUNetv2_robustness_run or pytest")
    run.add_argument(
        "--limits",
        type=Path,
        metavar="FILE",
        help="TOML file of limits (default: the study's, median ΔDice < 0.05 for blur, ghosting and motion)",
    )
    run.set_defaults(call=_run)
    return parser


def _run(options: argparse.Namespace) -> None:
    report = write_report(options.run, options.limits)
    print(f"report: {report.html}")
    print(report.verdict_line)
    print("worst cells:")
    for number, words in enumerate(report.worst_cells, start=1):
        print(f"  {number}. {words}")
