"""The study's augmentation: MONAI's dictionary transforms behind nnU-Net's calling convention."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms.intensity.dictionary import (
    RandAdjustContrastd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandShiftIntensityd,
)
from monai.transforms.spatial.dictionary import RandAffined, RandFlipd
from monai.transforms.transform import RandomizableTransform

PROBABILITY = 0.2
ROTATION_RAD = math.pi / 8
SCALING = 0.1
TRANSLATION_MM = 10.0
GAMMA = (0.7, 1.3)
SHIFT = 0.1
NOISE_SD = 0.1
SMOOTHING_VOXELS = (0.5, 1.0)

# In the order (z, y, x) of nnU-Net's arrays: the patient's left and right.
_FLIP_AXIS = 2


def spatial_transforms(spacing_mm: Sequence[float]) -> list[RandomizableTransform]:
    """Return the transforms of image and label alike, each acting with probability 0.2.

    Parameters
    ----------
    spacing_mm
        Voxel size along (z, y, x). The study's translation of 10 voxels of 1 mm is kept in mm.

    Returns
    -------
    list
        Dictionary transforms of the keys ``image`` (linear) and ``label`` (nearest neighbour), each
        ``(channel, z, y, x)``. The affine rotates about all axes, scales and translates in one resampling.
    """
    keys = ("image", "label")
    return [
        RandFlipd(keys, prob=PROBABILITY, spatial_axis=_FLIP_AXIS),
        RandAffined(
            keys,
            prob=PROBABILITY,
            rotate_range=(ROTATION_RAD,) * 3,
            scale_range=(SCALING,) * 3,
            translate_range=tuple(TRANSLATION_MM / spacing for spacing in spacing_mm),
            mode=("bilinear", "nearest"),
            padding_mode="reflection",
            cache_grid=False,
        ),
    ]


def ct_transforms() -> list[RandomizableTransform]:
    """Return the transforms of CT alone (key ``ct``, rescaled to [0, 1]), each with probability 0.2."""
    keys = ("ct",)
    return [
        RandAdjustContrastd(keys, prob=PROBABILITY, gamma=GAMMA),
        RandShiftIntensityd(keys, prob=PROBABILITY, offsets=SHIFT),
        # MONAI's default would draw the SD itself, from 0 to the given one.
        RandGaussianNoised(keys, prob=PROBABILITY, mean=0.0, std=NOISE_SD, sample_std=False),
        RandGaussianSmoothd(
            keys,
            prob=PROBABILITY,
            sigma_x=SMOOTHING_VOXELS,
            sigma_y=SMOOTHING_VOXELS,
            sigma_z=SMOOTHING_VOXELS,
        ),
    ]


class Augmentation:
    """Augment a patch the way nnU-Net's data loader calls it: ``transforms(image=..., segmentation=...)``.

    Parameters
    ----------
    spacing_mm
        Voxel size along (z, y, x).
    ct_channels
        Channels that the CT-only transforms act on; empty switches them off.
    """

    def __init__(self, *, spacing_mm: Sequence[float], ct_channels: Sequence[int]) -> None:
        self.ct_channels = list(ct_channels)
        self.spatial = spatial_transforms(spacing_mm)
        self.intensity = ct_transforms() if self.ct_channels else []
        self._random = np.random.RandomState()  # the generator that MONAI's transforms take
        # One generator for all: MONAI seeds a transform and the parts it consists of alike, which would tie
        # the drawn angle to the draw that decides whether to rotate at all.
        for transform in (*self.spatial, *self.intensity):
            transform.set_random_state(state=self._random)

    def __call__(self, *, image: torch.Tensor, segmentation: torch.Tensor) -> dict[str, torch.Tensor]:
        """Augment one patch.

        Parameters
        ----------
        image
            Normalised channels, ``(channel, z, y, x)``, float32.
        segmentation
            Labels, ``(1, z, y, x)``, int16; -1 outside the image.

        Returns
        -------
        dict
            ``image`` and ``segmentation`` in the shapes and types they came in; -1 became 0 (background).
        """
        # Copies of the transforms in forked workers would all draw the same numbers. NumPy's global generator
        # is the one that nnU-Net seeds in each of them.
        self._random.seed(np.random.randint(2**32, dtype=np.uint32))  # noqa: NPY002
        data = {"image": image, "label": segmentation.clamp(min=0)}
        for transform in self.spatial:
            data = transform(data)
        image = _plain(data["image"])
        if self.intensity:
            image = image.clone()
            image[self.ct_channels] = self._augment_ct(image[self.ct_channels])
        return {"image": image, "segmentation": _plain(data["label"]).to(segmentation.dtype)}

    def _augment_ct(self, ct: torch.Tensor) -> torch.Tensor:
        data = {"ct": ct}
        for transform in self.intensity:
            data = transform(data)
        return _plain(data["ct"])


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Strip MONAI's metadata, which costs time in every operation that follows."""
    return tensor.as_subclass(torch.Tensor)
