"""Command line of ``nnUNetv2_robustness_convert``."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dataset_conversion.hecktor import ConversionError, is_utf8
from dataset_conversion.progress import CaseProgress

if TYPE_CHECKING:
    from dataset_conversion.convert import Conversion

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Convert a HECKTOR cohort, or write a synthetic one; return the exit status."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        return _phantom(arguments, console) if arguments.command == "phantom" else _hecktor(arguments, console)
    except (ConversionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return _INTERRUPTED


def _hecktor(arguments: argparse.Namespace, console: Console) -> int:
    # Imported late: pandas and scikit-learn would make --help, and every worker process, slow to start.
    from dataset_conversion.convert import CohortSettings, convert_cohort
    from dataset_conversion.dataset import dataset_folder
    from dataset_conversion.split import AUTHORS_SEED

    raw = os.environ.get("nnUNet_raw")  # noqa: SIM112 (nnU-Net's own spelling)
    folder = dataset_folder(raw, arguments.dataset_id, arguments.name)
    default_seed = AUTHORS_SEED if arguments.split == "authors" else 0
    settings = CohortSettings(
        spacing=arguments.spacing,
        labels=tuple(arguments.labels),
        hold_out=arguments.hold_out,
        folds=arguments.folds,
        split=arguments.split,
        seed=default_seed if arguments.seed is None else arguments.seed,
    )
    with CaseProgress("converting", console) as progress:

        def report(row: dict[str, Any], done: int, total: int) -> None:
            if row["message"]:
                failed = "FAILED: " if row["outcome"] == "failed" else ""
                progress.say(f"{row['case']}: {failed}{row['message']}")
            progress.update(done, total)

        conversion = convert_cohort(arguments.source, folder, settings, jobs=arguments.jobs, on_case=report)
    return _summarise(conversion)


def _summarise(conversion: Conversion) -> int:
    split, failed = conversion.split, [row["case"] for row in conversion.failed]
    for note in conversion.notes:
        print(f"note: {note}", file=sys.stderr)
    print(
        f"{conversion.folder}: {len(split.development)} development cases in {len(split.folds)} folds, "
        f"{len(split.hold_out)} held out ({conversion.reused} reused); a row per case in conversion.csv there"
    )
    if failed:
        print(
            f"error: {len(failed)} of {len(conversion.rows)} cases could not be converted and are left out: "
            f"{', '.join(failed)}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _phantom(arguments: argparse.Namespace, console: Console) -> int:
    from dataset_conversion.phantom import CohortRecipe, write_cohort

    recipe = CohortRecipe(arguments.cases, arguments.spacing, arguments.seed)
    with CaseProgress("drawing synthetic cases", console) as progress:
        written = write_cohort(arguments.output, recipe, progress.update)
    print(f"{arguments.output}: {recipe.cases} synthetic cases ({written} new); not patients, see NOTE.txt there")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_robustness_convert", description="Turn a PET/CT cohort into an nnU-Net raw dataset."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_hecktor(commands.add_parser("hecktor", help="convert a HECKTOR download (2022, 2025 or 2026 layout)"))
    _add_phantom(commands.add_parser("phantom", help="write a synthetic cohort in the HECKTOR 2022 layout"))
    return parser


def _add_hecktor(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "PET and labels onto the CT, isotropic voxels, a head-centred crop of 200 x 200 x at most 310 mm, "
        "CT clipped to mean ± 3 SD; into $nnUNet_raw. A case that cannot be converted is reported and left "
        "out. The same command goes on after an interruption."
    )
    parser.add_argument("source", type=_path, metavar="SOURCE", help="folder of the download")
    parser.add_argument(
        "-d",
        dest="dataset_id",
        type=_dataset_id,
        required=True,
        metavar="ID",
        help="dataset number, 1 to 999",
    )
    parser.add_argument("--name", type=_name, default="HECKTOR", help="dataset name (default: %(default)s)")
    parser.add_argument("--spacing", type=_millimetres, default=1.0, help="voxel edge in mm (default: %(default)s)")
    parser.add_argument(
        "--hold-out",
        type=_at_least(0),
        default=50,
        help="cases kept for testing (default: %(default)s, as the study)",
    )
    parser.add_argument("--folds", type=_at_least(2), default=5, help="cross-validation folds (default: %(default)s)")
    parser.add_argument(
        "--split",
        choices=("stratified", "authors"),
        default="stratified",
        help="balanced over centres and structures, or the study's own random draw (default: %(default)s)",
    )
    parser.add_argument("--seed", type=_at_least(0), help="seed of the stratified split (default: 0)")
    parser.add_argument(
        "--labels",
        nargs="+",
        type=_name,
        default=["GTVp", "GTVn"],
        metavar="NAME",
        help="structures, in order of their label values 1, 2, ... (default: GTVp GTVn)",
    )
    parser.add_argument(
        "--jobs", type=_at_least(1), default=_cores(), help="processes (default: one per core, %(default)s)"
    )


def _add_phantom(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write made-up head-and-neck PET/CT cases, to try the software with. No patient is in them."
    parser.add_argument("-o", dest="output", type=_path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--cases", type=_at_least(1), default=34, help="number of cases (default: %(default)s)")
    parser.add_argument("--spacing", type=_millimetres, default=4.0, help="CT voxel edge in mm (default: %(default)s)")
    parser.add_argument("--seed", type=_at_least(0), default=0, help="(default: %(default)s)")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _at_least(lowest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d+", text) or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"found {text!r}; expected a whole number of at least {lowest}")
        return int(text)

    return parse


def _dataset_id(text: str) -> int:
    if not re.fullmatch(r"\d{1,3}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a number from 1 to 999")
    return int(text)


def _millimetres(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.25 <= value <= 20:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected millimetres from 0.25 to 20")
    return value


def _path(text: str) -> Path:
    if not is_utf8(text):
        raise argparse.ArgumentTypeError(f"found {text!a}; expected a name in valid UTF-8; rename the folder")
    return Path(text)


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected letters, digits, - and _")
    return text
