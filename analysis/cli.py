"""Command line of the analysis: ``nnUNetv2_robustness_report``.

Help and wrong options are answered at once: what takes seconds to import is imported by the command that needs it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TypeAlias

from rich.console import Console

from analysis.errors import AnalysisError
from analysis.grading.commands import add_grading
from analysis.progress import step_progress
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.paths import utf8_path

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, call, print; bad input ends with one message and exit status 2, Ctrl-C with 130."""
    options = _parser().parse_args(arguments)
    try:
        options.call(options)
    except (AnalysisError, BenchmarkError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(getattr(options, "error_status", 2)) from None
    except KeyboardInterrupt:
        # The status of a program that was ended by SIGINT.
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_robustness_report",
        description="Turn the measured rows of a robustness run into a verdict, tables and figures.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_replicate(commands)
    _add_compare(commands)
    add_grading(commands)
    return parser


def _add_run(commands: Commands) -> None:
    run = commands.add_parser(
        "run",
        help="report of one run",
        description=(
            "Write RUN/report: report.html (one self-contained page: is it safe, the results, methods and "
            "exclusions), summary.md, tables/*.csv, figures/*.svg and *.png. Exit status 0 once the report is "
            "written, whatever the verdict; 2 for input that cannot be used."
        ),
    )
    run.add_argument("run", type=utf8_path, metavar="RUN", help="run folder made by nnUNetv2_robustness_run or pytest")
    run.add_argument(
        "--limits",
        type=utf8_path,
        metavar="FILE",
        help="TOML file of limits (default: the study's, median ΔDice < 0.05 for blur, ghosting and motion)",
    )
    run.add_argument(
        "--model",
        type=utf8_path,
        metavar="MODEL",
        default=os.environ.get("ROBUSTNESS_MODEL"),
        help="the measured model folder: draws the worst cells (default: ROBUSTNESS_MODEL; a model folder is code, so "
        "none is loaded unasked)",
    )
    run.add_argument(
        "--clinical", type=utf8_path, metavar="CSV", help="a row per patient, e.g. HECKTOR's: adds the cohort"
    )
    run.add_argument(
        "--images", type=utf8_path, metavar="DIR", help="where the run's images are now (default: as recorded)"
    )
    run.add_argument(
        "--labels", type=utf8_path, metavar="DIR", help="where its references are now (default: as recorded)"
    )
    run.set_defaults(call=_run)


def _add_replicate(commands: Commands) -> None:
    replicate = commands.add_parser(
        "replicate",
        help="the study's published figures, recomputed",
        description=(
            "Recompute the figures of the study from its authors' per-case tables and write claims.json, claims.csv, "
            "replication.html (one self-contained page) and tables/*.csv. Exit status 0 once they are written, "
            "whatever holds; 2 for tables that cannot be used."
        ),
    )
    replicate.add_argument(
        "folder", type=utf8_path, metavar="FOLDER", help="the authors' tables: holds Baseline, CT and PET"
    )
    replicate.add_argument(
        "-o",
        "--output",
        type=utf8_path,
        metavar="OUT",
        required=True,
        help="folder to write to; made if it is not there",
    )
    replicate.set_defaults(call=_replicate)


def _add_compare(commands: Commands) -> None:
    compare = commands.add_parser(
        "compare",
        help="may a candidate replace the model in use?",
        description=(
            "Compare the runs of two models on the same cases and images and write update.html, update.md and "
            "update.json. Exit status 0 once they are written, 4 for input that cannot be used; with --fail 1 on a "
            "regression; with --strict also 2 where these cases cannot tell."
        ),
    )
    compare.add_argument("candidate", type=utf8_path, metavar="CANDIDATE", help="run folder of the new model")
    compare.add_argument("reference", type=utf8_path, metavar="REFERENCE", help="run folder of the model in use")
    compare.add_argument(
        "-o", "--output", type=utf8_path, metavar="OUT", help="folder to write to (default: CANDIDATE/update)"
    )
    compare.add_argument(
        "--limits", type=utf8_path, metavar="FILE", help="TOML file with a table [margins] (default: docs/gate.md's)"
    )
    compare.add_argument("--fail", action="store_true", help="exit with 1 on a regression")
    compare.add_argument("--strict", action="store_true", help="with --fail, exit with 2 where it is inconclusive")
    compare.set_defaults(call=_compare, error_status=4)


def _run(options: argparse.Namespace) -> None:
    from analysis.report import write_report
    from analysis.results import Sources

    sources = Sources(options.images, options.labels, options.clinical, options.model)
    with step_progress(Console(stderr=True)) as progress:
        report = write_report(options.run, options.limits, sources, progress)
    print(f"report: {report.html}")
    print(report.verdict_line)
    print("worst cells:")
    for number, words in enumerate(report.worst_cells, start=1):
        print(f"  {number}. {words}")
    for note in report.notes:
        print(f"note: {note}")


def _compare(options: argparse.Namespace) -> None:
    from analysis.model_update import compare_runs, load_margins
    from nnunet_plugin.benchmark.results import RunFolder

    candidate, reference = RunFolder(options.candidate), RunFolder(options.reference)
    with Console(stderr=True).status("comparing"):
        update = compare_runs(candidate, reference, load_margins(options.limits))
        html, _, _ = update.write(options.output or candidate.path / "update")
    print(f"comparison: {html}")
    print(update.headline)
    for reason in update.decision.reasons:
        print(f"  {reason}")
    statuses = {"pass": 0, "regression": 1, "inconclusive": 2 if options.strict else 0}
    if options.fail and statuses[update.decision.outcome]:
        raise SystemExit(statuses[update.decision.outcome])


def _replicate(options: argparse.Namespace) -> None:
    from analysis.replication.page import write_replication

    replication = write_replication(options.folder, options.output)
    print(f"replication: {replication.html}")
    print(replication.summary_line)
    if replication.missing:
        print(f"missing tables: {replication.missing_words}")
    for claim in replication.claims:
        if claim.verdict == "not_reproduced":
            print(f"  not reproduced: {claim.statement}")
