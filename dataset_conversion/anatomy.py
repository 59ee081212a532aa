"""A made-up head and neck with tumours: drawn once from a seed, then evaluated at any point in space.

Nothing here is a patient. A `Patient` is drawn with all its randomness; `hounsfield`, `uptake` and `contours`
are pure functions of it and of points, so that CT, PET and labels of one patient can lie on different grids.

Points are (n, 3) arrays in mm in the patient's own frame: origin at the top of the head, x to the left, y to
the back, z up, so that the neck has negative z.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Triple: TypeAlias = tuple[float, float, float]

STRUCTURES = ("GTVp", "GTVn")

_SITES: dict[str, tuple[float, Triple]] = {
    "oropharynx": (0.45, (17, -2, -166)),
    "tongue base": (0.25, (6, -20, -178)),
    "larynx": (0.20, (8, -10, -222)),
    "nasopharynx": (0.10, (7, 2, -142)),
}
_NODE_LOW, _NODE_HIGH = (30, 5, -215), (44, 32, -165)
_WOBBLE, _TEXTURE, _NECROSIS = 0.12, 0.12, 0.55
_OBSERVER_OFFSET, _OBSERVER_WOBBLE = 0.09, 0.10
_LARGE_MM = 14.0


@dataclass(frozen=True)
class Waves:
    """A smooth random field of mean 0 and SD 1 that can be evaluated anywhere: a sum of plane waves."""

    vectors: Array
    phases: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, low_mm: float, high_mm: float, count: int = 8) -> Waves:
        """Draw waves with lengths between two bounds."""
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = rng.uniform(low_mm, high_mm, size=(count, 1))
        return cls(2 * np.pi * directions / lengths, rng.uniform(0, 2 * np.pi, size=count))

    def __call__(self, points: Array) -> Array:
        """Return the field at points (n, 3), shape (n,)."""
        return np.asarray(np.sqrt(2 / len(self.phases)) * np.cos(points @ self.vectors.T + self.phases).sum(axis=1))


@dataclass(frozen=True)
class Lesion:
    """A tumour or node: a wobbly sphere of a radius in mm with its uptake in SUV and its excess in HU."""

    structure: str
    centre: Triple
    radius: float
    suv: float
    hu: float
    necrotic: bool
    surface: Waves
    texture: Waves
    observer_offset: float
    observer_surface: Waves

    def within(self, points: Array) -> tuple[npt.NDArray[np.intp], Array]:
        """Return indices (m,) of the points inside, and distance (m,) from the centre, 1 at the surface."""
        return self._within(points, observer=False)

    def contour(self, points: Array) -> npt.NDArray[np.intp]:
        """Return indices of the points inside the reference contour: the surface as an observer drew it."""
        return self._within(points, observer=True)[0]

    def _within(self, points: Array, *, observer: bool) -> tuple[npt.NDArray[np.intp], Array]:
        reach = 2 * self.radius
        near = np.flatnonzero(_ellipsoid(points, self.centre, (reach, reach, reach)))
        offsets = points[near] - np.array(self.centre)
        distances = np.linalg.norm(offsets, axis=1)
        unit = offsets / np.maximum(distances, 1e-6)[:, None]
        surface = self.radius * (1 + _WOBBLE * self.surface(unit))
        if observer:
            surface *= 1 + self.observer_offset + _OBSERVER_WOBBLE * self.observer_surface(unit)
        relative = distances / surface
        return near[relative < 1], relative[relative < 1]


@dataclass(frozen=True)
class Patient:
    """Everything random about one patient; uptake in SUV, lengths in mm, the yaw in rad."""

    scale: float
    yaw: float
    airway_radius: float
    background: float
    brain: float
    organs: tuple[tuple[Triple, Triple, float], ...]
    lesions: tuple[Lesion, ...]
    reactive: tuple[Lesion, ...]
    tissue_texture: Waves
    uptake_texture: Waves

    @property
    def structures(self) -> set[str]:
        """Which of GTVp and GTVn the patient has."""
        return {lesion.structure for lesion in self.lesions}


def draw_patient(rng: np.random.Generator, *, primary: bool = True, nodes: bool = True) -> Patient:
    """Draw a patient with or without a primary tumour and lymph node metastases."""
    lesions = [_draw_primary(rng)] if primary else []
    lesions += _draw_nodes(rng, int(rng.integers(1, 4)) if nodes else 0, lesions)
    reactive = _draw_nodes(rng, int(rng.integers(0, 3)), lesions, reactive=True)
    return Patient(
        scale=float(rng.uniform(0.92, 1.08)),
        yaw=float(rng.normal(0, 0.05)),
        airway_radius=float(rng.uniform(7, 10)),
        background=float(rng.uniform(1, 1.5)),
        brain=float(rng.uniform(6, 8)),
        organs=tuple(_draw_organs(rng)),
        lesions=tuple(lesions),
        reactive=tuple(reactive),
        tissue_texture=Waves.draw(rng, 10, 30),
        uptake_texture=Waves.draw(rng, 20, 50),
    )


def hounsfield(points: Array, patient: Patient) -> Array:
    """Return the CT number in HU at points (n, 3), shape (n,)."""
    body = _outline(points)
    hu = np.full(len(points), -1000.0)
    hu[body] = _body_hounsfield(points[body], patient)
    return hu


def uptake(points: Array, patient: Patient) -> Array:
    """Return the uptake in SUV at points (n, 3), shape (n,), as a perfect scanner would see it."""
    body = _outline(points)
    suv = np.zeros(len(points))
    suv[body] = _body_uptake(points[body], patient)
    return suv


def _body_hounsfield(points: Array, patient: Patient) -> Array:
    tissue = _outline(points, rim=5)
    hu = np.full(len(points), -100.0)
    hu[tissue] = 40 + 12 * patient.tissue_texture(points[tissue])
    hu[tissue & _neck_fat(points)] = -80
    hu[_ellipsoid(points, (0, 3, -65), (64, 78, 57))] = 1000
    hu[_brain(points)] = 35
    jaw = _tube(points, (0, -15), (50, 68), (-192, -165)) & ~_tube(points, (0, -15), (42, 60), (-192, -165))
    hu[jaw & (points[:, 1] < 0)] = 700
    teeth = _tube(points, (0, -15), (42, 58), (-166, -150)) & ~_tube(points, (0, -15), (34, 50), (-166, -150))
    hu[teeth & (points[:, 1] < -25)] = 1500
    spine = (-np.inf, -135.0)
    hu[_tube(points, (0, 32), (13, 13), spine) | _tube(points, (0, 53), (12, 12), spine)] = 450
    hu[_tube(points, (0, 32), (10, 10), spine)] = 150
    hu[_tube(points, (0, 53), (7, 7), spine)] = 30
    hu[_airway(points, patient)] = -1000
    for lesion in (*patient.reactive, *patient.lesions):
        index, _ = lesion.within(points)
        hu[index] = 40 + lesion.hu
    return hu


def _body_uptake(points: Array, patient: Patient) -> Array:
    tissue = _outline(points, rim=5) & ~_neck_fat(points)
    suv = np.full(len(points), 0.4)
    suv[tissue] = patient.background * (1 + 0.15 * patient.uptake_texture(points[tissue]))
    for centre, radii, value in patient.organs:
        organ = _ellipsoid(points, centre, radii)
        suv[organ] = np.maximum(suv[organ], value)
    suv[_brain(points)] = patient.brain
    suv[_brain(points, part=0.55)] = patient.brain * 0.8
    suv[_airway(points, patient)] = 0
    for lesion in (*patient.reactive, *patient.lesions):
        index, relative = lesion.within(points)
        values = lesion.suv * (1 + _TEXTURE * lesion.texture(points[index]))
        if lesion.necrotic:
            values[relative < 0.5] *= 1 - _NECROSIS
        suv[index] = np.maximum(values, 0)
    return suv


def contours(points: Array, patient: Patient) -> npt.NDArray[np.uint8]:
    """Return the reference label at points (n, 3), shape (n,): 0, 1 for GTVp, 2 for GTVn."""
    body = _outline(points)
    label = np.zeros(len(points), dtype=np.uint8)
    # The primary comes first among the lesions and is painted last: where both overlap, it wins.
    for lesion in reversed(patient.lesions):
        index = lesion.contour(points)
        label[index[body[index]]] = STRUCTURES.index(lesion.structure) + 1
    return label


def _draw_primary(rng: np.random.Generator) -> Lesion:
    names = list(_SITES)
    site = names[int(rng.choice(len(names), p=[_SITES[name][0] for name in names]))]
    x, y, z = np.array(_SITES[site][1]) + rng.normal(0, 3, size=3)
    side = rng.choice([-1, 1])
    return _draw_lesion(rng, "GTVp", (float(side * x), float(y), float(z)), (13.5, 8, 21), (4.5, 12))


def _draw_nodes(rng: np.random.Generator, count: int, beside: list[Lesion], *, reactive: bool = False) -> list[Lesion]:
    nodes: list[Lesion] = []
    for _ in range(50):  # a neck may be too full for the last one
        if len(nodes) == count:
            break
        x, y, z = rng.uniform(_NODE_LOW, _NODE_HIGH)
        centre = (float(rng.choice([-1, 1]) * x), float(y), float(z))
        radii, suv = ((5.3, 4, 7), (2, 3.8)) if reactive else ((10, 6.5, 16), (3.5, 10))
        node = _draw_lesion(rng, "reactive" if reactive else "GTVn", centre, radii, suv)
        if all(_apart(node, other) for other in (*nodes, *beside)):
            nodes.append(node)
    return nodes


def _apart(one: Lesion, other: Lesion) -> bool:
    distance = np.linalg.norm(np.subtract(one.centre, other.centre))
    return bool(distance > one.radius + other.radius)


def _draw_lesion(
    rng: np.random.Generator, structure: str, centre: Triple, radii: Triple, suv: tuple[float, float]
) -> Lesion:
    """Draw a lesion with a log-normal radius, given as median, smallest and largest."""
    median, smallest, largest = radii
    radius = float(np.clip(median * np.exp(rng.normal(0, 0.28)), smallest, largest))
    reactive = structure == "reactive"
    necrotic = bool(rng.random() < 0.5) and radius > _LARGE_MM
    return Lesion(
        structure=structure,
        centre=centre,
        radius=radius,
        suv=float(rng.uniform(*suv)),
        hu=0.0 if reactive else float(rng.uniform(5, 20)),
        necrotic=necrotic,
        surface=Waves.draw(rng, 2, 4),
        texture=Waves.draw(rng, 8, 16),
        observer_offset=float(rng.normal(0, _OBSERVER_OFFSET)),
        observer_surface=Waves.draw(rng, 2, 4),
    )


def _draw_organs(rng: np.random.Generator) -> Iterator[tuple[Triple, Triple, float]]:
    """Draw organs with physiological uptake: centre, half axes, SUV."""
    for side in (-1.0, 1.0):
        yield (side * 52, 12, -152), (11, 15, 20), float(rng.uniform(2, 3))
        yield (side * 30, -22, -192), (9, 13, 10), float(rng.uniform(2, 3))
        inflamed = 1.0 if rng.random() < 0.2 else 0.0
        yield (side * 17, -3, -166), (7, 8, 10), float(rng.uniform(3, 4.5)) + inflamed
    yield (0, -12, -222), (13, 14, 14), float(rng.uniform(2.5, 4))
    yield (0, -32, -165), (20, 25, 15), float(rng.uniform(1.5, 2.5))


def _outline(points: Array, rim: float = 0) -> Mask:
    """Return which points lie in the body, more than ``rim`` mm below the skin."""
    below = np.clip(-235 - points[:, 2], 0, 70)
    across, along = 58 + 2 * below - rim, 60 + 0.4 * below - rim
    neck = (points[:, 0] / across) ** 2 + ((points[:, 1] - 8) / along) ** 2 < 1
    head = _ellipsoid(points, (0, 0, -112), (74 - rim, 92 - rim, 112 - rim))
    jaw = _ellipsoid(points, (0, -35, -165), (52 - rim, 55 - rim, 42 - rim))
    return np.asarray(head | jaw | (neck & (points[:, 2] < -150)))


def _brain(points: Array, part: float = 1) -> Mask:
    return _ellipsoid(points, (0, 3, -65), (57 * part, 71 * part, 50 * part))


def _neck_fat(points: Array) -> Mask:
    sides = (_tube(points, (side * 42, 25), (13, 18), (-230, -160)) for side in (-1, 1))
    return np.asarray(np.logical_or(*sides))


def _airway(points: Array, patient: Patient) -> Mask:
    return _tube(points, (0, 0), (patient.airway_radius, patient.airway_radius), (-np.inf, -124))


def _ellipsoid(points: Array, centre: Triple, radii: Triple) -> Mask:
    # Column by column: a sum over an axis of three takes five times as long.
    x, y, z = ((points[:, axis] - centre[axis]) / radii[axis] for axis in range(3))
    return np.asarray(x * x + y * y + z * z < 1)


def _tube(points: Array, centre: tuple[float, float], radii: tuple[float, float], z: tuple[float, float]) -> Mask:
    across, along = ((points[:, axis] - centre[axis]) / radii[axis] for axis in range(2))
    return np.asarray((across * across + along * along < 1) & (points[:, 2] > z[0]) & (points[:, 2] < z[1]))
