"""The whole path on one command: cohort, nnU-Net, perturbed inference, gate, report.

``python examples/demo.py`` makes a synthetic cohort and needs nothing else; with ``--source FOLDER`` the same path runs
on a cohort in the HECKTOR layout. Every step is a command that a user could type; it is printed before it runs, and
what it says is kept in ``logs``. A second call goes on from what is done.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

REPOSITORY = Path(__file__).resolve().parent.parent
DATASET_ID = 501
CONFIGURATION = "3d_fullres"
TRAINER, PLANS = "nnUNetTrainerDynUNet", "DynUNetPlans"

console = Console()


class StepError(Exception):
    """A command failed; the text says which, and where its output is."""


@dataclass(frozen=True)
class Demo:
    """Folders and environment of one demo."""

    root: Path
    name: str

    @property
    def dataset(self) -> str:
        return f"Dataset{DATASET_ID}_{self.name}"

    @property
    def raw(self) -> Path:
        return self.root / "nnUNet_raw" / self.dataset

    @property
    def preprocessed(self) -> Path:
        return self.root / "nnUNet_preprocessed" / self.dataset

    @property
    def model(self) -> Path:
        return self.root / "nnUNet_results" / self.dataset / f"{TRAINER}__{PLANS}__{CONFIGURATION}"

    @property
    def run(self) -> Path:
        return self.root / "run"

    def environment(self) -> dict[str, str]:
        exports = subprocess.run(
            [_script("nnUNetv2_robustness_env"), "--base", str(self.root)], capture_output=True, text=True, check=True
        ).stdout
        pairs = (shlex.split(line)[1].split("=", 1) for line in exports.splitlines())
        # nnU-Net's own augmentation workers would fight with the folds trained side by side for the cores.
        return os.environ | dict(pairs) | {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns its exit status."""
    arguments = _parser().parse_args(argv)
    root = arguments.output or REPOSITORY / "demo"
    if arguments.source and not arguments.output:
        root = root / arguments.source.resolve().name
    demo = Demo(root.resolve(), arguments.name or ("PHANTOM" if arguments.source is None else "DEMO"))
    demo.root.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a kill, too, ends the trainings
    try:
        report = _run(demo, arguments)
    except StepError as error:
        console.print(f"\n[bold red]The demo stopped:[/] {error}", soft_wrap=True)
        return 1
    minutes = (time.monotonic() - started) / 60
    console.print(f"\nReport: {report}   ({minutes:.1f} minutes)", soft_wrap=True)
    return 0


def _run(demo: Demo, arguments: argparse.Namespace) -> Path:
    with _step("cohort"):
        source = arguments.source or _make_phantom(demo)
    with _step("convert to nnU-Net's format"):
        _convert(demo, source, arguments)
    with _step("plan"):
        _plan(demo, arguments)
    with _step("preprocess"):
        _preprocess(demo)
    with _step("train"):
        _train(demo, arguments)
    with _step("perturb, predict, judge"):
        _gate(demo)
    with _step("report"):
        console.print(_report(demo, source), soft_wrap=True)
    return demo.run / "report" / "report.html"


def _report(demo: Demo, source: Path) -> str:
    command = [_script("nnUNetv2_robustness_report"), "run", str(demo.run), "--model", str(demo.model)]
    for clinical in sorted(source.glob("*clinical*.csv"))[:1]:
        command += ["--clinical", str(clinical)]
    return _call(demo, "report", *command)


def _make_phantom(demo: Demo) -> Path:
    source = demo.root / "source"
    _once(
        demo,
        "phantom",
        [_script("nnUNetv2_robustness_convert"), "phantom", "-o", str(source), "--cases", "34", "--spacing", "4"],
    )
    return source


def _convert(demo: Demo, source: Path, arguments: argparse.Namespace) -> None:
    command = [_script("nnUNetv2_robustness_convert"), "hecktor", str(source), "-d", str(DATASET_ID)]
    command += ["--name", demo.name, "--spacing", str(arguments.spacing), "--labels", *arguments.labels]
    command += ["--hold-out", str(arguments.hold_out), "--folds", str(arguments.folds)]
    _call(demo, "convert", *command)


def _plan(demo: Demo, arguments: argparse.Namespace) -> None:
    command = [_script("nnUNetv2_robustness_plan"), "-d", str(DATASET_ID), "--patch", *map(str, arguments.patch)]
    command += ["--features", *map(str, arguments.features), "--batch-size", str(arguments.batch_size)]
    command += ["--epochs", str(arguments.epochs), "--iterations", str(arguments.iterations)]
    command += ["--lr", str(arguments.lr), "--batch-norm-passes", "60", "-np", str(_cores())]
    _call(demo, "plan", *command)


def _preprocess(demo: Demo) -> None:
    command = [_script("nnUNetv2_preprocess"), "-d", str(DATASET_ID), "-plans_name", PLANS, "-c", CONFIGURATION]
    _once(demo, "preprocess", [*command, "-np", str(_cores())], (demo.preprocessed / f"{PLANS}.json").read_text())


def _train(demo: Demo, arguments: argparse.Namespace) -> None:
    """Train the folds that are not trained, as many at a time as there are cores (on a GPU one)."""
    _refuse_other_plans(demo)
    folds = len(json.loads((demo.preprocessed / "splits_final.json").read_text()))
    device = _device()
    at_once = 1 if device == "cuda" else _cores()
    waiting = [fold for fold in range(folds) if not _is_trained(demo, fold)]
    running: dict[int, subprocess.Popen[bytes]] = {}
    with _bar("epochs", folds * arguments.epochs) as show, _stopping(running):
        while waiting or running:
            while waiting and len(running) < at_once:
                fold = waiting.pop(0)
                running[fold] = _start_training(demo, fold, device)
            for fold in [fold for fold, process in running.items() if process.poll() is not None]:
                if running.pop(fold).returncode:
                    raise StepError(f"training of fold {fold} failed; its output is in {_log(demo, f'fold_{fold}')}")
            show(sum(_epochs_done(demo, fold, arguments.epochs) for fold in range(folds)))
            time.sleep(0.5)


def _refuse_other_plans(demo: Demo) -> None:
    trained, wanted = demo.model / "plans.json", demo.preprocessed / f"{PLANS}.json"
    if trained.exists() and json.loads(trained.read_text()) != json.loads(wanted.read_text()):
        raise StepError(f"{demo.model} was trained with other options; delete {demo.root} or choose another --output")


def _start_training(demo: Demo, fold: int, device: str) -> subprocess.Popen[bytes]:
    command = [_script("nnUNetv2_train"), str(DATASET_ID), CONFIGURATION, str(fold)]
    command += ["-tr", TRAINER, "-p", PLANS, "-device", device]
    if (demo.model / f"fold_{fold}" / "checkpoint_latest.pth").exists():
        command.append("--c")
    _show(command)
    with _log(demo, f"fold_{fold}").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=demo.environment())


def _is_trained(demo: Demo, fold: int) -> bool:
    return (demo.model / f"fold_{fold}" / "checkpoint_final.pth").exists()


def _epochs_done(demo: Demo, fold: int, epochs: int) -> int:
    if _is_trained(demo, fold):
        return epochs
    log = _log(demo, f"fold_{fold}")
    started = re.findall(r"Epoch (\d+)", log.read_text(errors="replace")) if log.exists() else []
    return int(started[-1]) if started else 0


def _gate(demo: Demo) -> None:
    """The gate may fail: that is a finding about the model, not an error of the demo."""
    command = [sys.executable, "-m", "pytest", "robustness_tests", "-n", "auto", "-q", "--no-header", "--tb=no"]
    command += [f"--junitxml={demo.run / 'report' / 'junit.xml'}"]
    command += ["--robustness-model", str(demo.model), "--robustness-run", str(demo.run)]
    command += ["--robustness-images", str(demo.raw / "imagesTs"), "--robustness-labels", str(demo.raw / "labelsTs")]
    command += ["--robustness-step-size", "1.0"]
    _show(command)
    status = subprocess.run(command, cwd=REPOSITORY, env=demo.environment(), check=False).returncode
    if status not in (0, 1):
        raise StepError(f"pytest ended with status {status}; see its output above")


def _once(demo: Demo, name: str, command: list[str], depends_on: str = "") -> None:
    """Run a command whose work another call can reuse: same command, same input."""
    stamp = demo.root / "logs" / f"{name}.done"
    content = shlex.join(command) + "\n" + depends_on
    if stamp.exists() and stamp.read_text() == content:
        console.print(f"  {name}: done before", style="dim")
        return
    _call(demo, name, *command)
    stamp.write_text(content)


def _call(demo: Demo, name: str, *command: str) -> str:
    """Run a command to its end, its output into a log; returns what it printed."""
    _show(command)
    log = _log(demo, name)
    with console.status(f"{name} ..."), log.open("wb") as output:
        status = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=demo.environment(), check=False
        ).returncode
    text = log.read_text(errors="replace")
    if status:
        last = "\n".join(text.splitlines()[-8:])
        raise StepError(f"{name} ended with status {status} (whole output: {log}):\n{last}")
    return text.strip()


@contextmanager
def _stopping(processes: Mapping[int, subprocess.Popen[bytes]]) -> Iterator[None]:
    """Leave no training behind, whatever ends this process."""
    try:
        yield
    finally:
        for process in processes.values():
            process.terminate()
            process.wait()


@contextmanager
def _step(title: str) -> Iterator[None]:
    console.rule(f"[bold]{title}", align="left")
    start = time.monotonic()
    yield
    console.print(f"  {title}: {time.monotonic() - start:.0f} s", style="dim")


@contextmanager
def _bar(unit: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; elsewhere a line every half minute."""
    if console.is_terminal:
        columns = TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(unit, total=total)
            yield lambda done: progress.update(task, completed=done)
        return
    last = time.monotonic()

    def show(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= 30:
            last = time.monotonic()
            console.print(f"  {unit}: {done} of {total}")

    yield show


def _show(command: Sequence[str]) -> None:
    words = [Path(command[0]).name, *command[1:]]
    console.print(f"  $ {shlex.join(words)}", style="dim", soft_wrap=True, markup=False, highlight=False)


def _log(demo: Demo, name: str) -> Path:
    (demo.root / "logs").mkdir(exist_ok=True)
    return demo.root / "logs" / f"{name}.log"


def _script(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--source", type=Path, help="cohort in the HECKTOR layout (default: a synthetic one is made)")
    add("-o", "--output", type=Path, help="folder for everything (default: demo, or demo/NAME of the source)")
    add("--name", help="name of the nnU-Net data set")
    add("--labels", nargs="+", default=["GTVp", "GTVn"], help="structures, in the order of their label values")
    add("--folds", type=int, default=5, help="folds of the ensemble")
    add("--hold-out", type=int, default=4, help="cases that are kept for the test")
    add("--spacing", type=float, default=4.0, help="voxel edge in mm")
    add("--patch", type=int, nargs="+", default=[32], help="patch in voxels")
    add("--features", type=int, nargs="+", default=[8, 16, 32, 64], help="features of each stage of the network")
    add("--batch-size", type=int, default=4, help="patches per step")
    add("--epochs", type=int, default=10, help="epochs of each fold")
    add("--iterations", type=int, default=80, help="steps of an epoch")
    add("--lr", type=float, default=3e-3, help="learning rate of the first epoch")
    return parser


if __name__ == "__main__":
    sys.exit(main())
