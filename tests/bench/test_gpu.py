"""What is measured on a GPU, tried on a CPU with a network of a few features."""

from __future__ import annotations

import pytest
import torch

from bench import gpu
from bench.results import Settings, UnavailableError

SIZE = gpu.Size((24, 24, 30), (16, 16, 16), (4, 8, 8), folds=2, variants=3)


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnavailableError, match="no CUDA device"):
        gpu.measure(Settings())


def test_forward_passes_are_a_part_of_the_wall_time_and_patches_are_counted():
    share, bare = gpu.whole_case("cpu", SIZE, Settings(quick=True))
    assert 0 < share.ratio < 1
    assert share.ours_s == bare.ours_s
    # By hand: with half a window between windows, 2 x 2 x 3 of them cover the volume; 3 variants and the baseline.
    assert share.extra["patches_per_s"] * share.ours_s == pytest.approx(4 * 2 * 12)
    assert bare.theirs_s == pytest.approx(4 * 2 * 12 / bare.extra["bare_patches_per_s"])


def test_other_ways_to_run_the_network_change_no_label():
    rows = {row.name: row for row in gpu.ways("cpu", SIZE, Settings(quick=True), compiled=False)}
    assert rows.keys() == {"gpu_two_windows", "gpu_channels_last"}
    assert all(row.agreement.holds for row in rows.values())
