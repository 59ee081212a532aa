"""Faster forms of TorchIO's intensity transforms, equal to them within 1e-5 of the result's maximum.

TorchIO (1.2) draws and defines every perturbation; each function here computes what the deterministic transform of its
name does to one channel. What makes them fast: a filter along one axis of k-space is a small matrix along the same axis
of the image, a spike in k-space is a plane wave, and a polynomial of three coordinates is a product of matrices.
Volumes are float32 tensors (x, y, z) on any device and are never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.fft
import SimpleITK as sitk
import torch
import torchio
from scipy import ndimage
from torchio.data.io import nib_to_sitk

Floats = npt.NDArray[np.float64]

LARGEST_EXPONENT = 32.0
"""Up to this sum of a bias field's coefficients, float32 exponents leave the field accurate to 1e-5."""


class Channel:
    """One channel of a case and what all its variants share.

    Parameters
    ----------
    values
        (x, y, z), float32.
    spacing
        Voxel size in mm, (x, y, z).
    device
        Where bias fields, ghosts and spikes are computed. SimpleITK and SciPy, which do the rest, know CPUs only.
    """

    def __init__(self, values: npt.NDArray[np.float32], spacing: Sequence[float], device: torch.device) -> None:
        self.spacing = tuple(float(s) for s in spacing)
        self.on_cpu = torch.from_numpy(np.ascontiguousarray(values))
        self.on_device = self.on_cpu.to(device)

    @cached_property
    def image(self) -> sitk.Image:
        """As TorchIO hands it to SimpleITK, with the origin at 0."""
        return nib_to_sitk(self.on_cpu[None], np.diag([*self.spacing, 1.0]), force_3d=True)

    @cached_property
    def lines(self) -> npt.NDArray[np.complex64]:
        """Fourier transform along z, (x, y, z // 2 + 1)."""
        spectrum: npt.NDArray[np.complex64] = scipy.fft.rfft(self.on_cpu.numpy(), axis=2)
        return spectrum

    @cached_property
    def magnitudes(self) -> torch.Tensor:
        """Magnitude of the three-dimensional spectrum, (x, y, z // 2 + 1)."""
        if self.on_device.is_cuda:
            return torch.fft.rfftn(self.on_device).abs()
        return torch.from_numpy(np.abs(scipy.fft.rfftn(self.on_cpu.numpy())))

    @cached_property
    def is_non_negative(self) -> bool:
        """Whether no magnitude of the spectrum exceeds that at frequency 0."""
        return bool(self.on_device.min() >= 0)

    @cached_property
    def highest(self) -> float:
        """Largest magnitude of the spectrum."""
        if self.is_non_negative:
            return float(self.on_device.sum(dtype=torch.float64))
        return float(self.magnitudes.max())


def bias_field(channel: Channel, *, coefficients: Sequence[float], order: int) -> torch.Tensor | None:
    """``torchio.BiasField``: times the exponential of a polynomial of the coordinates.

    None where the coefficients are too large for float32.
    """
    if np.abs(coefficients).sum() > LARGEST_EXPONENT:
        return None
    grid = np.zeros((order + 1,) * 3)
    terms = np.argwhere(np.indices(grid.shape).sum(axis=0) <= order)  # in the order of TorchIO's three loops
    grid[tuple(terms.T)] = coefficients[: len(terms)]
    x, y, z = (_powers(n, order) for n in channel.on_device.shape)
    of_x = np.einsum("abc,yb,zc->ayz", grid, y, z, optimize=True)
    left, right = (torch.from_numpy(part.astype(np.float32)).to(channel.on_device) for part in (x, of_x))
    return torch.matmul(left, right.flatten(1)).exp_().view(channel.on_device.shape).mul_(channel.on_device)


def _powers(size: int, order: int) -> Floats:
    """Powers 0 to ``order`` of an axis' coordinates in [-1, 1], (size, order + 1)."""
    coordinates = np.arange(size) - (size - 1) / 2
    return np.vander(coordinates / max(coordinates[-1], 0.5), order + 1, increasing=True)


def ghosting(channel: Channel, *, num_ghosts: int, axis: int, intensity: float, restore: float | None) -> torch.Tensor:
    """``torchio.Ghosting``: every ``num_ghosts``-th plane of k-space weakened, but not the central ones."""
    if not num_ghosts or not intensity:
        return channel.on_device.clone()
    size = channel.on_device.shape[axis]
    change = np.zeros(size)
    change[::num_ghosts] = -intensity
    width = 1 if restore is None else int(np.round(restore * size)) // 2 * 2
    start = size // 2 - width // 2
    change[start : start + width] = 0
    kernel = torch.from_numpy(_filter_along(change).astype(np.float32)).to(channel.on_device)
    ghosts = _multiplied(kernel, channel.on_device, axis)
    return ghosts.add_(channel.on_device)


def _filter_along(weights: Floats) -> Floats:
    """The real matrix that multiplies k-space, origin in the middle, by ``weights``: a circulant."""
    size = len(weights)
    impulse = scipy.fft.ifft(scipy.fft.ifftshift(weights)).real
    steps = np.arange(size)
    filtering: Floats = impulse[(steps[:, None] - steps) % size]
    return filtering


def _multiplied(matrix: torch.Tensor, volume: torch.Tensor, axis: int) -> torch.Tensor:
    if axis == 0:
        return torch.matmul(matrix, volume.flatten(1)).view(volume.shape)
    return torch.matmul(matrix, volume) if axis == 1 else torch.matmul(volume, matrix.T)


def spike(channel: Channel, *, spikes_positions: npt.ArrayLike, intensity: float) -> torch.Tensor:
    """``torchio.Spike``: points of k-space raised by multiples of its maximum, which each spike raises again."""
    shape = np.array(channel.on_device.shape)
    positions = np.reshape(np.asarray(spikes_positions), (-1, 3))
    if intensity == 0 or len(positions) == 0:
        return channel.on_device.clone()
    frequencies = np.floor(positions * shape).astype(int) - shape // 2
    heights = _spike_heights(channel, [(int(x), int(y), int(z)) for x, y, z in frequencies], intensity)
    x, y, z = (np.exp(2j * np.pi * np.outer(np.arange(n), f / n)) for n, f in zip(shape, frequencies.T, strict=True))
    of_xy = (x[:, None] * y[None] * (np.array(heights) / shape.prod())).reshape(-1, len(heights))
    left, right = np.hstack([of_xy.real, -of_xy.imag]), np.hstack([z.real, z.imag]).T
    waves = [torch.from_numpy(part.astype(np.float32)).to(channel.on_device) for part in (left, right)]
    return torch.addmm(channel.on_device.flatten(0, 1), *waves).view(channel.on_device.shape)


Frequency = tuple[int, int, int]


def _spike_heights(channel: Channel, frequencies: Sequence[Frequency], intensity: float) -> list[float]:
    """What is added at each frequency: ``intensity`` times the spectrum's maximum of that moment."""
    raised: dict[Frequency, complex] = {}
    heights = []
    for count, frequency in enumerate(frequencies, start=1):
        highest = max(map(abs, raised.values()), default=0.0)
        if highest < channel.highest:
            highest = max(highest, _highest_but(channel, raised))
        heights.append(intensity * highest)
        if count < len(frequencies):
            before = raised[frequency] if frequency in raised else _component(channel, frequency)
            raised[frequency] = before + heights[-1]
    return heights


def _highest_but(channel: Channel, raised: dict[Frequency, complex]) -> float:
    """The spectrum's largest magnitude anywhere but at these frequencies."""
    if not raised or (channel.is_non_negative and (0, 0, 0) not in raised):
        return channel.highest
    shape = np.array(channel.on_device.shape)
    half = channel.magnitudes
    # Half of the spectrum holds each pair of opposite frequencies once: one of the next len + 1 pairs is untouched.
    values, places = torch.topk(half.flatten(), min(len(raised) + 1, half.numel()))
    touched = {tuple(np.mod(frequency, shape).tolist()) for frequency in raised}
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        index = np.array(np.unravel_index(place, half.shape))
        pair = {tuple(index.tolist()), tuple(np.mod(-index, shape).tolist())}
        if pair - touched:
            return float(value)
    return 0.0


def _component(channel: Channel, frequency: Frequency) -> complex:
    """One value of the spectrum."""
    shape = channel.on_device.shape
    x, y, z = (np.exp(-2j * np.pi * f * np.arange(n) / n) for n, f in zip(shape, frequency, strict=True))
    # With PyTorch, which keeps to the threads that it was given.
    waves = torch.from_numpy(np.stack([z.real, z.imag], axis=1).astype(np.float32)).to(channel.on_device)
    along_z = torch.matmul(channel.on_device, waves).cpu().numpy()
    return complex(x @ (along_z[..., 0] + 1j * along_z[..., 1]) @ y)


def noise(channel: Channel, *, mean: float, std: float, seed: int) -> torch.Tensor:
    """``torchio.Noise``: the same numbers, of the generator that PyTorch has on CPUs."""
    drawn = torch.randn(channel.on_cpu.shape, generator=torch.Generator().manual_seed(seed))
    return drawn.mul_(std).add_(mean).add_(channel.on_cpu)


def blur(channel: Channel, *, std: Sequence[float]) -> torch.Tensor:
    """``torchio.Blur``: SciPy's Gaussian filter, ``std`` in mm along (x, y, z)."""
    return torch.from_numpy(ndimage.gaussian_filter(channel.on_cpu.numpy(), np.divide(std, channel.spacing)))


def motion(
    channel: Channel,
    *,
    degrees: npt.NDArray[np.float32],
    translation: npt.NDArray[np.float32],
    times: npt.NDArray[np.float32],
    image_interpolation: str,
) -> torch.Tensor:
    """``torchio.Motion``: planes of k-space from moved copies; only z matters, the axis along which they take turns."""
    stock = torchio.Motion(degrees, translation, times, image_interpolation)
    moves = stock.get_rigid_transforms(degrees, translation, channel.image)
    order = list(range(len(moves)))
    stock.sort_spectra(order, times)
    size = channel.on_cpu.shape[2]
    copy_of_plane = np.zeros(size, dtype=int)
    start = 0
    for copy, stop in zip(order, [*(size * times).astype(int).tolist(), size], strict=True):
        copy_of_plane[start:stop] = copy
        start = stop
    total: npt.NDArray[np.complex64] | None = None
    for copy in np.unique(copy_of_plane):
        weights = _half((copy_of_plane == copy).astype(float))
        lines = channel.lines if copy == 0 else _moved_lines(channel, stock, moves[copy], image_interpolation)
        total = lines * weights if total is None else _add_product(total, lines, weights)
    return torch.from_numpy(scipy.fft.irfft(total, n=size, axis=2, overwrite_x=True))


def _half(weights: Floats) -> npt.NDArray[np.float32]:
    """Weights of k-space, origin in the middle, as half of a spectrum of real values takes them.

    TorchIO keeps the real part of the result: the weights of opposite frequencies act as their mean.
    """
    shifted = scipy.fft.ifftshift(weights)
    mean = (shifted + np.roll(shifted[::-1], 1)) / 2
    half: npt.NDArray[np.float32] = mean[: len(mean) // 2 + 1].astype(np.float32)
    return half


def _moved_lines(
    channel: Channel, stock: torchio.Motion, move: sitk.Euler3DTransform, interpolation: str
) -> npt.NDArray[np.complex64]:
    _, moved = stock.resample_images(channel.image, [move, move], interpolation)  # the first is taken for the identity
    spectrum: npt.NDArray[np.complex64] = scipy.fft.rfft(sitk.GetArrayViewFromImage(moved).transpose(), axis=2)
    return spectrum


def _add_product(
    total: npt.NDArray[np.complex64], lines: npt.NDArray[np.complex64], weights: npt.NDArray[np.float32]
) -> npt.NDArray[np.complex64]:
    used = np.flatnonzero(weights)
    if len(used):
        part = slice(used[0], used[-1] + 1)
        total[..., part] += lines[..., part] * weights[part]
    return total


FORMS: Mapping[str, Callable[..., torch.Tensor | None]] = {
    "BiasField": bias_field,
    "Blur": blur,
    "Ghosting": ghosting,
    "Motion": motion,
    "Noise": noise,
    "Spike": spike,
}
"""By the name of TorchIO's deterministic transform; each takes that transform's arguments."""
