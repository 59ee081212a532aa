"""The ensemble against nnU-Net's own predictor and ensembling."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.ensembling.ensemble import ensemble_folders
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.metrics import dice_per_structure
from nnunet_plugin.benchmark.predictor import Ensemble

CASE = "CHUM-001"


def stock_predictor(folder: Path, folds: tuple[int, ...]) -> nnUNetPredictor:
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), folds)
    return predictor


def voxels_that_agree(a: np.ndarray, b: np.ndarray) -> float:
    return float((a == b).mean())


@pytest.fixture(scope="module")
def finer(toy, tmp_path_factory) -> list[Path]:
    """A case that is not at the model's spacing, with an oblique direction."""
    folder = tmp_path_factory.mktemp("finer")
    files = []
    for channel in range(2):
        image = sitk.ReadImage(str(toy.images / f"{CASE}_{channel:04d}.nii.gz"))
        image.SetSpacing((3.0, 3.5, 4.5))
        image.SetDirection((0.96, -0.28, 0, 0.28, 0.96, 0, 0, 0, 1))
        files.append(folder / f"FINE_{channel:04d}.nii.gz")
        sitk.WriteImage(image, str(files[-1]))
    return files


def test_argmax_of_mean_logits_equals_nnunets_prediction(toy, finer, tmp_path):
    ours = Ensemble(toy.folder, device="cpu", label_rule="argmax", average="logits")
    own = [toy.images / f"{CASE}_{channel:04d}.nii.gz" for channel in range(2)]
    files = [[str(file) for file in case] for case in (own, finer)]
    outputs = [str(tmp_path / "own"), str(tmp_path / "finer")]
    stock_predictor(toy.folder, (0, 1)).predict_from_files_sequential(files, outputs)
    for case, output in zip((own, finer), outputs, strict=True):
        expected = sitk.GetArrayFromImage(sitk.ReadImage(f"{output}.nii.gz"))
        prepared = ours.prepare(case)
        label_map = ours.predict(prepared, prepared.array).label_map
        assert len(np.unique(expected)) == 3
        assert voxels_that_agree(label_map, expected) >= 0.9999


def test_mean_softmax_equals_nnunetv2_ensemble(toy, tmp_path):
    """Through --save_probabilities of each fold and nnU-Net's ensembling of the files."""
    files = [[str(toy.images / f"{CASE}_{channel:04d}.nii.gz") for channel in range(2)]]
    for fold in (0, 1):
        folder = tmp_path / f"fold_{fold}"
        folder.mkdir()
        stock_predictor(toy.folder, (fold,)).predict_from_files_sequential(
            files, [str(folder / CASE)], save_probabilities=True
        )
    metadata = {f"{name}_json_file_or_dict": str(toy.folder / f"{name}.json") for name in ("dataset", "plans")}
    ensemble_folders(
        [str(tmp_path / f"fold_{fold}") for fold in (0, 1)],
        str(tmp_path / "ensemble"),
        save_merged_probabilities=True,
        num_processes=1,
        **metadata,
    )
    probabilities = np.load(tmp_path / "ensemble" / f"{CASE}.npz")["probabilities"]
    for rule in ("argmax", "0.5"):
        ours = Ensemble(toy.folder, device="cpu", label_rule=rule)
        prepared = ours.prepare([Path(file) for file in files[0]])
        prediction = ours.predict(prepared, prepared.array)
        expected = probabilities.argmax(0)
        if rule == "0.5":
            expected = np.where(probabilities.max(0) >= 0.5, expected, 0)
        assert voxels_that_agree(prediction.label_map, expected) >= 0.9999
        for name, label in ours.structures.items():
            assert prediction.max_probability[name] == pytest.approx(probabilities[label].max(), abs=2e-3)


def test_certainty_survives_resampling(model_copy, finer, tmp_path):
    """Logits so large that a probability underflows to zero: its logarithm must not spread as NaN.

    The oracle is nnU-Net with one fold, for which the mean of the softmax is the softmax.
    """
    file = model_copy / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    for name in ("output_block.conv.conv.weight", "output_block.conv.conv.bias"):
        checkpoint["network_weights"][name] *= 300
    torch.save(checkpoint, file)
    ours = Ensemble(model_copy, folds=["0"], device="cpu", label_rule="argmax")
    stock = stock_predictor(model_copy, (0,))
    stock.predict_from_files_sequential([[str(image) for image in finer]], [str(tmp_path / "stock")])
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "stock.nii.gz")))
    prepared = ours.prepare(finer)
    label_map = ours.predict(prepared, prepared.array).label_map
    assert len(np.unique(expected)) == 3
    assert voxels_that_agree(label_map, expected) >= 0.999


def test_cudnn_does_not_choose_by_timing(toy):
    Ensemble(toy.folder, device="cpu")
    assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.deterministic


def test_channels_of_one_name_are_refused(model_copy):
    _edit(model_copy / "dataset.json", lambda c: c.update(channel_names={"0": "MRI", "1": "MRI"}))
    with pytest.raises(BenchmarkError, match="MRI, MRI do not have different names"):
        Ensemble(model_copy, device="cpu")


def test_half_leaves_undecided_voxels_to_the_background(toy):
    maps = {}
    for rule in ("argmax", "0.5"):
        ensemble = Ensemble(toy.folder, device="cpu", label_rule=rule)
        prepared = ensemble.prepare([toy.images / f"{CASE}_{channel:04d}.nii.gz" for channel in range(2)])
        maps[rule] = ensemble.predict(prepared, prepared.array).label_map
    kept = maps["0.5"] > 0
    assert (maps["argmax"][kept] == maps["0.5"][kept]).all()
    assert 0 < kept.sum() < (maps["argmax"] > 0).sum()


def test_fold_agreement_is_the_dice_of_the_folds(toy):
    """Against the folds predicted one at a time."""
    files = [toy.images / f"{CASE}_{channel:04d}.nii.gz" for channel in range(2)]
    both = Ensemble(toy.folder, device="cpu")
    prepared = both.prepare(files)
    alone = [Ensemble(toy.folder, folds=[fold], device="cpu").predict(prepared, prepared.array) for fold in "01"]
    expected = dice_per_structure(alone[0].label_map, alone[1].label_map, both.structures)
    assert both.predict(prepared, prepared.array).fold_agreement == pytest.approx(expected)
    assert all(np.isnan(value) for value in alone[0].fold_agreement.values())


def test_channels_travel_to_xyz_and_back(toy):
    ensemble = Ensemble(toy.folder, device="cpu")
    array = np.random.default_rng(0).random((2, 4, 5, 6), dtype=np.float32)
    volume = ensemble.channel_xyz(array, 1)
    assert volume.shape == (6, 5, 4)
    np.testing.assert_array_equal(ensemble.with_channel_xyz(array, 1, volume), array)
    changed = ensemble.with_channel_xyz(array, 1, volume + 1)
    np.testing.assert_array_equal(changed[0], array[0])
    np.testing.assert_allclose(changed[1], array[1] + 1)


def test_network_that_gives_nan_is_reported(toy):
    ensemble = Ensemble(toy.folder, device="cpu")
    prepared = ensemble.prepare([toy.images / f"{CASE}_{channel:04d}.nii.gz" for channel in range(2)])
    with pytest.raises(BenchmarkError, match="NaN"):
        ensemble.predict(prepared, np.full_like(prepared.array, np.nan))


@pytest.fixture
def model_copy(toy, tmp_path) -> Path:
    return Path(shutil.copytree(toy.folder, tmp_path / "model"))


def _edit(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_plans_that_transpose_the_axes(model_copy, toy, tmp_path):
    """nnU-Net puts the axis of the largest spacing first; here x, then z, then y, each with a spacing of its own."""
    order, spacing = [2, 0, 1], [5.0, 4.0, 3.0]
    _edit(model_copy / "plans.json", lambda c: c.update(transpose_forward=order, transpose_backward=[1, 2, 0]))
    _edit(model_copy / "plans.json", lambda c: c["configurations"]["3d_fullres"].update(spacing=spacing))
    ours = Ensemble(model_copy, device="cpu", label_rule="argmax", average="logits")
    assert ours.spacing_xyz == (5.0, 3.0, 4.0)
    files = [toy.images / f"{CASE}_{channel:04d}.nii.gz" for channel in range(2)]
    stock = stock_predictor(model_copy, (0, 1))
    stock.predict_from_files_sequential([[str(file) for file in files]], [str(tmp_path / "stock")])
    prepared = ours.prepare(files)
    label_map = ours.predict(prepared, prepared.array).label_map
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "stock.nii.gz")))
    assert voxels_that_agree(label_map, expected) >= 0.9999
    volume = ours.channel_xyz(prepared.array, 1)
    image = sitk.ReadImage(str(files[1]))
    extent = [size * step for size, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    assert np.multiply(volume.shape, ours.spacing_xyz) == pytest.approx(extent, abs=4)
    np.testing.assert_array_equal(ours.with_channel_xyz(prepared.array, 1, volume), prepared.array)
    assert ours.read_label(toy.labels / f"{CASE}.nii.gz").shape == expected.shape


def test_region_based_model_is_refused(model_copy):
    regions = {"background": 0, "whole": [1, 2], "core": 2}
    _edit(model_copy / "dataset.json", lambda c: c.update(labels=regions, regions_class_order=[1, 2]))
    for fold in (0, 1):
        file = model_copy / f"fold_{fold}" / "checkpoint_final.pth"
        checkpoint = torch.load(file, weights_only=False)
        for name, weight in checkpoint["network_weights"].items():
            if weight.ndim and weight.shape[0] == 3:
                checkpoint["network_weights"][name] = weight[:2]
        torch.save(checkpoint, file)
    with pytest.raises(BenchmarkError, match="region-based"):
        Ensemble(model_copy, device="cpu")


def test_what_is_no_model_is_refused(tmp_path, model_copy):
    with pytest.raises(BenchmarkError, match=r"no plans\.json.*expected a trained model"):
        Ensemble(tmp_path, device="cpu")
    with pytest.raises(BenchmarkError, match="fold 7; trained folds: 0, 1"):
        Ensemble(model_copy, folds=["0", "7"], device="cpu")
    with pytest.raises(BenchmarkError, match="twice"):
        Ensemble(model_copy, folds=["0", "0"], device="cpu")
    (model_copy / "fold_0" / "checkpoint_final.pth").write_bytes(b"no checkpoint")
    with pytest.raises(BenchmarkError, match="cannot load this model"):
        Ensemble(model_copy, device="cpu")


def test_label_values_that_the_model_does_not_know_are_refused(toy, tmp_path):
    ensemble = Ensemble(toy.folder, device="cpu")
    label = sitk.ReadImage(str(toy.labels / f"{CASE}.nii.gz"))
    np.testing.assert_array_equal(ensemble.read_label(toy.labels / f"{CASE}.nii.gz"), sitk.GetArrayFromImage(label))
    sitk.WriteImage(label * 3, str(tmp_path / "values.nii.gz"))
    with pytest.raises(BenchmarkError, match=r"values\.nii\.gz: holds the label values \[3\.0, 6\.0\]"):
        ensemble.read_label(tmp_path / "values.nii.gz")


def test_trainer_is_found_without_the_user_naming_it(toy):
    """In a fresh process whose environment does not have nnUNet_extTrainer."""
    code = f"from nnunet_plugin.benchmark.predictor import Ensemble; print(Ensemble({str(toy.folder)!r}).structures)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": ""}, check=False)
    assert "{'GTVp': 1, 'GTVn': 2}" in result.stdout, result.stderr
