from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_conversion.anatomy import Lesion, Waves, contours, draw_patient, hounsfield, uptake
from dataset_conversion.geometry import bounds_mm, find_head
from dataset_conversion.hecktor import ConversionError, find_cases, read_case
from dataset_conversion.phantom import CohortRecipe, case_name, make_case, missing_structure, write_cohort
from dataset_conversion.phantom_clinic import clinical_table


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    write_cohort(folder, CohortRecipe(cases=8))
    return folder


def content(images):
    return [(sitk.GetArrayFromImage(image), image.GetOrigin(), image.GetSpacing()) for image in images]


def same(one, other):
    return all(
        np.array_equal(a[0], b[0]) and np.allclose(a[1:], b[1:], atol=1e-4)
        for a, b in zip(content(one), content(other), strict=True)
    )


def test_cohort_reads_as_a_hecktor_download(cohort):
    cases, problems = find_cases(cohort)
    assert problems == {}
    assert sorted(case.name for case in cases) == sorted(
        ["CHUM-001", "CHUP-001", "CHUS-001", "CHUV-001", "HGJ-001", "HMR-001", "MDA-001", "CHUM-002"]
    )
    assert "SYNTHETIC" in (cohort / "NOTE.txt").read_text()
    for index in range(8):
        files = next(case for case in cases if case.name == case_name(index))
        images = read_case(files, 2)
        drawn = make_case(index, CohortRecipe(cases=99))
        # Written without loss, and independent of the size of the cohort.
        assert same((images.ct, images.pet, images.label), drawn)


def test_a_case_depends_on_seed_and_number():
    recipe = CohortRecipe(cases=3)
    assert same(make_case(2, recipe), make_case(2, recipe))
    assert not same(make_case(2, recipe)[2:], make_case(2, CohortRecipe(cases=3, seed=1))[2:])


@pytest.mark.parametrize("index", range(7))
def test_ct_and_pet_lie_on_different_grids(index):
    ct, pet, label = make_case(index, CohortRecipe())
    assert label.GetSize() == ct.GetSize()
    assert label.GetOrigin() == ct.GetOrigin()
    assert ct.GetSpacing() == (4, 4, 4)
    assert 60 <= ct.GetSize()[2] <= 77
    assert pet.GetSpacing() != ct.GetSpacing()
    assert np.all(np.abs((np.array(pet.GetOrigin()) - ct.GetOrigin()) / 4 % 1) > 0)
    assert not np.allclose(bounds_mm(ct), bounds_mm(pet), atol=1)


@pytest.mark.parametrize("index", range(12))
def test_cases_hold_the_structures_of_the_pattern_and_a_brain(index):
    ct, pet, label = make_case(index, CohortRecipe(seed=5))
    present = {1, 2} - {{"GTVp": 1, "GTVn": 2}.get(missing_structure(index))}
    array = sitk.GetArrayFromImage(label)
    assert set(np.unique(array)) == {0} | present
    # Nothing of a tumour is cut off by the border of the image.
    assert not np.any([array[0], array[-1]])
    head = find_head(ct, pet)
    assert head.finder == "brain"
    hu, suv = sitk.GetArrayFromImage(ct), sitk.GetArrayFromImage(pet)
    assert hu.min() >= -1024
    assert suv.min() >= 0
    assert np.percentile(suv, 99.9) < 15


def test_uptake_is_highest_in_tumours_and_brain_and_follows_the_contours():
    """Physical positions decide: PET, on its own grid, is hot where the label, on the CT's, has a tumour."""
    ratios = []
    for index in (0, 1, 2, 3):
        _, pet, label = make_case(index, CohortRecipe())
        on_ct = sitk.GetArrayFromImage(sitk.Resample(pet, label))
        array = sitk.GetArrayFromImage(label)
        around = sitk.GetArrayFromImage(sitk.BinaryDilate(label > 0, (4, 4, 4))) - (array > 0)
        ratios += [on_ct[array == value].mean() / on_ct[around > 0].mean() for value in (1, 2)]
    assert min(ratios) > 1.3
    assert np.mean(ratios) > 2


def test_a_patient_is_the_same_on_any_grid():
    patient = draw_patient(np.random.default_rng(4))
    points = np.random.default_rng(0).uniform((-90, -90, -260), (90, 90, 10), size=(4000, 3))
    order = np.random.default_rng(1).permutation(len(points))
    for function in (hounsfield, uptake, contours):
        np.testing.assert_array_equal(function(points, patient)[order], function(points[order], patient))


def test_anatomy_has_the_numbers_of_its_tissues():
    patient = draw_patient(np.random.default_rng(0), primary=False, nodes=False)
    points = np.array(
        [
            (0, 0, 30),  # above the head
            (0, 74, -65),  # skull
            (0, 60, -65),  # brain, outer part
            (0, 3, -65),  # brain, centre
            (0, 0, -160),  # airway
            (0, 32, -160),  # marrow of a vertebra
            (0, 53, -160),  # spinal canal
            (0, -70, -158),  # teeth
        ],
        dtype=float,
    )
    np.testing.assert_array_equal(hounsfield(points, patient), [-1000, 1000, 35, 35, -1000, 150, 30, 1500])
    suv = uptake(points, patient)
    np.testing.assert_allclose(suv[[0, 2, 3, 4]], [0, patient.brain, 0.8 * patient.brain, 0])
    assert not contours(points, patient).any()


@pytest.mark.parametrize("seed", range(30))
def test_drawn_values_lie_in_their_ranges(seed):
    patient = draw_patient(np.random.default_rng(seed))
    ranges = {"GTVp": ((8, 21), (4.5, 12)), "GTVn": ((6.5, 16), (3.5, 10)), "reactive": ((4, 7), (2, 3.8))}
    for lesion in (*patient.lesions, *patient.reactive):
        (small, large), (faint, bright) = ranges[lesion.structure]
        assert small <= lesion.radius <= large
        assert faint <= lesion.suv <= bright
    structures = [lesion.structure for lesion in patient.lesions]
    assert structures.count("GTVp") == 1
    assert 1 <= structures.count("GTVn") <= 3
    assert len(patient.reactive) <= 2
    assert 0.92 <= patient.scale <= 1.08


def test_waves_have_mean_zero_and_sd_one():
    points = np.random.default_rng(0).uniform(-500, 500, size=(20000, 3))
    values = Waves.draw(np.random.default_rng(1), 10, 30)(points)
    assert values.mean() == pytest.approx(0, abs=0.03)
    assert values.std() == pytest.approx(1, abs=0.05)


def test_contour_without_observer_error_is_the_uptake_edge():
    waves = Waves.draw(np.random.default_rng(2), 2, 4)
    flat = Waves(np.zeros((1, 3)), np.array([np.pi / 2]))  # zero everywhere
    points = np.random.default_rng(0).uniform(-20, 20, size=(5000, 3))

    def lesion(surface, offset):
        return Lesion("GTVp", (0, 0, 0), 10, 5, 10, False, surface, waves, offset, flat)

    np.testing.assert_array_equal(lesion(waves, 0.0).within(points)[0], lesion(waves, 0.0).contour(points))
    distance = np.linalg.norm(points, axis=1)
    np.testing.assert_array_equal(lesion(flat, 0.2).contour(points), np.flatnonzero(distance < 12))


def test_second_call_writes_nothing_and_completes_what_is_missing(tmp_path):
    recipe = CohortRecipe(cases=2)
    assert write_cohort(tmp_path, recipe) == 2
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")}
    assert write_cohort(tmp_path, recipe) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")} == before
    (tmp_path / "labelsTr" / "CHUP-001.nii.gz").unlink()
    assert write_cohort(tmp_path, recipe) == 1
    assert set(tmp_path.rglob("*.nii.gz")) == set(before)


def test_another_cohort_is_not_mixed_in(tmp_path):
    write_cohort(tmp_path / "a", CohortRecipe(cases=1))
    with pytest.raises(ConversionError, match=r'now .*"seed": 1'):
        write_cohort(tmp_path / "a", CohortRecipe(cases=1, seed=1))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").touch()
    with pytest.raises(ConversionError, match="is no synthetic cohort"):
        write_cohort(tmp_path / "b", CohortRecipe(cases=1))


def test_the_clinical_table_has_hecktors_columns_and_codes(cohort, oracles):
    """Against the documented layout of the challenge's file."""
    documented = json.loads((oracles / "hecktor_layout.json").read_text())["hecktor2022"]
    with (cohort / "hecktor2022_clinical_info_training.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == set(documented["clinical_columns"])
    centres = documented["encodings"]["CenterID"]
    for row in rows:
        assert row["PatientID"].startswith(centres[row["CenterID"]] + "-")
        assert row["Gender"] in ("M", "F")
        assert all(row[name] in ("0", "1", "NaN") for name in ("Tobacco", "Alcohol", "Surgery"))


def test_clinical_values_depend_on_seed_and_name_alone():
    few, many = (clinical_table(names, [True] * len(names), 3) for names in (["MDA-001"], ["HMR-004", "MDA-001"]))
    assert few.splitlines()[-1] == many.splitlines()[-1]
    assert clinical_table(["MDA-001"], [True], 4) != few
    names = [f"CHUS-{i:03d}" for i in range(200)]
    assert clinical_table(names, [True] * 200, 0).count("NaN") > 200
