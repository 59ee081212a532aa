"""Command-line front ends: parse, call, print."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunet_plugin.paths import utf8_path
from nnunet_plugin.training.environment import export_lines


def env(argv: Sequence[str] | None = None) -> int:
    """Print the exports that let nnU-Net find ``nnUNetTrainerDynUNet``; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_robustness_env",
        description="Print the exports that let nnU-Net find nnUNetTrainerDynUNet. "
        'Use it as: eval "$(nnUNetv2_robustness_env)"',
    )
    parser.add_argument(
        "--base",
        type=utf8_path,
        metavar="FOLDER",
        help="also export nnUNet_raw, nnUNet_preprocessed and nnUNet_results, as folders inside FOLDER",
    )
    arguments = parser.parse_args(argv)
    print("\n".join(export_lines(os.environ, arguments.base)))
    return 0


def plan(argv: Sequence[str] | None = None) -> int:
    """Write ``DynUNetPlans.json`` for a data set; return the exit status."""
    from nnunet_plugin.training.planning import PlanningError, make_plans
    from nnunet_plugin.training.plans import PlanSettings, TrainingSettings

    parser = _plan_parser()
    arguments = parser.parse_args(argv)
    iterations = arguments.validation_iterations
    if iterations is None:
        iterations = TrainingSettings.num_val_iterations_per_epoch if arguments.iterations is None else 1
    try:
        settings = PlanSettings(
            patch_size=_cube(arguments.patch),
            batch_size=arguments.batch_size,
            features=tuple(arguments.features),
            training=TrainingSettings(
                num_epochs=arguments.epochs,
                num_iterations_per_epoch=arguments.iterations,
                num_val_iterations_per_epoch=iterations,
                initial_lr=arguments.lr,
                batch_norm_passes=arguments.batch_norm_passes,
            ),
        )
    except ValueError as error:
        parser.error(str(error))
    try:
        plans = make_plans(arguments.d, settings, arguments.np)
    except PlanningError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    _print_next_steps(arguments.d, plans)
    return 0


def _plan_parser() -> argparse.ArgumentParser:
    from nnunet_plugin.training.plans import PlanSettings

    study = PlanSettings()
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_robustness_plan",
        description="Write DynUNetPlans for a data set of nnUNet_raw: nnU-Net's fingerprint and planner "
        "where needed, then the study's network, patch and training. The defaults are the study's.",
    )
    add = parser.add_argument
    add(
        "-d",
        type=_dataset_id,
        required=True,
        metavar="ID",
        help="number of the data set, the NNN of DatasetNNN_Name",
    )
    add(
        "--patch",
        type=int,
        nargs="+",
        default=list(study.patch_size),
        metavar="N",
        help="voxels along z y x; one number means a cube (default: 192)",
    )
    add(
        "--features",
        type=int,
        nargs="+",
        default=list(study.features),
        metavar="N",
        help="features of each stage, finest first (default: 32 64 128 256 256 256)",
    )
    add(
        "--batch-size",
        type=int,
        default=study.batch_size,
        metavar="N",
        help="patches per training step (default: %(default)s)",
    )
    _add_training_options(parser)
    add(
        "-np",
        type=_positive,
        default=8,
        metavar="N",
        help="processes that read images for the fingerprint (default: %(default)s)",
    )
    return parser


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    from nnunet_plugin.training.plans import TrainingSettings

    study = TrainingSettings()
    add = parser.add_argument
    add("--epochs", type=int, default=study.num_epochs, metavar="N", help="(default: %(default)s)")
    add(
        "--iterations",
        type=int,
        metavar="N",
        help="steps per epoch (default: one pass over the fold's cases)",
    )
    add(
        "--validation-iterations",
        type=int,
        metavar="N",
        help="steps of the online validation per epoch "
        f"(default: {study.num_val_iterations_per_epoch}, or 1 with --iterations)",
    )
    add(
        "--lr",
        type=float,
        default=study.initial_lr,
        metavar="X",
        help="learning rate of the first epoch (default: %(default)s)",
    )
    add(
        "--batch-norm-passes",
        type=int,
        default=study.batch_norm_passes,
        metavar="N",
        help="average the batch-norm statistics anew over N batches after the last epoch, for short "
        "trainings (default: %(default)s, keep the running averages)",
    )


def _dataset_id(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 1000):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a data set number from 1 to 999")
    return int(text)


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return int(text)


def _cube(sizes: Sequence[int]) -> tuple[int, int, int]:
    if len(sizes) == 1:
        return (sizes[0],) * 3
    if len(sizes) != 3:
        raise ValueError(f"patch: found {len(sizes)} numbers, expected one (a cube) or three (z y x)")
    return (sizes[0], sizes[1], sizes[2])


def _print_next_steps(dataset_id: int, plans: Path) -> None:
    print(
        f"Wrote {plans}\n"
        "Next:\n"
        f"  nnUNetv2_preprocess -d {dataset_id} -plans_name {plans.stem} -c 3d_fullres\n"
        f"  nnUNetv2_train {dataset_id} 3d_fullres 0 -tr nnUNetTrainerDynUNet -p {plans.stem}    "
        "# and the other folds; without a GPU: -device cpu"
    )


def run(argv: Sequence[str] | None = None) -> int:
    """Measure a model under every perturbation of a catalogue; return the exit status."""
    parser = _run_parser()
    arguments = vars(parser.parse_args(argv))
    scheduler, repeats = arguments.pop("scheduler"), arguments.pop("repeat")
    if scheduler not in {None, "local"} and arguments["run"] is None:
        parser.error("--scheduler ADDRESS needs -o RUN, a run folder that all machines see under this name")
    from nnunet_plugin.benchmark.errors import BenchmarkError

    folds = arguments.pop("folds")
    try:
        from rich.console import Console

        from nnunet_plugin.benchmark.session import run_session
        from nnunet_plugin.benchmark.settings import Options

        options = Options(folds=tuple(folds) if folds else None, **arguments)
        outcome = run_session(options, Console(soft_wrap=True), scheduler=scheduler, repeats=repeats)
    except BenchmarkError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    for case, message in outcome.failures.items():
        print(f"not measured: {case}: {message}", file=sys.stderr)
    print(f"Wrote {outcome.table}\nNext:\n  nnUNetv2_robustness_report run {outcome.run}")
    return 1 if outcome.failures else 0


def _run_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_robustness_run",
        description="Measure a trained nnU-Net model on labelled cases, unperturbed and under every perturbation of a "
        "catalogue. Goes on where an earlier call stopped; several calls may share a run folder.",
    )
    add = parser.add_argument
    model = (
        "trained model: nnUNet_results/DatasetNNN_Name/TRAINER__PLANS__CONFIGURATION. It is loaded as code: trust it"
    )
    add("-m", dest="model", type=utf8_path, required=True, metavar="MODEL_FOLDER", help=model)
    images = "folder of images in nnU-Net's naming (CASE_0000.nii.gz)"
    add("-i", dest="images", type=utf8_path, required=True, metavar="IMAGES", help=images)
    labels = "folder of reference labels (CASE.nii.gz)"
    add("-l", dest="labels", type=utf8_path, required=True, metavar="LABELS", help=labels)
    default = "robustness_runs/MODEL-COHORT-CATALOGUE"
    add("-o", dest="run", type=utf8_path, metavar="RUN", help=f"run folder (default: {default})")
    add("--catalogue", default="paper", help="paper, calibrated, or a TOML file (default: %(default)s)")
    add("-f", dest="folds", nargs="+", metavar="FOLD", help="folds of the ensemble (default: every trained one)")
    add("--device", help="cpu, cuda, cuda:1 or mps (default: cuda where there is one)")
    step = "distance between sliding windows as a share of the window (default: %(default)s)"
    add("--step-size", type=float, default=0.5, metavar="X", help=step)
    add("--seed", type=int, default=0, help="seed of the perturbations (default: %(default)s)")
    repeat = "measure N times more, into RUN/repeats: the noise floor of a gate that refers to RUN (10 or more)"
    add("--repeat", type=_positive, default=0, metavar="N", help=repeat)
    threshold = "a structure where its probability reaches 0.5 (the study), or the most probable label"
    add("--threshold", default="0.5", choices=("0.5", "argmax"), help=f"{threshold} (default: %(default)s)")
    add("--threads", type=_positive, default=1, metavar="N", help="threads of torch (default: %(default)s)")
    add("--save-predictions", action="store_true", help="keep every predicted label map")
    cluster = "hand the cases to the workers of a Dask scheduler, e.g. tcp://host:8786, or to processes started here"
    add("--scheduler", metavar="ADDRESS|local", help=f"{cluster} (needs the extra distributed)")
    return parser
