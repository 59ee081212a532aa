"""The study's network on a full-size case, on a GPU: the share of forward passes, and what speeds them up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.results import Agreement, Row, Settings, UnavailableError
from bench.timing import Times, interleaved
from bench.untrained import write_study
from bench.volumes import FULL, Shape
from nnunet_plugin.benchmark.perturbations import Variant
from nnunet_plugin.benchmark.run import Benchmark
from nnunet_plugin.benchmark.run import measure as measure_cohort
from nnunet_plugin.benchmark.settings import Options, open_benchmark
from nnunet_plugin.benchmark.sliding_window import predict_logits, window_starts
from nnunet_plugin.training.network import build_dynunet
from nnunet_plugin.training.plans import PlanSettings, architecture

_STEP = 0.5
_LEAST_EQUAL = 99.9


@dataclass(frozen=True)
class Size:
    """What is measured: the study's own, or something small to try the code on."""

    shape: Shape
    patch: tuple[int, ...]
    features: tuple[int, ...]
    folds: int
    variants: int | None


_STUDY = Size(FULL, PlanSettings().patch_size, PlanSettings().features, 5, None)
_QUICK = Size(FULL, PlanSettings().patch_size, PlanSettings().features, 1, 4)


def measure(settings: Settings) -> list[Row]:
    """A case's variants against its bare forward passes, and one volume in other ways to run the network."""
    if not torch.cuda.is_available():
        raise UnavailableError("no CUDA device here")
    size = _QUICK if settings.quick else _STUDY
    return [*whole_case("cuda", size, settings), *ways("cuda", size, settings)]


def whole_case(device: str, size: Size, settings: Settings) -> list[Row]:
    """The wall time of a case against the forward passes in it, and against the network alone on as many patches."""
    with TemporaryDirectory() as folder:
        study = write_study(Path(folder), size.shape, size.patch, size.features, size.folds)
        options = Options(study.model, study.images, study.labels, Path(folder) / "run", device=device, step_size=_STEP)
        benchmark = open_benchmark(options)
        settings.show("warming up")
        array = benchmark.ensemble.prepare(benchmark.cohort.cases[0].images).array
        benchmark.ensemble.forward(array)
        settings.show("a whole case")
        wall = _wall_seconds(benchmark, benchmark.variants[: size.variants])
        forward = float(
            benchmark.run.rows().drop_duplicates(["modality", "perturbation", "severity"])["seconds_predict"].sum()
        )
        settings.show("bare forward passes")
        volumes = len(benchmark.variants[: size.variants]) + 1
        patches = volumes * size.folds * len(window_starts(array.shape[1:], size.patch, _STEP))
        bare = patches * _seconds_per_patch(device, size)
    extra = {"patches_per_s": patches / wall, "bare_patches_per_s": patches / bare, **_peak_memory(device)}
    return [
        Row("gpu_share", "the forward passes of all folds", wall, forward, forward / wall, extra=extra),
        Row("gpu_bare", "the network alone on as many patches", wall, bare, bare / wall, extra=extra),
    ]


def _wall_seconds(benchmark: Benchmark, variants: Sequence[Variant]) -> float:
    start = time.perf_counter()
    measure_cohort(benchmark, variants)
    return time.perf_counter() - start


@torch.inference_mode()
def _seconds_per_patch(device: str, size: Size, repeats: int = 20) -> float:
    network, patch = _network(device, size), torch.randn(1, 2, *size.patch, device=device)
    with torch.autocast("cuda", enabled=device == "cuda"):
        for _ in range(3):
            network(patch)
        _wait(device)
        start = time.perf_counter()
        for _ in range(repeats):
            network(patch)
        _wait(device)
    return (time.perf_counter() - start) / repeats


def ways(device: str, size: Size, settings: Settings, *, compiled: bool = True) -> list[Row]:
    """Each against the network as it is used: one window at a time, contiguous, not compiled."""
    image = torch.randn(2, *reversed(size.shape), generator=torch.Generator().manual_seed(0)).to(device)
    plain = _network(device, size)
    last = _network(device, size).to(memory_format=torch.channels_last_3d)
    how: dict[str, Callable[[], torch.Tensor]] = {
        "gpu_two_windows": partial(_labels, plain, image, size, windows=2),
        "gpu_channels_last": partial(_labels, last, image, size),
    }
    if compiled:
        how["gpu_compiled"] = partial(_labels, torch.compile(_network(device, size)), image, size)
    rows = []
    for name, ours in how.items():
        settings.show(name)
        ours()
        times, found, expected = interleaved(ours, partial(_labels, plain, image, size), settings.repeats)
        rows.append(_row(name, times, found, expected))
    return rows


def _row(name: str, times: Times, found: torch.Tensor, expected: torch.Tensor) -> Row:
    equal = 100 * float((found == expected).float().mean())
    agreement = Agreement(f"{equal:.3f} % of voxels equal (at least {_LEAST_EQUAL})", equal >= _LEAST_EQUAL)
    return times.row(name, "one window at a time, contiguous, not compiled", agreement)


def _labels(network: torch.nn.Module, image: torch.Tensor, size: Size, windows: int = 1) -> torch.Tensor:
    logits = predict_logits(
        network, image, patch_size=size.patch, step_size=_STEP, num_classes=3, windows_at_once=windows
    )
    return logits.argmax(dim=0).cpu()


def _network(device: str, size: Size) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_dynunet(2, 3, **architecture(size.features)["arch_kwargs"]).to(device).eval()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak_memory(device: str) -> dict[str, float]:
    return {"peak_gpu_gib": torch.cuda.max_memory_allocated() / 2**30} if device == "cuda" else {}
