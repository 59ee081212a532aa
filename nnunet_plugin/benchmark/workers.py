"""How many processes can measure side by side on this machine."""

from __future__ import annotations

import math
import os

import psutil
import SimpleITK as sitk
import torch

from nnunet_plugin.benchmark.run import Benchmark

_BYTES_OF_A_PROCESS = 2 * 2**30
_WINDOWS_AT_ONCE = 2
# Measured on the study's network, 32 features at full resolution: 5.4 GiB for one window of 192^3.
_BYTES_PER_PATCH_VOXEL = 800


def worker_count(benchmark: Benchmark, device: str | None) -> int:
    """Processes that can share a run here: one for each GPU, or what cores, memory and the number of cases allow.

    Parameters
    ----------
    benchmark
        What they are to measure.
    device
        The device that was asked for, as in :class:`~nnunet_plugin.benchmark.settings.Options`.
    """
    cases = len(benchmark.cohort.cases)
    if gpus := visible_gpus(device):
        return min(len(gpus), cases)
    if device not in {None, "cpu"}:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fitting = int(psutil.virtual_memory().available // _bytes_per_worker(benchmark))
    return max(1, min(cores, fitting, cases))


def visible_gpus(device: str | None) -> list[str]:
    """GPUs that a process each can be given, as ``CUDA_VISIBLE_DEVICES`` takes them; none unless any may be used."""
    if device not in {None, "cuda"}:
        return []
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (visible.split(",") if visible else [str(number) for number in range(count)])[:count]


def _bytes_per_worker(benchmark: Benchmark) -> int:
    ensemble = benchmark.ensemble
    weights = sum(f.stat().st_size for f in ensemble.folder.glob("fold_*/checkpoint_final.pth"))
    # float32 arrays alive at once. Of each channel: the image, this case's and the next one's, steps that wait for the
    # network, and spectra. Of each label: logits, their sum, and scores that wait to be measured. 170 bytes a voxel for
    # two channels and three labels; 3.0 GiB in all were measured at 200 x 200 x 310 voxels with a network that is
    # faster than what surrounds it.
    arrays = 4 * (8 * len(ensemble.modalities) + 9 * (len(ensemble.structures) + 1))
    forward = _WINDOWS_AT_ONCE * ensemble.patch_voxels * _BYTES_PER_PATCH_VOXEL
    return int(_BYTES_OF_A_PROCESS + weights + forward + _voxels_of_a_case(benchmark) * arrays)


def _voxels_of_a_case(benchmark: Benchmark) -> float:
    """Voxels of the first readable case on the network's grid."""
    for case in benchmark.cohort.cases:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(case.images[0]))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            continue  # it is reported when its turn comes
        axes = zip(reader.GetSize(), reader.GetSpacing(), benchmark.ensemble.spacing_xyz, strict=False)
        return float(math.prod(size * max(1.0, ours / networks) for size, ours, networks in axes))
    return 0.0
