"""The commands below ``nnUNetv2_robustness_report grading``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from analysis.errors import AnalysisError
from analysis.grading.samples import SAMPLES
from analysis.progress import step_progress
from nnunet_plugin.paths import utf8_path

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_grading(commands: Commands) -> None:
    """Add ``grading`` with its own commands."""
    grading = commands.add_parser(
        "grading",
        help="the clinical grading study: choose, grade, analyse",
        description="Let clinicians grade contours blinded, on the study's scale from 1 to 5, and analyse it.",
    )
    steps = grading.add_subparsers(title="steps", required=True, metavar="STEP")
    _add_select(steps)
    _add_serve(steps)
    _add_export(steps)
    _add_import(steps)
    _add_analyse(steps)


def _add_select(steps: Commands) -> None:
    select = steps.add_parser(
        "select",
        help="make a kit of a run: blinded items for raters, and the key",
        description=(
            "Choose unperturbed cases and, for the most harmful perturbations, cases perturbed in each modality; write "
            "what raters see to KIT, and what it is to KEY, which raters must not have."
        ),
    )
    select.add_argument("run", type=utf8_path, metavar="RUN", help="run folder")
    select.add_argument("-o", "--output", type=utf8_path, metavar="KIT", required=True, help="folder to make")
    select.add_argument("--key", type=utf8_path, metavar="KEY", help="folder to make for the key (default: KIT-key)")
    select.add_argument(
        "--model",
        type=utf8_path,
        metavar="MODEL",
        default=os.environ.get("ROBUSTNESS_MODEL"),
        help="the measured model folder, which makes the contours again (default: ROBUSTNESS_MODEL; a model is code, "
        "so none is loaded unasked)",
    )
    numbers = {
        "baseline": (32, "unperturbed cases"),
        "top": (3, "most harmful perturbations"),
        "per": (3, "cases of each of them and each modality"),
        "seed": (0, "of all that is drawn"),
        "raters": (2, "raters"),
        "repeat": (4, "items that every rater sees twice without being told"),
    }
    for name, (default, words) in numbers.items():
        select.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{words} (default: {default})")
    select.add_argument(
        "--sample",
        choices=SAMPLES,
        default="worst",
        help="perturbed cases: those that lose most, as in the study (default), random ones, or one of each part from "
        "least to largest loss",
    )
    select.add_argument(
        "--scale", type=utf8_path, metavar="FILE", help="five lines of text: your wording of the grades 1 to 5"
    )
    select.add_argument("--images", type=utf8_path, metavar="DIR", help="where the run's images are now")
    select.add_argument("--labels", type=utf8_path, metavar="DIR", help="where its references are now")
    select.set_defaults(call=_select)


def _add_serve(steps: Commands) -> None:
    serve = steps.add_parser(
        "serve",
        help="let raters grade in a browser",
        description="Serve the grading page until interrupted. A grade is on disk the moment it is given.",
    )
    serve.add_argument("kit", type=utf8_path, metavar="KIT", help="folder made by select")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    serve.add_argument("--port", type=int, default=8765, help="0: any that is free (default: 8765)")
    serve.set_defaults(call=_serve)


def _add_export(steps: Commands) -> None:
    export = steps.add_parser(
        "export",
        help="write the grades as one CSV file",
        description="Write a line per rater, item and structure; what is not graded yet has an empty grade.",
    )
    export.add_argument("kit", type=utf8_path, metavar="KIT", help="folder made by select")
    export.add_argument("--key", type=utf8_path, metavar="KEY", help="unblind: adds case, variant and metrics")
    export.add_argument("-o", "--output", type=utf8_path, metavar="CSV", required=True, help="file to write")
    export.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    export.set_defaults(call=_export)


def _add_import(steps: Commands) -> None:
    imports = steps.add_parser(
        "import",
        help="store grades from paper or a spreadsheet",
        description="Store the grades of a CSV file with the columns rater, item, structure, grade; all, or none where "
        "one is wrong. A blinded export is such a file: print it, fill in the grades.",
    )
    imports.add_argument("kit", type=utf8_path, metavar="KIT", help="folder made by select")
    imports.add_argument("grades", type=utf8_path, metavar="CSV", help="the grades")
    imports.set_defaults(call=_import)


def _add_analyse(steps: Commands) -> None:
    analyse = steps.add_parser(
        "analyse",
        help="usability, agreement, and what the metrics say of grades",
        description="Write OUT/grading.html (one self-contained page), grading.md, tables/*.csv and figures.",
    )
    analyse.add_argument(
        "grades",
        type=utf8_path,
        nargs="+",
        metavar="GRADES.csv",
        help="from export --key, a table of the same columns, or the study's authors' graded tables",
    )
    analyse.add_argument("-o", "--output", type=utf8_path, metavar="OUT", required=True, help="folder to write to")
    analyse.add_argument(
        "--metrics", type=utf8_path, metavar="FILE", help="more metrics: a run folder, or a table (CSV, parquet)"
    )
    analyse.add_argument(
        "--lower-is-better", nargs="+", default=[], metavar="METRIC", help="metrics of yours that are better when lower"
    )
    analyse.add_argument("--note", default="", help="to stand in titles and captions")
    analyse.set_defaults(call=_analyse)


def _select(options: argparse.Namespace) -> None:
    from analysis.grading.kit import DEFAULT_SCALE
    from analysis.grading.make import KitOptions, make_kit
    from nnunet_plugin.benchmark.results import RunFolder

    if options.model is None:
        raise AnalysisError("--model: name the measured model folder; it makes the contours and perturbed images again")
    chosen = KitOptions(
        **{name: getattr(options, name) for name in ("baseline", "top", "per", "sample", "seed", "raters", "repeat")},
        scale=DEFAULT_SCALE if options.scale is None else _scale(options.scale),
    )
    with step_progress(Console(stderr=True)) as progress:
        made = make_kit(
            RunFolder(options.run),
            Path(options.model),
            options.output,
            options.key,
            chosen,
            images=options.images,
            labels=options.labels,
            progress=progress,
        )
    print(f"kit: {made.kit}")
    print(f"key: {made.key} (keep it from raters; tokens.csv has the token that each signs in with)")
    for sentence in made.sentences:
        print(sentence)


def _scale(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AnalysisError(f"--scale {path}: cannot be read ({error}); expected five lines of text") from error
    return tuple(line.strip() for line in lines if line.strip())


def _serve(options: argparse.Namespace) -> None:
    from analysis.grading.serve import serve

    def say(line: str) -> None:
        print(line, flush=True)

    with step_progress(Console(stderr=True)) as progress:
        serve(options.kit, options.host, options.port, say=say, progress=progress)


def _export(options: argparse.Namespace) -> None:
    from analysis.grading.exchange import export_grades
    from analysis.grading.kit import open_kit

    kit = open_kit(options.kit)
    kit.check()
    exported = export_grades(kit, options.output, options.key, overwrite=options.overwrite)
    print(f"grades: {options.output}")
    for gap in exported.gaps:
        print(f"note: {gap}")
    for fault in exported.faults:
        print(f"warning: {fault}")


def _import(options: argparse.Namespace) -> None:
    from analysis.grading.exchange import import_grades
    from analysis.grading.kit import open_kit

    for sentence in import_grades(open_kit(options.kit), options.grades):
        print(sentence)


def _analyse(options: argparse.Namespace) -> None:
    from analysis.grading.kit import refuse_inside_a_kit
    from analysis.grading.page import analyse_grades

    refuse_inside_a_kit(options.output / "grading.html", "-o")
    with Console(stderr=True).status("analysing"):
        report = analyse_grades(
            options.grades,
            options.output,
            metrics=options.metrics,
            lower_is_better=options.lower_is_better,
            note=options.note,
        )
    print(f"grading: {report.html}")
    for line in report.summary_lines:
        print(line)
    for note in report.notes:
        print(f"note: {note}")
