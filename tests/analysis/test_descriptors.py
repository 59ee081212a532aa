"""Descriptors against the authors' formulas on whole volumes, their published table, and IBSI's reference values."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from analysis.descriptors import STUDY_13, Describer, compactness, definitions, describe, mask_entropy
from analysis.errors import AnalysisError
from bench.descriptors import by_the_formulas

MODALITIES = ("CT", "PET", "T1")
SPACINGS = ((1.0, 1.0, 1.0), (0.7, 1.3, 3.0), (4.0, 0.5, 2.0))
MESH_COLUMNS = ("mesh_volume_mm3", "mesh_surface_mm2", "compactness_2", "sphericity")

Case = tuple[np.ndarray, dict[str, np.ndarray], tuple[float, float, float]]


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """A few boxes, often at the volume's border, and single voxels flipped; never empty."""
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    mask = np.zeros(shape, bool)
    voxel = st.tuples(*[st.integers(0, n - 1) for n in shape])
    for _ in range(draw(st.integers(1, 3))):
        corners = draw(voxel), draw(voxel)
        mask[tuple(slice(min(pair), max(pair) + 1) for pair in zip(*corners, strict=True))] = True
    for index in draw(st.lists(voxel, max_size=4)):
        mask[index] ^= True
    if not mask.any():
        mask[draw(voxel)] = True
    return mask


@st.composite
def cases(draw: st.DrawFn) -> Case:
    mask = draw(masks())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return mask, volumes_of(mask, rng), draw(st.sampled_from(SPACINGS))


def volumes_of(mask: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "CT": rng.integers(-1000, 1500, mask.shape).astype(np.int16),
        "PET": (rng.gamma(2, 1.5, mask.shape) + 4 * mask).astype(np.float32),
        "T1": rng.normal(500, 90, mask.shape),
    }


def ball(shape: tuple[int, int, int] = (12, 13, 14), radius: float = 4.0) -> np.ndarray:
    grid = np.indices(shape) - np.reshape(np.array(shape) // 2, (3, 1, 1, 1))
    return np.linalg.norm(grid, axis=0) <= radius


def described(*args: Any, **options: Any) -> dict[str, float]:
    row = describe(*args, **options)
    assert row is not None
    return row


class TestStudy:
    @given(cases())
    def test_equals_the_formulas_on_the_whole_volume(self, case: Case) -> None:
        expected = by_the_formulas(*case)
        row = described(*case)
        study = {name: row[name] for name in expected}
        assert study == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_equals_them_on_a_larger_volume_in_either_memory_order(self, order: Any) -> None:
        rng = np.random.default_rng(1)
        mask = np.asarray(ndimage.gaussian_filter(rng.normal(size=(40, 50, 60)), 4) > 0.06, order=order)
        volumes = {name: np.asarray(volume, order=order) for name, volume in volumes_of(mask, rng).items()}
        expected = by_the_formulas(mask, volumes, SPACINGS[1])
        assert expected["regions"] > 3
        row = described(mask, volumes, SPACINGS[1])
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9)

    @given(masks())
    def test_boundary_length_is_the_sum_of_scipys_response_to_a_bool_mask(self, mask: np.ndarray) -> None:
        if not ndimage.sobel(np.array([False, True, False]))[2]:
            pytest.skip("this machine casts negative numbers to unsigned bytes as zero")
        assert described(mask, {}, SPACINGS[0])["boundary_length_mm"] == np.sum(ndimage.sobel(mask))

    def test_hand_counted_cube(self) -> None:
        mask = np.zeros((9, 9, 9), bool)
        mask[3:6, 3:6, 3:6] = True
        volume = np.where(mask, 5.0, 1.0)
        volume[4, 4, 4] = 32.0
        row = described(mask, {"PET": volume}, (2, 2, 2))
        assert row["volume_mm3"] == 27 * 8
        assert row["surface_mm2"] == pytest.approx(26 * 4)
        assert row["regions"] == 1
        assert row["centroid_distance_mm"] == pytest.approx(math.sqrt(3))  # index 4 against 9 / 2
        # 5 x 5 columns of voxels see the lower face from two slices, the upper one from two others.
        assert row["boundary_length_mm"] == pytest.approx(100 * 2)
        assert (row["PET_max"], row["PET_mean"], row["PET_contrast"]) == (32, 6, 5)
        assert row["PET_sd"] == pytest.approx(math.sqrt(26))

    def test_surface_and_compactness_are_means_over_regions(self) -> None:
        mask = np.zeros((9, 9, 9), bool)
        mask[1:4, 1:4, 1:4] = mask[7, 7, 7] = True
        row = described(mask, {}, (1, 1, 1))
        assert row["regions"] == 2
        assert row["surface_mm2"] == (26 + 1) / 2
        assert row["compactness"] == pytest.approx((compactness(26, 27) + compactness(1, 1)) / 2)

    def test_published_compactness_and_entropy_follow_from_the_published_counts(self, oracles: Path) -> None:
        folder = oracles.parent / "reference" / "paper_results" / "Baseline"
        if not folder.is_dir():
            pytest.skip(f"no {folder}, the authors' tables")
        table = pd.read_csv(folder / "results_add.csv")
        counts = pd.read_csv(folder / "results_pymia.csv", sep=";")
        table = table.assign(voxels=counts[["TP", "TN", "FP", "FN"]].sum(axis=1))
        table = table[table["Volume"] > 0]
        assert len(table) == 92
        entropy = [mask_entropy(int(inside), int(all_)) for inside, all_ in table[["Volume", "voxels"]].to_numpy()]
        assert entropy == pytest.approx(table["Entropy"].to_list(), rel=1e-9)
        whole = table[table["Regions"] == 1]
        assert len(whole) == 64
        expected = whole["Compactness"].to_list()
        assert compactness(whole["Surface Area"], whole["Volume"]) == pytest.approx(expected, rel=1e-9)


def tolerance_of(entry: dict[str, Any]) -> float:
    """IBSI's own, or half of the third significant digit where it gives none."""
    if entry["tol"] is not None:
        return float(entry["tol"])
    return 0.5 * 10 ** (math.floor(math.log10(abs(entry["value"]))) - 2)


class TestIbsi:
    @pytest.mark.parametrize(
        ("column", "family", "feature", "power"),
        [
            ("volume_mm3", "morphology", "volume (voxel counting)", 1),
            ("mesh_volume_mm3", "morphology", "volume (mesh)", 1),
            ("mesh_surface_mm2", "morphology", "surface area (mesh)", 1),
            ("compactness_2", "morphology", "compactness 2", 1),
            ("sphericity", "morphology", "sphericity", 1),
            ("phantom_mean", "intensity_stat", "mean", 1),
            ("phantom_sd", "intensity_stat", "variance", 2),
            ("phantom_max", "intensity_stat", "maximum", 1),
            ("phantom_entropy", "intensity_histogram", "entropy", 1),
        ],
    )
    def test_digital_phantom(self, oracles: Path, column: str, family: str, feature: str, power: int) -> None:
        folder = oracles / "ibsi_digital_phantom"
        phantom, mask = (nib.load(folder / f"{name}.nii.gz") for name in ("phantom", "mask"))
        spacing = [float(s) for s in phantom.header.get_zooms()]
        volumes = {"phantom": np.asarray(phantom.dataobj)}
        row = described(np.asarray(mask.dataobj) > 0, volumes, spacing, bin_width={"phantom": 1})
        published = json.loads((oracles / "ibsi_reference.json").read_text())["features"]
        entry = published[family][feature]["digital_phantom"]
        assert row[column] ** power == pytest.approx(entry["value"], rel=0, abs=tolerance_of(entry))

    @pytest.mark.parametrize("spacing", SPACINGS)
    @pytest.mark.parametrize("voxel", [(2, 2, 2), (0, 4, 2), (0, 0, 0)])
    @pytest.mark.filterwarnings("error")
    def test_one_voxel_is_an_octahedron(self, spacing: tuple[float, ...], voxel: tuple[int, ...]) -> None:
        mask = np.zeros((5, 5, 5), bool)
        mask[voxel] = True
        row = described(mask, volumes_of(mask, np.random.default_rng(0)), spacing)
        a, b, c = spacing
        area = math.sqrt((a * b) ** 2 + (b * c) ** 2 + (a * c) ** 2)
        assert row["mesh_volume_mm3"] == pytest.approx(a * b * c / 6)
        assert row["mesh_surface_mm2"] == pytest.approx(area)
        assert row["sphericity"] == pytest.approx((math.pi * (a * b * c) ** 2) ** (1 / 3) / area)
        assert row["compactness_2"] == pytest.approx(row["sphericity"] ** 3)
        assert [row[f"{name}_{key}"] for name in MODALITIES for key in ("sd", "entropy")] == [0] * 6
        assert all(math.isfinite(value) for value in row.values())

    def test_large_ball_is_nearly_a_ball(self) -> None:
        row = described(ball((50, 50, 50), 20), {}, (1, 1, 1))
        assert row["mesh_volume_mm3"] == pytest.approx(4 / 3 * math.pi * 20**3, rel=0.01)
        assert 0.9 < row["sphericity"] < 1

    @given(masks(), st.sampled_from(SPACINGS))
    def test_mesh_is_closed_at_the_volumes_border(self, mask: np.ndarray, spacing: tuple[float, ...]) -> None:
        inner, outer = (described(m, {}, spacing) for m in (np.pad(mask, 3), mask))
        assert [outer[name] for name in MESH_COLUMNS] == pytest.approx([inner[name] for name in MESH_COLUMNS])

    @pytest.mark.parametrize(
        ("name", "values", "bits"),
        [
            ("CT", [-0.1, 0, 24.9, 25], 1.5),
            ("ct", [-0.1, 0, 24.9, 25], 1.5),
            ("PET", [0, 0.24, 0.25, 0.5], 1.5),
            ("PT", [0, 0.24, 0.25, 0.5], 1.5),
            ("T1", range(64), 5),
            ("T1", range(-640, 0, 10), 5),
            ("T1", [0, 1, 31, 32], 1.5),
            ("T1", [7, 7, 7], 0),
        ],
    )
    def test_entropy_of_the_histogram(self, name: str, values: Any, bits: float) -> None:
        volume = np.array([*values, 1000]).reshape(-1, 1, 1)
        mask = np.arange(len(volume)).reshape(volume.shape) < len(values)
        assert described(mask, {name: volume}, (1, 1, 1))[f"{name}_entropy"] == pytest.approx(bits)

    def test_bin_width_can_be_set_for_each_modality(self) -> None:
        volume = np.array([0.0, 30, 60, 90]).reshape(4, 1, 1)
        row = described(volume >= 0, {"CT": volume, "T1": volume}, (1, 1, 1), bin_width={"CT": 50, "T1": 100})
        assert (row["CT_entropy"], row["T1_entropy"]) == (1, 0)


class TestProperties:
    @given(cases())
    def test_spacing_scales_each_unit_as_it_should(self, case: Case) -> None:
        mask, volumes, spacing = case
        once = described(mask, volumes, spacing)
        twice = described(mask, volumes, [2 * s for s in spacing])
        factor = {"mm": 2, "mm²": 4, "mm³": 8}
        expected = {d.name: once[d.name] * factor.get(d.unit, 1) for d in definitions(MODALITIES)}
        assert twice == pytest.approx(expected, rel=1e-9, nan_ok=True)

    @given(cases(), st.sampled_from([-1024.0, 250.0]))
    def test_an_offset_moves_mean_and_maximum_only(self, case: Case, offset: float) -> None:
        mask, volumes, spacing = case
        plain = described(mask, volumes, spacing)
        moved = described(mask, {name: v.astype(float) + offset for name, v in volumes.items()}, spacing)
        for name in MODALITIES:
            for key, change in (("sd", 0), ("contrast", 0), ("mean", offset), ("max", offset)):
                expected = plain[f"{name}_{key}"] + change
                assert moved[f"{name}_{key}"] == pytest.approx(expected, rel=1e-9, abs=1e-8, nan_ok=True)

    def test_structures_of_a_case_share_its_volumes(self) -> None:
        first = ball()
        second = np.roll(first, 3, axis=2) & ~first
        volumes = volumes_of(first, np.random.default_rng(3))
        describer = Describer(volumes, SPACINGS[1])
        rows = [describer.describe(mask) for mask in (first, second)]
        assert rows == [describe(mask, volumes, SPACINGS[1]) for mask in (first, second)]
        assert rows[0] != rows[1]

    def test_inputs_are_left_alone(self) -> None:
        mask = ball()
        volumes = volumes_of(mask, np.random.default_rng(4))
        before = mask.copy(), {name: volume.copy() for name, volume in volumes.items()}
        describe(mask, volumes, (1, 1, 1))
        assert np.array_equal(mask, before[0])
        assert all(np.array_equal(volumes[name], before[1][name]) for name in MODALITIES)

    def test_empty_structure_has_no_descriptors(self) -> None:
        assert describe(np.zeros((3, 4, 5), bool), {"CT": np.zeros((3, 4, 5))}, (1, 1, 1)) is None

    @pytest.mark.filterwarnings("error")
    def test_structure_that_fills_the_volume_has_no_contrast(self) -> None:
        mask = np.ones((3, 4, 5), bool)
        row = described(mask, {"CT": np.ones(mask.shape)}, (1, 1, 1))
        assert [name for name, value in row.items() if not math.isfinite(value)] == ["CT_contrast"]
        assert str(row["mask_entropy"]) == str(row["CT_entropy"]) == "0.0"


class TestDefinitions:
    @pytest.mark.parametrize("modalities", [(), ("CT", "PET"), ("T1", "b=800 {dwi}", "pt")])
    def test_name_every_column_in_order(self, modalities: tuple[str, ...]) -> None:
        mask = ball()
        row = described(mask, {name: np.ones(mask.shape) for name in modalities}, (1, 1, 1))
        table = definitions(modalities)
        assert [d.name for d in table] == list(row)
        assert all(d.label and d.unit and d.definition for d in table)
        assert {d.source.split()[0].rstrip(";") for d in table} == {"study", "IBSI"}

    def test_hold_the_studys_thirteen(self) -> None:
        names = [d.name for d in definitions(("CT", "PET")) if d.source.startswith("study")]
        assert len(STUDY_13) == len(set(STUDY_13)) == 13
        assert set(STUDY_13) <= set(names)
        assert set(names) - set(STUDY_13) == {"CT_max", "PET_mean"}

    def test_give_units_and_bins_of_each_modality(self) -> None:
        table = {d.name: d for d in definitions(("Ct", "pet", "T1"), bin_width={"pet": 0.5})}
        assert [table[f"{name}_mean"].unit for name in ("Ct", "pet", "T1")] == ["HU", "SUV", "image units"]
        assert "bins of 25 HU that start at 0" in table["Ct_entropy"].definition
        assert "bins of 0.5 SUV" in table["pet_entropy"].definition
        assert "32 equal bins" in table["T1_entropy"].definition


class TestBadInput:
    mask = ball()
    volumes = volumes_of(mask, np.random.default_rng(5))

    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (mask.astype(np.uint8), r"mask: found uint8 .*; expected bool .*; pass label_map == label"),
            (mask[0], r"mask: found bool of shape \(13, 14\); expected bool \(x, y, z\)"),
            (mask[1:], r"volume CT: found \(12, 13, 14\); expected the mask's \(11, 13, 14\); use one grid"),
        ],
    )
    def test_mask(self, mask: np.ndarray, message: str) -> None:
        with pytest.raises(AnalysisError, match=message):
            describe(mask, self.volumes, (1, 1, 1))

    def test_volume_of_another_shape(self) -> None:
        with pytest.raises(AnalysisError, match=r"volume PET: found \(1, 12, 13, 14\); expected the mask's"):
            describe(self.mask, self.volumes | {"PET": self.volumes["PET"][None]}, (1, 1, 1))

    @pytest.mark.parametrize("values", [[math.nan], [math.inf], [-math.inf], [math.inf, -math.inf]])
    @pytest.mark.filterwarnings("error")
    def test_volume_that_is_not_finite(self, values: list[float]) -> None:
        volume = self.volumes["PET"].copy()
        volume.ravel()[: len(values)] = values
        with pytest.raises(
            AnalysisError, match=rf"volume PET: {len(values)} of 2184 voxels are not finite; .*; convert"
        ):
            Describer({"PET": volume}, (1, 1, 1))

    @pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, -1, 1), (1, math.nan, 1), (1, 1, math.inf)])
    def test_spacing(self, spacing: tuple[float, ...]) -> None:
        with pytest.raises(
            AnalysisError, match=r"spacing: found \(1.0, .*; expected three positive mm, \(x, y, z\); check"
        ):
            describe(self.mask, self.volumes, spacing)

    @pytest.mark.parametrize(
        ("bin_width", "message"),
        [
            ({"CTT": 25}, r"found CTT = 25; expected .* CT, PET, T1; did you mean 'CT'\?"),
            ({"CT": 0}, "found CT = 0; expected a positive number"),
            ({"CT": math.nan}, "found CT = nan; expected a positive number"),
            ({"CT": math.inf}, "found CT = inf; expected a positive number"),
        ],
    )
    def test_bin_width(self, bin_width: dict[str, float], message: str) -> None:
        with pytest.raises(AnalysisError, match=message):
            describe(self.mask, self.volumes, (1, 1, 1), bin_width=bin_width)

    @pytest.mark.parametrize("modalities", [("CT", "CT"), ("CT", "mask")])
    def test_modalities_whose_columns_collide(self, modalities: tuple[str, ...]) -> None:
        with pytest.raises(AnalysisError, match=f"modalities: found {', '.join(modalities)}; expected .*; rename"):
            definitions(modalities)

    def test_channel_that_would_overwrite_a_column(self) -> None:
        with pytest.raises(AnalysisError, match="mask_entropy"):
            describe(self.mask, {"mask": self.volumes["CT"]}, (1, 1, 1))
