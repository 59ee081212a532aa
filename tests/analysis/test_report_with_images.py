"""The parts of a report that need the cohort's images and the model: descriptors, correlations, pictures."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from analysis.report import write_report
from analysis.results import Sources


@pytest.fixture
def run(run_with_images: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run_with_images, tmp_path / "run")


def test_descriptors_are_those_of_the_label_files(run: Path, toy: Any) -> None:
    """Volume and mean intensity against SimpleITK's label statistics."""
    write_report(run)
    table = pd.read_csv(run / "report" / "tables" / "descriptors.csv").set_index(["case", "structure"])
    assert len(table) == 5  # three cases, the last without GTVn
    for (case, structure), row in table.iterrows():
        label = sitk.ReadImage(str(toy.labels / f"{case}.nii.gz"))
        value = {"GTVp": 1, "GTVn": 2}[structure]
        for channel, modality in enumerate(("CT", "PET")):
            statistics = sitk.LabelStatisticsImageFilter()
            image = sitk.ReadImage(str(toy.images / f"{case}_{channel:04d}.nii.gz"))
            statistics.Execute(sitk.Cast(image, sitk.sitkFloat64), sitk.Cast(label, sitk.sitkUInt8))
            assert row[f"{modality}_mean"] == pytest.approx(statistics.GetMean(value))
            assert row[f"{modality}_max"] == pytest.approx(statistics.GetMaximum(value))
        voxels = statistics.GetCount(value)
        assert row["volume_mm3"] == pytest.approx(voxels * np.prod(label.GetSpacing()))


def test_definitions_exclusions_and_family_are_printed(run: Path) -> None:
    page = write_report(run).html.read_text()
    assert "No descriptors of GTVn in 1 case: the reference lacks it." in page
    definitions = pd.read_csv(run / "report" / "tables" / "descriptor_definitions.csv")
    assert len(definitions) == 21
    for name in definitions["name"]:
        assert f'<th scope="row">{name}</th>' in page
    correlations = pd.read_csv(run / "report" / "tables" / "correlations.csv")
    assert len(correlations) == 13 * 4 * 2
    family = correlations["p"].notna().sum()
    assert f"Benjamini-Hochberg over {family} tests" in re.sub(r"\s+", " ", page)


def test_pictures_are_drawn_only_where_the_model_is_named(run: Path, toy: Any) -> None:
    unasked = write_report(run)
    assert not [file for file in unasked.figures if file.name.startswith("worst_")]
    assert any(f"--model {toy.folder}" in note for note in unasked.notes)
    assert f"--model {toy.folder}" in unasked.html.read_text()
    asked = write_report(run, sources=Sources(model=toy.folder))
    drawn = [file for file in asked.figures if file.name.startswith("worst_")]
    assert len(drawn) + 2 * len(asked.notes) == 2 * 4  # four perturbed modalities and perturbations
    assert drawn
    assert "data:image/png;base64," in asked.html.read_text()


def test_a_recorded_model_is_never_loaded(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run folder is data: what its run.toml names as a model must not be loaded unasked."""

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("analysis.report.draw_pictures", refuse)
    monkeypatch.setattr("nnunet_plugin.benchmark.predictor.Ensemble.__init__", refuse)
    write_report(run)


def test_moved_images_are_found_where_they_are_named(run: Path, toy: Any, tmp_path: Path) -> None:
    text = (run / "run.toml").read_text()
    (run / "run.toml").write_text(text.replace(str(toy.images), "/nowhere").replace(str(toy.labels), "/nowhere"))
    lost = write_report(run)
    (note,) = (note for note in lost.notes if "descriptors" in note)
    assert "/nowhere: no such folder of images" in note
    found = write_report(run, sources=Sources(images=toy.images, labels=toy.labels))
    assert not [note for note in found.notes if "descriptors" in note]


def test_a_changed_image_costs_one_case(run: Path, toy: Any, tmp_path: Path) -> None:
    images = shutil.copytree(toy.images, tmp_path / "images")
    with sorted(images.iterdir())[0].open("ab") as file:
        file.write(b"x")
    report = write_report(run, sources=Sources(images=images))
    (note,) = (note for note in report.notes if "descriptors" in note)
    assert "changed since it was measured" in note
    table = pd.read_csv(run / "report" / "tables" / "descriptors.csv")
    assert table["case"].nunique() == 2


def test_the_clinical_table_is_on_the_page(run: Path, tmp_path: Path) -> None:
    cases = sorted(file.stem for file in (run / "rows").glob("*.jsonl"))
    (tmp_path / "clinical.csv").write_text(f"PatientID,Gender\n{cases[0]},F\n{cases[1]},NaN\n")
    page = write_report(run, sources=Sources(clinical=tmp_path / "clinical.csv")).html.read_text()
    cells = [re.sub(r"\s+", " ", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", page, re.DOTALL)]
    place = cells.index("Gender")
    assert cells[place + 1 : place + 4] == ["female", "1 of 1", "2"]
