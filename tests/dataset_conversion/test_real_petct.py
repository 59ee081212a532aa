"""Real PET/CT: five studies of limbs and trunks, cropped, with CT and PET on different grids."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from dataset_conversion.cli import main


@pytest.fixture
def dataset(real_petct, raw):
    options = f"-d 502 --name STS --labels GTV --spacing 4 --hold-out 1 --folds 2 --jobs 1 {real_petct}"
    assert main(["hecktor", *options.split()]) == 0
    return raw / "Dataset502_STS"


def test_real_studies_are_converted(dataset, real_petct):
    table = pd.read_csv(dataset / "conversion.csv", index_col="case")
    oracle = json.loads((real_petct.parent / "oracles" / "sts_computed.json").read_text())["cases"]
    known = {case["case"].replace("_", "-"): case for case in oracle}
    assert len(table) == 5
    assert (table["head_finder"] == "body centre").all()
    assert table["message"].str.startswith("no brain uptake found: crop centred on the body centre").all()
    for name, row in table.iterrows():
        case = known[name]
        assert row["ct_size"] == "x".join(map(str, case["ct_size"]))
        assert row["pet_size"] == "x".join(map(str, case["pet_size"]))
        assert row["GTV_mm3_before"] / 1000 == pytest.approx(case["ct_mask_ml"], rel=1e-3)
        # 4 mm voxels, and no voxel of a tumour was cut off.
        assert row["GTV_mm3_after"] / 1000 == pytest.approx(case["ct_mask_ml"], rel=0.03)
        folder, suffix = dataset, "Ts" if row["role"] == "hold-out" else "Tr"
        pet, label = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / path)))
            for path in (f"images{suffix}/{name}_0001.nii.gz", f"labels{suffix}/{name}.nii.gz")
        )
        assert pet.shape[1:] == (50, 50)
        assert pet.shape[0] == round(case["ct_size"][2] * 3.27 / 4)
        # The oracle's mask lies on the PET grid: the two agree to a Dice of about 0.93.
        assert pet[label == 1].mean() == pytest.approx(case["suv_mean"], rel=0.1)


def test_real_volumes_agree_with_a_plain_resampling(dataset, real_petct):
    for image, path in (("PT", "imagesTr/STS-003_0001.nii.gz"), ("CT", "imagesTr/STS-003_0000.nii.gz")):
        converted = sitk.ReadImage(str(dataset / path))
        plain = sitk.Resample(
            sitk.ReadImage(str(real_petct / "imagesTr" / f"STS-003__{image}.nii.gz"), sitk.sitkFloat32),
            converted,
            sitk.Transform(),
            sitk.sitkLinear,
            {"PT": 0, "CT": -1024}[image],
        )
        expected, found = sitk.GetArrayFromImage(plain), sitk.GetArrayFromImage(converted)
        np.testing.assert_allclose(found, np.clip(expected, found.min(), found.max()), atol=0.02)
        assert np.mean((found > found.min()) & (found < found.max())) > 0.3
