"""Fixtures of the benchmark's tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import ndimage

from nnunet_plugin.benchmark.results import RunFolder

HERE = Path(__file__).parent
SEVERITIES = 6
LOG_LINE = len("01234567\n")


@pytest.fixture(scope="session")
def head() -> npt.NDArray[np.float32]:
    """A head-like volume in [0, 1], (x, y, z): a bright shell around a soft inside with a few hot spots."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in (33, 36, 41)], indexing="ij"))
    radius = np.sqrt((grid[0] / 0.7) ** 2 + (grid[1] / 0.8) ** 2 + grid[2] ** 2)
    volume = 0.5 * (radius < 1) + 0.4 * (np.abs(radius - 0.9) < 0.08)
    for centre in ((0.3, 0.2, 0.3), (-0.3, -0.1, 0.2), (0.0, 0.4, -0.3)):
        volume += 0.4 * (((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0) < 0.02)
    smooth = ndimage.gaussian_filter(volume, 0.7)
    return (smooth / smooth.max()).astype(np.float32)


class ProcessServer:
    """Real processes that start in milliseconds; see ``process_server.py``."""

    def __init__(self, model: Path) -> None:
        command = [sys.executable, str(HERE / "process_server.py"), str(model)]
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | one_thread
        )
        self._is_ready = False

    def _ask(self, **request: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not self._is_ready:
            assert self._process.stdout.readline() == "ready\n"
            self._is_ready = True
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, code: str, output: Path) -> int:
        return self._ask(code=code, output=str(output))

    def wait(self, pid: int) -> int:
        """Exit status; negative for a signal."""
        return self._ask(wait=pid)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="session")
def processes(toy) -> Iterator[ProcessServer]:
    server = ProcessServer(toy.folder)
    yield server
    server.close()


@dataclass
class Stress:
    """``nnUNetv2_robustness_run`` on five cases with the stub network, in processes of its own."""

    server: ProcessServer
    folder: Path
    model: Path
    images: Path
    labels: Path
    catalogue: Path
    run: Path = field(init=False)
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.run, self.log = self.folder / "run", self.folder / "log"

    def start(self, *options: str, before: str = "", seconds: float = 0.0) -> int:
        """Start a call; ``before`` is code that runs in its process first."""
        arguments = ["-m", self.model, "-i", self.images, "-l", self.labels, "-o", self.run]
        arguments += ["--catalogue", self.catalogue, "--device", "cpu", *options]
        code = f"import os, sys\nos.environ.update(STUB_LOG={str(self.log)!r}, STUB_SECONDS='{seconds}')\n{before}\n"
        code += f"from nnunet_plugin.cli import run\nsys.exit(run({[str(argument) for argument in arguments]}))"
        return self.server.start(code, self.folder / "output")

    def call(self, *options: str, before: str = "") -> tuple[int, str]:
        """Exit status and output of a call."""
        output = self.folder / "output"
        output.unlink(missing_ok=True)
        status = self.server.wait(self.start(*options, before=before))
        text = output.read_text()
        assert "Traceback" not in text, text
        return status, text

    def predictions(self) -> Counter[str]:
        """How often each volume was predicted since the last time."""
        found = Counter(self.log.read_text().split()) if self.log.exists() else Counter[str]()
        self.log.unlink(missing_ok=True)
        return found

    def wait_for_predictions(self, more: int) -> None:
        """Wait until this many more volumes have been predicted."""
        before, deadline = self._predicted(), time.monotonic() + 60
        while self._predicted() < before + more:
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def _predicted(self) -> int:
        return self.log.stat().st_size // LOG_LINE if self.log.exists() else 0

    def lines(self) -> int:
        """Lines of all rows files but their headers."""
        return sum(file.read_bytes().count(b"\n") - 1 for file in (self.run / "rows").glob("*.jsonl"))

    def rows(self) -> pd.DataFrame:
        """All that does not depend on the machine's speed."""
        rows = RunFolder(self.run).rows()
        return rows.drop(columns=[column for column in rows if column.startswith("seconds_")])


@pytest.fixture(scope="session")
def stress_cohort(toy, tmp_path_factory) -> Path:
    """The toy's three cases, two of them again under other names, and a catalogue that is quick to draw."""
    root = tmp_path_factory.mktemp("stress")
    shutil.copytree(toy.images, root / "images")
    shutil.copytree(toy.labels, root / "labels")
    for old, new in (("CHUM-001", "HGJ-004"), ("CHUP-002", "HMR-005")):
        for file in [*root.glob(f"images/{old}_*"), *root.glob(f"labels/{old}*")]:
            shutil.copy(file, file.with_name(file.name.replace(old, new)))
    severities = ", ".join(f"{{ std = [{0.1 * n:g}, {0.1 * n + 0.1:g}] }}" for n in range(1, SEVERITIES + 1))
    catalogue = f'[perturbations.noise]\ntransform = "RandomNoise"\nseverities = [{severities}]\n'
    (root / "quick.toml").write_text(catalogue)
    return root


@pytest.fixture
def stress(processes, toy, stress_cohort, tmp_path) -> Stress:
    return Stress(
        processes,
        tmp_path,
        toy.folder,
        stress_cohort / "images",
        stress_cohort / "labels",
        stress_cohort / "quick.toml",
    )


@dataclass(frozen=True)
class Undisturbed:
    rows: pd.DataFrame
    predictions: Counter[str]


@pytest.fixture(scope="session")
def undisturbed(processes, toy, stress_cohort, tmp_path_factory) -> Undisturbed:
    """What one process that nobody disturbs gives."""
    folder = tmp_path_factory.mktemp("undisturbed")
    files = stress_cohort / "images", stress_cohort / "labels", stress_cohort / "quick.toml"
    stress = Stress(processes, folder, toy.folder, *files)
    assert stress.call()[0] == 0
    rows, predictions = stress.rows(), stress.predictions()
    assert len(rows) == 5 * (2 * SEVERITIES + 1) * 2
    assert predictions.total() == 5 * (2 * SEVERITIES + 1)
    return Undisturbed(rows, predictions)
