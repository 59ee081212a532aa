"""The catalogue's perturbations of one CT and one PET volume: ours against the same transforms of TorchIO."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from operator import add

import numpy as np
import torch
import torchio

from bench.results import Agreement, Row, Settings
from bench.timing import Times, interleaved, limited_threads, timed
from bench.volumes import FULL, QUICK, Volume, head, z_scored
from nnunet_plugin.benchmark.catalogue import Entry, load_catalogue
from nnunet_plugin.benchmark.perturbations import Perturber, Realised, draw, seed_of

_SPACING = (1.0, 1.0, 1.0)
_LIMIT = 1e-5
_UNIT = "of the reference's maximum"
_SETUP = "setup"


def measure(settings: Settings) -> list[Row]:
    """All entries, all but those of motion, and each perturbation; summed over severities and both volumes."""
    shape = QUICK if settings.quick else FULL
    ct = head(shape)
    volumes = {"CT": ct, "PET": z_scored(ct)}
    entries = load_catalogue("paper").entries
    with limited_threads(1):
        # The first call of a transform loads what it needs; no repeat is to carry that.
        middle = tuple(slice(n // 2, n // 2 + 16) for n in shape)
        _one_pass({name: volume[middle] for name, volume in volumes.items()}, entries, lambda _text: None)
        passes = [_one_pass(volumes, entries, settings.show) for _ in range(settings.repeats)]
        return _rows(passes, shape)


Pass = tuple[dict[str, Times], dict[str, float]]


def _one_pass(volumes: Mapping[str, Volume], entries: Sequence[Entry], show: Callable[[str], None]) -> Pass:
    """Times and largest differences by perturbation; what variants of a volume share is computed anew in each pass."""
    times: dict[str, Times] = defaultdict(lambda: Times([0.0], [0.0]))
    differences: dict[str, float] = defaultdict(float)
    for name, volume in volumes.items():
        seconds, perturber = timed(partial(Perturber, volume, _SPACING))
        times[_SETUP] += Times([seconds], [0.0])
        for entry in entries:
            show(f"{name} {entry.perturbation} {entry.severity}")
            realised = draw(entry, seed_of(0, entry, "bench", name), volume.shape)
            of_entry, ours, theirs = interleaved(
                partial(perturber.apply, realised), partial(_stock, realised, volume), 1
            )
            times[entry.perturbation] += of_entry
            difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
            differences[entry.perturbation] = max(differences[entry.perturbation], difference)
    return times, differences


def _stock(realised: Realised, volume: Volume) -> Volume:
    image = torchio.ScalarImage(tensor=torch.from_numpy(volume)[None], affine=np.diag([*_SPACING, 1.0]))
    transform = getattr(torchio, realised.transform)(**realised.arguments)
    changed: Volume = transform(torchio.Subject(image=image)).image.data[0].numpy()
    return changed


def _rows(passes: Sequence[Pass], shape: tuple[int, ...]) -> list[Row]:
    found = [name for name in passes[0][0] if name != _SETUP]
    members = {"perturbations": [_SETUP, *found]}
    members["perturbations_without_motion"] = [name for name in members["perturbations"] if name != "motion"]
    members |= {f"perturbations_{name}": [name] for name in found}
    rows = []
    for row_name, names in members.items():
        times = Times.joined([reduce(add, [times[name] for name in names]) for times, _ in passes])
        largest = max(differences.get(name, 0.0) for _, differences in passes for name in names)
        agreement = Agreement.within(largest, _LIMIT, _UNIT)
        rows.append(times.row(row_name, "TorchIO with the same drawn parameters", agreement, shape=list(shape)))
    return rows
