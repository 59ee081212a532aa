"""Files of a measured case, found again, checked and read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from analysis.case_images import find_case_files, read_volumes
from analysis.errors import AnalysisError
from nnunet_plugin.benchmark.model_folder import file_sha256
from nnunet_plugin.benchmark.results import RunFolder


@pytest.fixture
def run(tmp_path, make_run, make_simulation, make_settings) -> RunFolder:
    """A run of one case of 3 x 4 x 5 voxels whose name is also a pattern."""
    case = "A+B.1"
    for index, name in enumerate((f"images/{case}_0000", f"images/{case}_0001", f"labels/{case}")):
        array = np.arange(60, dtype=np.float32).reshape(5, 4, 3) + index
        image = sitk.GetImageFromArray(array if index < 2 else (array % 3).astype(np.uint8))
        image.SetSpacing((1.0, 2.0, 3.0))
        file = tmp_path / f"{name}.nii.gz"
        file.parent.mkdir(exist_ok=True)
        sitk.WriteImage(image, str(file))
    settings = make_settings([case])
    settings["provenance"] |= {"images": str(tmp_path / "images"), "labels": str(tmp_path / "labels")}
    rows = make_simulation(1)["CHUM-001"]
    run = make_run(tmp_path / "run", {case: rows}, settings)
    lines = (run / "rows" / f"{case}.jsonl").read_text().splitlines()
    files = {"CT": f"images/{case}_0000", "PET": f"images/{case}_0001", "label": f"labels/{case}"}
    hashes = {role: file_sha256(tmp_path / f"{name}.nii.gz") for role, name in files.items()}
    lines[0] = json.dumps({"case": case, "sha256": hashes})
    (run / "rows" / f"{case}.jsonl").write_text("\n".join(lines) + "\n")
    return RunFolder(run)


def folder_of(run: RunFolder, role: str) -> Path:
    return Path(run.settings["provenance"][role])


def test_axes_and_units(run):
    files = find_case_files(run, "A+B.1")
    assert [file.name for file in (*files.images, files.label)] == [
        "A+B.1_0000.nii.gz",
        "A+B.1_0001.nii.gz",
        "A+B.1.nii.gz",
    ]
    images, label, spacing = read_volumes(files)
    assert list(images) == ["CT", "PET"]
    assert images["PET"].shape == label.shape == (3, 4, 5)
    assert images["PET"].dtype == np.float32
    assert images["CT"][1, 0, 0] == 1  # x is what runs fastest in the file
    assert images["PET"][0, 1, 0] == 4
    assert spacing == (1.0, 2.0, 3.0)


def test_a_second_format_beside_the_measured_one(run):
    images = folder_of(run, "images")
    (images / "A+B.1_0000.mha").write_bytes(b"not what was measured")
    assert find_case_files(run, "A+B.1").images[0].name == "A+B.1_0000.nii.gz"


def test_moved_folders(run, tmp_path):
    shutil.move(folder_of(run, "images"), tmp_path / "elsewhere")
    with pytest.raises(AnalysisError, match=r"no such folder of images \(recorded in .*run.toml\); was it moved"):
        find_case_files(run, "A+B.1")
    assert find_case_files(run, "A+B.1", images=tmp_path / "elsewhere").images[0].parent == tmp_path / "elsewhere"


def test_changed_label(run):
    file = folder_of(run, "labels") / "A+B.1.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(file)) * 0, str(file))
    with pytest.raises(AnalysisError, match=r"A\+B.1.nii.gz changed since it was measured"):
        find_case_files(run, "A+B.1")


def test_case_without_rows(run):
    with pytest.raises(AnalysisError, match="found no measured case"):
        find_case_files(run, "CHUM-009")


def test_other_grid(run):
    files = find_case_files(run, "A+B.1")
    image = sitk.ReadImage(str(files.images[1]))
    image.SetOrigin((1, 0, 0))
    sitk.WriteImage(image, str(files.images[1]))
    with pytest.raises(AnalysisError, match="PET is not on the grid of CT: origin"):
        read_volumes(files)


def test_no_image(run):
    files = find_case_files(run, "A+B.1")
    files.images[0].write_bytes(b"x")
    with pytest.raises(AnalysisError, match="nothing that can be read as an image"):
        read_volumes(files)
