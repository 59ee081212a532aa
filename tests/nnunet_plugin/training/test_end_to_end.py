"""From raw images to a prediction, by the commands that a user types."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunet_plugin.training.environment import extended_trainer_path

TRAIN = "nnUNetv2_train 501 3d_fullres 0 -tr nnUNetTrainerDynUNet -p DynUNetPlans -device cpu"
PLAN = "nnUNetv2_robustness_plan -d 501 --patch 16 --features 4 6 8 --iterations 2 --batch-norm-passes 2 -np 1"
PREDICT = (
    "nnUNetv2_predict -d 501 -c 3d_fullres -f 0 -tr nnUNetTrainerDynUNet -p DynUNetPlans -device cpu -npp 0 -nps 0"
)


def write_raw(folder: Path) -> None:
    random = np.random.default_rng(0)
    names = [f"case_{index}" for index in range(4)]
    for name in names:
        labels = np.zeros((32, 32, 32), dtype=np.uint8)
        labels[8:14, 8:14, 8:14], labels[18:24, 18:24, 18:24] = 1, 2
        ct = random.normal(40, 15, labels.shape) + 10 * labels
        pet = random.normal(1, 0.1, labels.shape) + 3 * (labels > 0)
        for array, path in (
            (ct, folder / "imagesTr" / f"{name}_0000.nii.gz"),
            (pet, folder / "imagesTr" / f"{name}_0001.nii.gz"),
            (labels, folder / "labelsTr" / f"{name}.nii.gz"),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            image = sitk.GetImageFromArray(array.astype(np.float32) if array is not labels else array)
            image.SetSpacing((4.0, 4.0, 4.0))
            sitk.WriteImage(image, str(path))
    description = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "GTVp": 1, "GTVn": 2},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    (folder / "splits_final.json").write_text(json.dumps([{"train": names[:3], "val": names[3:]}]))


class Shell:
    """Runs commands as a user of this environment would."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.environment = os.environ | {
            "PATH": sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"],
            "nnUNet_raw": str(base / "nnUNet_raw"),
            "nnUNet_preprocessed": str(base / "nnUNet_preprocessed"),
            "nnUNet_results": str(base / "nnUNet_results"),
            "nnUNet_extTrainer": extended_trainer_path({}),
            "nnUNet_n_proc_DA": "0",
            "nnUNet_def_n_proc": "1",
            "OMP_NUM_THREADS": "1",
        }

    def __call__(self, command: str) -> str:
        done = subprocess.run(
            command.split(), env=self.environment, cwd=self.base, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def labels(self, folder: str) -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(self.base / folder / "case_3.nii.gz")))


@pytest.mark.slow
def test_stock_commands_train_resume_and_predict(tmp_path: Path) -> None:
    raw = tmp_path / "nnUNet_raw" / "Dataset501_Toy"
    write_raw(raw)
    shell = Shell(tmp_path)

    assert "nnUNetv2_preprocess -d 501" in shell(f"{PLAN} --epochs 1")
    shell("nnUNetv2_preprocess -d 501 -plans_name DynUNetPlans -c 3d_fullres -np 1 --no_progress")
    shell(TRAIN)
    model = tmp_path / "nnUNet_results" / raw.name / "nnUNetTrainerDynUNet__DynUNetPlans__3d_fullres"
    final = model / "fold_0" / "checkpoint_final.pth"
    assert torch.load(final, weights_only=False)["current_epoch"] == 1
    assert (model / "fold_0" / "validation" / "summary.json").is_file()

    # More epochs do not touch what preprocessing depends on: the same data are trained on for longer.
    shell(f"{PLAN} --epochs 2")
    assert "Epoch 1" in shell(f"{TRAIN} --c")
    checkpoint = torch.load(final, weights_only=False)
    assert checkpoint["current_epoch"] == 2
    assert checkpoint["inference_allowed_mirroring_axes"] is None

    images = tmp_path / "images"
    images.mkdir()
    for source in (raw / "imagesTr").glob("case_3_*"):
        (images / source.name).symlink_to(source)
    shell(f"{PREDICT} -i images -o without --disable_tta")
    shell(f"{PREDICT} -i images -o with")
    assert shell.labels("without").shape == (32, 32, 32)
    # With test-time augmentation left on, nnU-Net mirrors along the checkpoint's axes: along none.
    assert np.array_equal(shell.labels("without"), shell.labels("with"))
