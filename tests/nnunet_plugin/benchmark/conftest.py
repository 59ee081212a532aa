"""Fixtures of the benchmark's tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage


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
