"""nnU-Net's sliding window with the windows of one volume in batches and float32 sums."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

_VOXELS_PER_BATCH = 2**18


@torch.inference_mode()
def predict_logits(
    network: torch.nn.Module,
    image: torch.Tensor,
    *,
    patch_size: Sequence[int],
    step_size: float,
    num_classes: int,
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

    Returns
    -------
    Tensor
        Logits (num_classes, *axes), float32, on the image's device.
    """
    padded, unpad = pad_nd_image(image, patch_size, "constant", {"value": 0}, True)
    axes = tuple(padded.shape[1:])
    starts = itertools.product(*compute_steps_for_sliding_window(axes, tuple(patch_size), step_size))
    windows = [tuple(slice(s, s + n) for s, n in zip(start, patch_size, strict=True)) for start in starts]
    weight = compute_gaussian(
        tuple(patch_size),
        sigma_scale=1 / 8,
        value_scaling_factor=10,
        dtype=torch.float32,
        device=image.device,
    )
    total = torch.zeros((num_classes, *axes), device=image.device)
    weights = torch.zeros(axes, device=image.device)
    batch_size = max(1, _VOXELS_PER_BATCH // weight.numel())
    for batch in (windows[i : i + batch_size] for i in range(0, len(windows), batch_size)):
        logits = _forward(network, torch.stack([padded[(slice(None), *window)] for window in batch]))
        for window, of_window in zip(batch, logits, strict=True):
            total[(slice(None), *window)] += of_window * weight
            weights[window] += weight
    return (total / weights)[(slice(None), *unpad[1:])]


def _forward(network: torch.nn.Module, windows: torch.Tensor) -> torch.Tensor:
    # As nnU-Net does: half precision on CUDA only.
    with torch.autocast("cuda", enabled=windows.is_cuda):
        logits: torch.Tensor = network(windows)
    return logits.float()
