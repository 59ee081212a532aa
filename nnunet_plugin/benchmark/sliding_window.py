"""nnU-Net's sliding window with the windows of one volume in batches and float32 sums."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

_VOXELS_PER_BATCH = 2**17

Window = tuple[slice, ...]


@torch.inference_mode()
def predict_logits(
    network: torch.nn.Module,
    image: torch.Tensor,
    *,
    patch_size: Sequence[int],
    step_size: float,
    num_classes: int,
    windows_at_once: int | None = None,
) -> torch.Tensor:
    """Predict a volume window by window, weighted by nnU-Net's Gaussian.

    Window positions, padding and weights are nnU-Net's own; it differs from ``nnUNetPredictor`` in running several
    windows at once and in summing in float32 instead of float16.

    Parameters
    ----------
    network
        Maps (n, channels, *patch) to logits (n, num_classes, *patch); in evaluation mode, on the image's device.
    image
        (channels, *axes), float32.
    patch_size
        Window size in voxels, one per axis.
    step_size
        Distance between windows as a share of the window, in (0, 1].
    num_classes
        Channels of the network's output.
    windows_at_once
        Windows in a batch, at most; None for what small windows gain from and large ones fit into.

    Returns
    -------
    Tensor
        Logits (num_classes, *axes), float32, on the image's device.
    """
    padded, unpad = pad_nd_image(image, patch_size, "constant", {"value": 0}, True)
    axes = tuple(padded.shape[1:])
    windows = [
        tuple(slice(s, s + n) for s, n in zip(start, patch_size, strict=True))
        for start in window_starts(axes, patch_size, step_size)
    ]
    weight = compute_gaussian(
        tuple(patch_size),
        sigma_scale=1 / 8,
        value_scaling_factor=10,
        dtype=torch.float32,
        device=image.device,
    )
    total = torch.zeros((num_classes, *axes), device=image.device)
    weights = torch.zeros(axes, device=image.device)
    size = windows_at_once or max(1, _VOXELS_PER_BATCH // weight.numel())
    for batch in _batches(windows, size, on_cpu=image.device.type == "cpu"):
        logits = _forward(network, torch.stack([padded[(slice(None), *window)] for window in batch]))
        for window, of_window in zip(batch, logits, strict=True):
            total[(slice(None), *window)] += of_window * weight
            weights[window] += weight
    return (total / weights)[(slice(None), *unpad[1:])]


def window_starts(axes: Sequence[int], patch_size: Sequence[int], step_size: float) -> list[tuple[int, ...]]:
    """First voxel of every window of a volume that is at least as large as the window; positions are nnU-Net's."""
    return list(itertools.product(*compute_steps_for_sliding_window(tuple(axes), tuple(patch_size), step_size)))


def _batches(windows: Sequence[Window], size: int, *, on_cpu: bool) -> Iterator[Sequence[Window]]:
    """Split windows into batches of nearly equal size.

    On a CPU a batch of one takes several times as long per window as a batch of two: PyTorch has no fast 3-D
    convolution for it. So there is none unless there is but one window.
    """
    size = max(size, 2 if on_cpu else 1)
    count = max(1, min(math.ceil(len(windows) / size), len(windows) // 2 if on_cpu else len(windows)))
    bounds = [round(len(windows) * part / count) for part in range(count + 1)]
    return (windows[start:stop] for start, stop in itertools.pairwise(bounds))


def _forward(network: torch.nn.Module, windows: torch.Tensor) -> torch.Tensor:
    # As nnU-Net does: half precision on CUDA only.
    with torch.autocast("cuda", enabled=windows.is_cuda):
        logits: torch.Tensor = network(windows)
    return logits.float()
