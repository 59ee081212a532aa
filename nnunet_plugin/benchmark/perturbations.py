"""Catalogue entry + seed -> realised transform; realised transform + volume -> perturbed volume.

All chance is in :func:`draw`, which returns what was drawn; :class:`Perturber` applies it and adds none. TorchIO draws
and defines every perturbation, so that stored parameters replay a cell exactly.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torchio

from nnunet_plugin.benchmark.catalogue import BASELINE, Catalogue, Entry
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.forms import FORMS, Channel

_IMAGE = "image"
_DRAWS_REGARDLESS_OF_SIZE = frozenset(
    {
        "RandomBiasField",
        "RandomBlur",
        "RandomGamma",
        "RandomGhosting",
        "RandomMotion",
        "RandomNoise",
        "RandomSpike",
    }
)


@dataclass(frozen=True, order=True)
class Variant:
    """One modality perturbed in one way at one severity; ``str(variant)`` is e.g. ``CT-spike-2``."""

    modality: str
    perturbation: str
    severity: int

    def __str__(self) -> str:
        """Identifier in test ids, tables and messages."""
        return f"{self.modality}-{self.perturbation}-{self.severity}"

    @property
    def key(self) -> tuple[str, str, int]:
        """The variant as it stands in a row."""
        return self.modality, self.perturbation, self.severity


BASELINE_KEY: tuple[None, str, int] = (None, BASELINE, 0)
"""The unperturbed variant as it stands in a row."""


@dataclass(frozen=True)
class Realised:
    """What was drawn: a deterministic TorchIO transform by name, with its arguments.

    Attributes
    ----------
    transform
        Name of a TorchIO transform without chance, e.g. ``Spike``.
    arguments
        Its keyword arguments; arrays keep their dtype.
    """

    transform: str
    arguments: dict[str, Any]

    def to_json(self, relative_change: float) -> str:
        """Text from which :meth:`from_json` gives the same transform to the last bit; says how much it did."""
        content = {"transform": self.transform, "arguments": self.arguments, "relative_change": relative_change}
        return json.dumps(content, default=_encode)

    @classmethod
    def from_json(cls, text: str) -> Realised:
        """Read what :meth:`to_json` wrote."""
        content = json.loads(text, object_hook=_decode)
        return cls(content["transform"], content["arguments"])


def grid(catalogue: Catalogue, modalities: Sequence[str]) -> tuple[Variant, ...]:
    """All variants but the baseline: every modality with every catalogue entry."""
    return tuple(Variant(m, e.perturbation, e.severity) for m in modalities for e in catalogue.entries)


def seed_of(run_seed: int, entry: Entry, case: str, modality: str) -> int:
    """Seed of one draw: a hash of what it is for, so that order, worker and machine do not matter.

    Returns
    -------
    int
        In [0, 2**63), as ``torch.manual_seed`` takes it.
    """
    text = json.dumps([run_seed, entry.canonical(), case, modality, entry.severity])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def draw(entry: Entry, seed: int, shape: Sequence[int]) -> Realised:
    """Let TorchIO draw the parameters of a perturbation; global random state is left as it was.

    Parameters
    ----------
    entry
        What to draw.
    seed
        From :func:`seed_of`.
    shape
        (x, y, z) of the volume that it will be applied to; a few transforms draw positions within it.
    """
    if entry.transform in _DRAWS_REGARDLESS_OF_SIZE:
        shape = [min(n, 4) for n in shape]  # TorchIO draws otherwise where an axis has one voxel only
    subject = _subject(torch.zeros(*shape), (1.0, 1.0, 1.0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transform = entry.build()(subject).history[-1]
    arguments = {name: getattr(transform, name, None) for name in transform.args_names}
    arguments |= transform._get_named_arguments()  # Noise keeps its arguments under other attribute names
    return Realised(type(transform).__name__, {name: _of_image(value) for name, value in arguments.items()})


class Perturber:
    """Perturbs one channel of a case; what its variants share is computed once.

    TorchIO's transform defines the result. Where :mod:`~nnunet_plugin.benchmark.forms` has a faster form of it, that
    is used and equals it within 1e-5 of the result's maximum; otherwise TorchIO itself is called.

    Parameters
    ----------
    volume
        (x, y, z), as the network sees it. Not changed.
    spacing
        Voxel size in mm, (x, y, z). The origin is at 0 and the direction the identity: motion turns about the origin.
    device
        Where the forms that consist of tensor operations are computed.
    """

    def __init__(
        self, volume: npt.NDArray[np.float32], spacing: Sequence[float], device: torch.device | str = "cpu"
    ) -> None:
        self.shape = volume.shape
        self._channel = Channel(volume, spacing, torch.device(device))

    def apply(self, realised: Realised) -> npt.NDArray[np.float32]:
        """Apply a drawn perturbation.

        Parameters
        ----------
        realised
            From :func:`draw`.

        Returns
        -------
        ndarray
            The perturbed volume, (x, y, z), float32; contiguous in any order.

        Raises
        ------
        BenchmarkError
            Where it is not finite, such as a bias field that overflows.
        """
        form = FORMS.get(realised.transform)
        values = form(self._channel, **realised.arguments) if form else None
        perturbed = apply_stock(realised, self._channel.on_cpu, self._channel.spacing) if values is None else values
        if not all(map(math.isfinite, torch.stack(perturbed.aminmax()).tolist())):
            raise BenchmarkError(f"{realised.transform} made values that are not finite; weaken it in the catalogue")
        result: npt.NDArray[np.float32] = perturbed.cpu().numpy()
        return result

    def relative_change(self, perturbed: npt.NDArray[np.float32]) -> float:
        """How much a perturbation did: RMS of the change over the SD of the volume, to six digits.

        Returns
        -------
        float
            0 where nothing changed; infinite where a constant volume did.
        """
        change = math.sqrt(torch.nn.functional.mse_loss(torch.from_numpy(perturbed), self._channel.on_cpu))
        spread = self._spread
        return float(f"{change / spread:.6g}") if spread else (math.inf if change else 0.0)

    @cached_property
    def _spread(self) -> float:
        return float(np.std(self._channel.on_cpu.numpy(), dtype=np.float64))


def apply_stock(realised: Realised, volume: torch.Tensor, spacing: Sequence[float]) -> torch.Tensor:
    """Apply a drawn perturbation with TorchIO's own transform; parameters as of :class:`Perturber`."""
    transform = getattr(torchio, realised.transform)(**realised.arguments)
    with torch.random.fork_rng(devices=[]):
        perturbed: torch.Tensor = transform(_subject(volume, spacing))[_IMAGE].data[0]
    return perturbed.float()


def _subject(volume: torch.Tensor, spacing: Sequence[float]) -> torchio.Subject:
    return torchio.Subject(**{_IMAGE: torchio.ScalarImage(tensor=volume[None], affine=np.diag([*spacing, 1.0]))})


def _of_image(value: Any) -> Any:
    return value[_IMAGE] if isinstance(value, dict) and value.keys() == {_IMAGE} else value


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "array": value.tolist(), "shape": value.shape}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a drawn parameter of type {type(value).__name__} cannot be stored")


def _decode(value: dict[str, Any]) -> Any:
    if value.keys() == {"dtype", "array", "shape"}:
        return np.array(value["array"], dtype=value["dtype"]).reshape(value["shape"])
    return value
