"""An analytic head: every voxel of its images is a known function of the position in space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

Array = npt.NDArray[Any]
LPS = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def sample(
    function: Callable[[Array], Array],
    *,
    size: Sequence[int],
    spacing: Sequence[float],
    origin: Sequence[float],
    direction: Sequence[float] = LPS,
    dtype: npt.DTypeLike = np.float32,
) -> sitk.Image:
    """Evaluate a function of positions (..., 3) in mm on a grid, whose voxels SimpleITK locates."""
    grid = (np.ravel(values).astype(float).tolist() for values in (origin, spacing, direction))
    where = sitk.PhysicalPointSource(sitk.sitkVectorFloat64, list(size), *grid)
    image = sitk.GetImageFromArray(function(sitk.GetArrayFromImage(where)).astype(dtype))
    image.CopyInformation(where)
    return image


@dataclass(frozen=True)
class Head:
    """A brain within a skull, on a neck that is not below its middle; with a primary and a node.

    The image reaches from z = 0, its top, to z = -length. ``brain`` is None for a body without a head.
    """

    brain: tuple[float, float, float] | None = (18.0, -12.0, -80.0)
    neck: tuple[float, float] = (0.0, 0.0)
    primary: tuple[float, float, float] | None = (10.0, 0.0, -180.0)
    node: tuple[float, float, float] | None = (45.0, 20.0, -210.0)
    length: float = 280.0
    hot: tuple[tuple[float, float, float], ...] = ()

    def hu(self, points: Array) -> Array:
        values = np.full(points.shape[:-1], -1000.0)
        values[np.hypot(points[..., 0] - self.neck[0], points[..., 1] - self.neck[1]) < 70] = 40
        if self.brain is not None:
            values[points[..., 2] > self.brain[2] - 60] = -1000
            distance = np.linalg.norm(points - self.brain, axis=-1)
            values[distance < 78] = 40
            values[(distance >= 62) & (distance < 72)] = 900
        return values

    def suv(self, points: Array) -> Array:
        values = np.where(self.hu(points) > -500, 1.0, 0.0)
        for centre, radius, uptake in [
            (self.brain, 60, 7.0),
            (self.primary, 14, 9.0),
            (self.node, 11, 6.0),
            *((place, 55, 12.0) for place in self.hot),
        ]:
            if centre is not None:
                values[np.linalg.norm(points - centre, axis=-1) < radius] = uptake
        return values

    def label(self, points: Array) -> Array:
        values = np.zeros(points.shape[:-1])
        for value, centre, radius in ((1, self.primary, 14), (2, self.node, 11)):
            if centre is not None:
                values[np.linalg.norm(points - centre, axis=-1) < radius] = value
        return values

    def images(self, direction: Sequence[float] = LPS) -> dict[str, sitk.Image]:
        """CT and label at 5 x 5 x 4 mm, PET at 6 x 6 x 5 mm on a wider grid, about the same middle."""
        ct = _centred((52, 52, round(self.length / 4)), (5, 5, 4), self.length, direction)
        pet = _centred((50, 50, round(self.length / 5) + 2), (6, 6, 5), self.length, direction)
        return {
            "ct": sample(self.hu, **ct),
            "pet": sample(self.suv, **pet),
            "label": sample(self.label, **ct, dtype=np.uint8),
        }


def _centred(
    size: Sequence[int], spacing: Sequence[float], length: float, direction: Sequence[float]
) -> dict[str, Any]:
    half = (np.array(size) - 1) / 2 * np.array(spacing)
    origin = np.array([0, 0, -length / 2]) - np.array(direction).reshape(3, 3) @ half
    return {"size": size, "spacing": spacing, "origin": origin.tolist(), "direction": list(direction)}


def write_case(folder: Path, name: str, images: Mapping[str, sitk.Image]) -> dict[str, Path]:
    """Write a case in the layout of 2022; kinds left out of ``images`` are not written."""
    places = {
        "ct": folder / "imagesTr" / f"{name}__CT.nii.gz",
        "pet": folder / "imagesTr" / f"{name}__PT.nii.gz",
        "label": folder / "labelsTr" / f"{name}.nii.gz",
    }
    for kind, image in images.items():
        places[kind].parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(places[kind]))
    return places


@pytest.fixture(scope="session")
def sampled() -> Callable[..., sitk.Image]:
    return sample


@pytest.fixture(scope="session")
def head() -> Callable[..., Head]:
    return lambda **changes: replace(Head(), **changes)


@pytest.fixture(scope="session")
def written() -> Callable[..., dict[str, Path]]:
    return write_case


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty nnUNet_raw."""
    folder = tmp_path / "raw"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(folder))
    return folder
