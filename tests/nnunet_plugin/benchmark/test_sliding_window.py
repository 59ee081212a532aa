"""Windows in batches against nnU-Net's own loop, one window at a time, in float32."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

from nnunet_plugin.benchmark.sliding_window import _batches, predict_logits

PATCH = (8, 8, 8)


class Local(torch.nn.Module):
    """A network whose output depends on the place in the window, so that weights and positions matter."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        place = torch.linspace(0, 1, windows[0, 0].numel()).reshape(windows.shape[2:])
        return torch.cat([windows, windows * place, windows + place], dim=1)


@pytest.mark.parametrize("shape", [(8, 8, 8), (20, 9, 13), (8, 17, 30)])
@pytest.mark.parametrize("step_size", [0.5, 1.0])
def test_equals_the_weighted_mean_of_single_windows(shape, step_size):
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    weight = compute_gaussian(PATCH, 1 / 8, 10, torch.float32, torch.device("cpu"))
    total, weights = torch.zeros(3, *shape), torch.zeros(shape)
    steps = compute_steps_for_sliding_window(shape, PATCH, step_size)
    for z in steps[0]:
        for y in steps[1]:
            for x in steps[2]:
                window = slice(z, z + 8), slice(y, y + 8), slice(x, x + 8)
                total[(slice(None), *window)] += Local()(image[(slice(None), *window)][None])[0] * weight
                weights[window] += weight
    ours = predict_logits(Local(), image, patch_size=PATCH, step_size=step_size, num_classes=3)
    torch.testing.assert_close(ours, total / weights, rtol=1e-5, atol=1e-6)


def test_image_smaller_than_the_window_is_padded_and_cut_back():
    image = torch.randn(1, 5, 8, 6)
    assert predict_logits(Local(), image, patch_size=PATCH, step_size=0.5, num_classes=3).shape == (3, 5, 8, 6)


@settings(deadline=None)
@given(count=st.integers(1, 200), size=st.sampled_from([1, 2, 4, 32]), on_cpu=st.booleans())
def test_every_window_is_in_one_batch_and_none_is_alone_on_a_cpu(count, size, on_cpu):
    windows = [(slice(n),) for n in range(count)]
    batches = list(_batches(windows, size, on_cpu=on_cpu))
    assert [window for batch in batches for window in batch] == windows
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(3 if on_cpu else 1, size)
    if on_cpu and count > 1:
        assert min(sizes) >= 2
