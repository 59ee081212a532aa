"""Pictures of worst cells: what is drawn is what was measured, the right way round, or there is a reason."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from analysis.pictures.case_figure import Panel, draw_figure
from analysis.pictures.slices import View, Window, axial, axial_spacing, crop_around, largest_slice
from analysis.pictures.worst_cells import draw_pictures
from nnunet_plugin.benchmark.perturbations import Variant
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.run import measure
from nnunet_plugin.benchmark.settings import Options, open_benchmark

CT_SPIKE, PET_NOISE = Variant("CT", "spike", 2), Variant("PET", "noise", 3)


@pytest.fixture(scope="module")
def measured(toy, tmp_path_factory) -> Options:
    """A run of two variants on copies of the toy cohort and model, all in one folder; tests change copies of it."""
    root = tmp_path_factory.mktemp("measured")
    for name, source in (("model", toy.folder), ("imagesTs", toy.images), ("labelsTs", toy.labels)):
        shutil.copytree(source, root / name)
    (root / "dataset.json").write_text(json.dumps({"synthetic": True}))
    options = Options(root / "model", root / "imagesTs", root / "labelsTs", root / "run", device="cpu")
    measure(open_benchmark(options), [CT_SPIKE, PET_NOISE])
    return options


@pytest.fixture
def run(measured, tmp_path) -> RunFolder:
    """A copy of the run alone: its images and model are where they were."""
    shutil.copytree(measured.run, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture
def model(measured) -> Path:
    return measured.model


@pytest.fixture
def moved(measured, tmp_path) -> dict[str, Path]:
    """Copies of images, labels and model that a test may spoil."""
    folders = {"images": measured.images, "labels": measured.labels, "model": measured.model}
    return {role: shutil.copytree(folder, tmp_path / "moved" / role) for role, folder in folders.items()}


def cells(*wanted: tuple[Variant, str, str | None, float]) -> pd.DataFrame:
    records = [
        {**variant.__dict__, "structure": structure, "n": 3, "worst_case": case, "worst_delta": delta}
        for variant, structure, case, delta in wanted
    ]
    return pd.DataFrame.from_records(records)


ONE = cells((CT_SPIKE, "GTVp", "CHUM-001", 0.1))


def no_predictions(monkeypatch) -> None:
    def refuse(*_args):
        raise AssertionError("predicted")

    monkeypatch.setattr("nnunet_plugin.benchmark.predictor.Ensemble.predict", refuse)


def test_pictures_come_in_the_order_of_the_cells(run, tmp_path, model):
    seen = []
    wanted = cells(
        (PET_NOISE, "GTVn", "CHUP-002", 0.2), (CT_SPIKE, "GTVp", "CHUM-001", 0.1), (CT_SPIKE, "GTVn", "CHUP-002", 0.1)
    )
    pictures = draw_pictures(run, wanted, model, tmp_path / "out", progress=lambda done, of: seen.append((done, of)))
    assert pictures.reasons == []
    names = [drawing.name for drawing in pictures.drawings]
    assert names == [
        "worst_PET-noise-3-GTVn_CHUP-002",
        "worst_CT-spike-2-GTVp_CHUM-001",
        "worst_CT-spike-2-GTVn_CHUP-002",
    ]
    assert all(file.is_file() for drawing in pictures.drawings for file in drawing.files)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    svg = pictures.drawings[0].svg
    assert svg.count("data:image/png;base64,") == 3
    assert len(svg) < 200_000


def test_caption_says_which_case_and_why(run, tmp_path, model):
    caption = draw_pictures(run, ONE, model, tmp_path).drawings[0].caption
    rows = run.rows()
    of_case = rows[(rows["case"] == "CHUM-001") & (rows["structure"] == "GTVp") & (rows["modality"] != "PET")]
    before, after = (f"{of_case[of_case['severity'] == severity]['dice'].item():.2f}" for severity in (0, 2))
    assert caption.startswith("Phantom. CHUM-001, shown because it loses most Dice of GTVp with CT spike 2 (n = 3)")
    assert f": {before} unperturbed, {after} perturbed." in caption
    assert "CT level 40 HU, width 400 HU; PET SUV 0 to 10" in caption


def test_equal_runs_give_equal_pictures(run, tmp_path, model):
    first, second = (draw_pictures(run, ONE, model, tmp_path / name).drawings[0] for name in ("a", "b"))
    assert [file.read_bytes() for file in first.files] == [file.read_bytes() for file in second.files]


def test_a_case_is_prepared_and_predicted_once(run, tmp_path, monkeypatch, model):
    from nnunet_plugin.benchmark.predictor import Ensemble

    calls = []
    for name in ("prepare", "predict", "_load"):
        original = getattr(Ensemble, name)
        monkeypatch.setattr(
            Ensemble, name, lambda *args, _n=name, _o=original, **kwargs: (calls.append(_n), _o(*args, **kwargs))[1]
        )
    two = cells((CT_SPIKE, "GTVp", "CHUM-001", 0.1), (PET_NOISE, "GTVp", "CHUM-001", 0.1))
    assert len(draw_pictures(run, two, model, tmp_path).drawings) == 2
    # Prepared once as the network sees it, once in units of the images for their windows.
    assert sorted(calls) == ["_load", "predict", "predict", "predict", "prepare", "prepare"]


def test_kept_predictions_are_used(measured, tmp_path, monkeypatch, model):
    options = replace(measured, run=tmp_path / "run", save_predictions=True)
    benchmark = open_benchmark(options)
    measure(benchmark, [CT_SPIKE])
    no_predictions(monkeypatch)
    assert draw_pictures(benchmark.run, ONE, model, tmp_path / "out").reasons == []


def test_a_kept_prediction_that_was_not_measured_is_refused(measured, tmp_path, model):
    options = replace(measured, run=tmp_path / "run", save_predictions=True)
    benchmark = open_benchmark(options)
    measure(benchmark, [CT_SPIKE])
    file = benchmark.prediction(benchmark.cohort.cases[0], CT_SPIKE.key)
    image = sitk.ReadImage(str(file))
    sitk.WriteImage(sitk.Cast(image * 0 + 1, sitk.sitkUInt8), str(file))
    pictures = draw_pictures(benchmark.run, ONE, model, tmp_path / "out")
    assert not pictures.drawings
    assert "the kept prediction of GTVp has Dice" in pictures.reasons[0]


def without_checksums(file):
    return re.sub(r', "crc32": "[0-9a-f]+"', "", file.read_text())


@pytest.mark.parametrize("severity", [0, 2], ids=["baseline", "variant"])
def test_another_dice_than_that_of_the_row_is_never_drawn(run, tmp_path, severity, model):
    file = run.path / "rows" / "CHUM-001.jsonl"
    header, *rows = [json.loads(line) for line in without_checksums(file).splitlines()]
    for row in rows:
        if row["severity"] == severity and row["structure"] == "GTVp":
            row["dice"] += 1e-4
    file.write_text("".join(json.dumps(record) + "\n" for record in (header, *rows)))
    wanted = cells((CT_SPIKE, "GTVp", "CHUM-001", 0.1), (CT_SPIKE, "GTVp", "CHUP-002", 0.1))
    pictures = draw_pictures(run, wanted, model, tmp_path / "out")
    assert [drawing.name for drawing in pictures.drawings] == ["worst_CT-spike-2-GTVp_CHUP-002"]
    assert len(pictures.reasons) == 1
    assert pictures.reasons[0].startswith("CT-spike-2-GTVp: case CHUM-001")
    assert "recomputed prediction of GTVp has Dice" in pictures.reasons[0]


def test_rows_cannot_call_what_is_no_intensity_transform(run, tmp_path, model):
    file = run.path / "rows" / "CHUM-001.jsonl"
    text = without_checksums(file)
    assert '\\"transform\\": \\"Spike\\"' in text
    file.write_text(text.replace('\\"transform\\": \\"Spike\\"', '\\"transform\\": \\"Subject\\"'))
    assert "'Subject' is no intensity transform" in draw_pictures(run, ONE, model, tmp_path).reasons[0]


def test_moved_folders_can_be_named(run, moved, tmp_path):
    assert len(draw_pictures(run, ONE, folder=tmp_path, **moved).drawings) == 1


def spoil_image(moved):
    with (moved["images"] / "CHUM-001_0001.nii.gz").open("ab") as file:
        file.write(b"x")


SPOILT = {
    "changed image": (spoil_image, "CHUM-001_0001.nii.gz changed since it was measured"),
    "missing image": (lambda moved: (moved["images"] / "CHUM-001_0001.nii.gz").unlink(), "PET is missing"),
    "missing case": (lambda moved: (moved["images"] / "CHUM-001_0000.nii.gz").unlink(), "found no image of case"),
    "missing label": (lambda moved: (moved["labels"] / "CHUM-001.nii.gz").unlink(), "label is missing"),
    "no images": (lambda moved: shutil.rmtree(moved["images"]), "no such folder of images (named)"),
    "no model": (lambda moved: shutil.rmtree(moved["model"]), "found no plans.json"),
    "other model": (
        lambda moved: shutil.copy(
            moved["model"] / "fold_0" / "checkpoint_final.pth", moved["model"] / "fold_1" / "checkpoint_final.pth"
        ),
        "holds another model than the one that was measured",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_missing_is_said(run, moved, tmp_path, name):
    spoil, expected = SPOILT[name]
    spoil(moved)
    two = cells((CT_SPIKE, "GTVp", "CHUM-001", 0.1), (PET_NOISE, "GTVp", "CHUM-001", 0.1))
    pictures = draw_pictures(run, two, folder=tmp_path / "out", **moved)
    assert not pictures.drawings
    (reason,) = pictures.reasons
    assert reason.startswith("CT-spike-2-GTVp, PET-noise-3-GTVp: ")
    assert expected in reason


def test_other_cases_are_drawn_where_one_is_spoilt(run, moved, tmp_path):
    spoil_image(moved)
    two = cells((CT_SPIKE, "GTVp", "CHUM-001", 0.1), (CT_SPIKE, "GTVn", "CHUP-002", 0.1))
    pictures = draw_pictures(run, two, folder=tmp_path / "out", **moved)
    assert (len(pictures.drawings), len(pictures.reasons)) == (1, 1)


def test_a_device_that_is_not_here_is_named_where_it_matters(run, tmp_path, monkeypatch, model):
    run.settings["device"] = "cuda:99"
    assert draw_pictures(run, ONE, model, tmp_path).reasons == []  # the same to the last bit, so that it can be drawn
    monkeypatch.setattr("analysis.pictures.replay.TOLERANCE", -1)
    assert "measured on cuda:99, now on cpu" in draw_pictures(run, ONE, model, tmp_path).reasons[0]


@pytest.mark.parametrize(("case", "delta"), [(None, np.nan), ("CHUM-001", 0.0)])
def test_no_picture_where_nothing_was_lost(run, tmp_path, monkeypatch, case, delta, model):
    no_predictions(monkeypatch)
    pictures = draw_pictures(run, cells((CT_SPIKE, "GTVp", case, delta)), model, tmp_path)
    assert pictures.reasons == ["CT-spike-2-GTVp: no case lost Dice"]


def test_a_variant_that_was_not_measured(run, tmp_path, model):
    wanted = cells((Variant("CT", "blur", 1), "GTVp", "CHUM-001", 0.1))
    assert draw_pictures(run, wanted, model, tmp_path).reasons == [
        "CT-blur-1-GTVp: CT-blur-1 was not measured in case CHUM-001"
    ]


def test_a_run_without_folders(run_of_4, tmp_path, model):
    pictures = draw_pictures(RunFolder(run_of_4), cells((CT_SPIKE, "GTVp", "CHUM-001", 0.1)), model, tmp_path)
    assert "records no folder of images" in pictures.reasons[0]


def test_importing_does_not_load_torch():
    code = "import sys, analysis.pictures.worst_cells; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


DIRECTIONS = {
    "LPS": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "RAS": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "coronal": (1, 0, 0, 0, 0, 1, 0, -1, 0),
    "turned and flipped": (0, 0, -1, 1, 0, 0, 0, -1, 0),
    "oblique": tuple(np.round([[0.98, -0.199, 0], [0.199, 0.98, 0], [0, 0, -1]], 6).ravel()),
}


@pytest.mark.parametrize("name", DIRECTIONS)
def test_left_is_at_the_right_and_anterior_up(name):
    """Each voxel holds its own physical coordinate (LPS: left, posterior and head are positive)."""
    image = sitk.Image(5, 6, 7, sitk.sitkFloat32)
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((10, -20, 30))
    image.SetDirection(DIRECTIONS[name])
    for axis, steps in ((0, 2), (1, 1), (2, 0)):
        coordinate = np.zeros((7, 6, 5), np.float32)
        for z, y, x in np.ndindex(coordinate.shape):
            coordinate[z, y, x] = image.TransformIndexToPhysicalPoint((x, y, z))[axis]
        assert (np.diff(axial(coordinate, image), axis=steps) > 0).all()


def test_spacing_follows_the_axes():
    image = sitk.Image(5, 6, 7, sitk.sitkUInt8)
    image.SetSpacing((1.0, 2.0, 3.0))
    assert axial_spacing(image) == (2.0, 1.0)
    image.SetDirection(DIRECTIONS["coronal"])  # rows run from head to feet, slices from back to front
    assert axial_spacing(image) == (3.0, 1.0)


def test_a_turned_image_gives_the_same_view():
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.random((8, 40, 30)).astype(np.float32))
    image.SetSpacing((4.0, 3.0, 5.0))
    mask = np.zeros((8, 40, 30), np.uint8)
    mask[2:5, 10:14, 20:23] = 1
    label = sitk.GetImageFromArray(mask)
    label.CopyInformation(image)
    views = []
    for orientation in ("LPS", "RIA", "PSR"):
        turned, turned_label = sitk.DICOMOrient(image, orientation), sitk.DICOMOrient(label, orientation)
        view = View(turned, {"reference": sitk.GetArrayFromImage(turned_label) == 1})
        views.append((view.of(sitk.GetArrayFromImage(turned)), view.spacing_mm))
    for of_turned, spacing in views[1:]:
        np.testing.assert_array_equal(of_turned, views[0][0])
        assert spacing == pytest.approx(views[0][1])


def test_the_slice_with_the_largest_area():
    mask = np.zeros((5, 6, 6), bool)
    mask[1, :2, :2] = mask[3, :3, :3] = mask[4, 0, :] = True
    assert largest_slice(mask) == 3


@pytest.mark.parametrize(
    ("lesion", "spacing", "expected"),
    [
        ((slice(50, 52), slice(60, 62)), (2.0, 2.0), (slice(31, 71), slice(41, 81))),  # 80 mm are 40 voxels
        ((slice(50, 52), slice(60, 62)), (2.0, 4.0), (slice(31, 71), slice(51, 71))),  # anisotropic
        ((slice(20, 60), slice(60, 62)), (2.0, 2.0), (slice(10, 70), slice(31, 91))),  # 80 mm and 2 x 20 mm
        ((slice(0, 2), slice(98, 100)), (2.0, 2.0), (slice(0, 40), slice(60, 100))),  # at the corner
        ((slice(50, 52), slice(60, 62)), (0.5, 0.5), (slice(0, 100), slice(0, 100))),  # a slice of 50 mm
    ],
)
def test_crop(lesion, spacing, expected):
    mask = np.zeros((100, 100), bool)
    mask[lesion] = True
    assert crop_around(mask, spacing) == expected


def test_view_reaches_what_is_predicted_elsewhere():
    reference, predicted = np.zeros((2, 3, 100, 100), bool)
    reference[1, 10:12, 10:12] = predicted[1, 80:82, 80:82] = True
    view = View(sitk.Image(100, 100, 3, sitk.sitkUInt8), {"reference": reference, "perturbed": predicted})
    contours = view.contours("reference", "perturbed")
    assert contours["reference"].any()
    assert contours["perturbed"].any()


def test_an_absent_contour_is_explained():
    reference, none, elsewhere = np.zeros((3, 3, 50, 50), bool)
    reference[1, 10:12, 10:12] = elsewhere[2, 10:12, 10:12] = True
    stacks = {"reference": reference, "unperturbed": none, "perturbed": elsewhere}
    view = View(sitk.Image(50, 50, 3, sitk.sitkUInt8), stacks)
    assert view.remark("reference") == ""
    assert view.remark("unperturbed") == "nothing predicted"
    assert view.remark("perturbed") == "nothing predicted in this slice"


def test_windows_by_hand():
    ct, pet = Window.of("CT", np.zeros(1)), Window.of("PET", np.zeros(1))
    np.testing.assert_allclose(ct.grey(np.array([-1000, -160, 40, 240, 3000, np.nan])), [0, 0, 0.5, 1, 1, 0])
    np.testing.assert_allclose(pet.grey(np.array([-1, 0, 2.5, 10, 40, np.nan])), [1, 1, 0.75, 0, 0, 1])
    other = Window.of("T1", np.append(np.arange(101.0), np.nan))
    assert (other.low, other.high) == (1, 99)
    flat = Window.of("T1", np.full(5, 3.0))
    np.testing.assert_array_equal(flat.grey(np.full(2, 3.0)), [0, 0])


def test_window_on_the_scale_of_the_network():
    hu = np.linspace(-1000, 1000, 5000)
    normalised = np.clip(hu, -500, 500) / 200 + 3  # as nnU-Net's CT scheme: clipped, then a line
    window = Window.of("CT", hu)
    line = window.line_to(np.where(hu > 900, np.nan, normalised), hu)
    assert line == pytest.approx((1 / 200, 3))
    window = window.on_scale(line)
    assert (window.low, window.high) == pytest.approx((-160 / 200 + 3, 240 / 200 + 3))


@pytest.mark.parametrize("normalised", ["flat", "noise", "upside down", "nothing"])
def test_no_window_where_no_line_fits(normalised):
    hu = np.linspace(-1000, 1000, 5000)
    noise = np.random.default_rng(0).normal(size=hu.size)
    values = {"flat": hu * 0, "noise": noise, "upside down": -hu, "nothing": hu * np.nan}[normalised]
    assert Window.of("CT", hu).line_to(values, hu) is None


def test_voxels_keep_their_proportions():
    panel = Panel("CT", np.zeros((10, 20), np.float32), {"reference": np.eye(10, 20, dtype=bool)}, "")
    figure = draw_figure([panel] * 3, (5.0, 2.0), "title")
    figure.draw_without_rendering()
    image = figure.axes[0].images[0]
    assert image.get_extent() == [0, 40, 50, 0]
    box = figure.axes[0].get_window_extent()
    assert box.height / box.width == pytest.approx(50 / 40, rel=0.01)


@pytest.mark.parametrize(("panels", "shape"), [(2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3))])
def test_many_modalities_take_two_rows(panels, shape):
    panel = Panel("MR", np.zeros((10, 10), np.float32), {}, "")
    figure = draw_figure([panel] * panels, (1.0, 1.0), "title")
    assert figure.axes[0].get_gridspec().get_geometry() == shape
    assert sum(bool(axes.images) for axes in figure.axes) == panels


def test_the_perturbed_panel_is_what_the_network_saw(run, tmp_path, monkeypatch, model):
    """The last panel is TorchIO's result on the normalised image; the others are the stored images."""
    from nnunet_plugin.benchmark.perturbations import Perturber, Realised
    from nnunet_plugin.benchmark.predictor import Ensemble

    drawn = []
    monkeypatch.setattr(
        "analysis.pictures.worst_cells.draw_figure",
        lambda panels, *args: (drawn.extend(panels), draw_figure(panels, *args))[1],
    )
    draw_pictures(run, ONE, model, tmp_path)
    assert [panel.title for panel in drawn] == ["PET, unperturbed", "CT, unperturbed", "perturbed: CT spike 2"]
    rows = run.rows()
    row = rows[(rows["case"] == "CHUM-001") & (rows["modality"] == "CT")].iloc[0]
    folder = Path(run.settings["provenance"]["images"])
    files = [folder / f"CHUM-001_{channel:04d}.nii.gz" for channel in range(2)]
    ensemble = Ensemble(run.settings["provenance"]["model_folder"], device="cpu")
    prepared = ensemble.prepare(files)
    clean = ensemble.channel_xyz(prepared.array, 0)
    ct, pet = (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files)
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(Path(run.settings["provenance"]["labels"]) / "CHUM-001.nii.gz")))
    z = largest_slice(label == 1)
    height, width = drawn[0].grey.shape
    np.testing.assert_allclose(drawn[0].grey.max(), 1 - pet[z].min() / 10, atol=0.05)
    perturber = Perturber(clean, ensemble.spacing_xyz)
    perturbed = perturber.apply(Realised.from_json(row["parameters"])).transpose(2, 1, 0)
    # RescaleTo01: the window of -160 to 240 HU by hand.
    low, high = ((hu - ct.min()) / (ct.max() - ct.min()) for hu in (-160, 240))
    expected = np.clip((perturbed - low) / (high - low), 0, 1)[z]
    windows = np.lib.stride_tricks.sliding_window_view(expected, (height, width))
    assert np.abs(windows - drawn[-1].grey).max(axis=(2, 3)).min() < 1e-3


@pytest.mark.parametrize(
    ("forward", "backward"), [([0, 1, 2], [0, 1, 2]), ([2, 0, 1], [1, 2, 0])], ids=["as stored", "transposed"]
)
def test_what_the_network_saw_is_brought_back_to_where_it_was(toy, tmp_path, forward, backward):
    """A ramp in a box of zeros, at another spacing than the network's: cropped, resampled, normalised, and back."""
    from nnunet_plugin.benchmark.predictor import Ensemble

    folder = shutil.copytree(toy.folder, tmp_path / "model")
    plans = json.loads((folder / "plans.json").read_text())
    plans |= {"transpose_forward": forward, "transpose_backward": backward}
    (folder / "plans.json").write_text(json.dumps(plans))
    z, y, x = np.mgrid[:20, :40, :30]
    ramp = np.zeros((20, 40, 30), np.float32)
    inside = (slice(3, 18), slice(5, 38), slice(2, 29))
    ramp[inside] = (100 + x + 2 * y + 3 * z)[inside]
    image = sitk.GetImageFromArray(ramp)
    image.SetSpacing((3.0, 2.0, 5.0))
    files = [tmp_path / f"case_{channel:04d}.nii.gz" for channel in range(2)]
    for file in files:
        sitk.WriteImage(image, str(file))
    ensemble = Ensemble(folder, device="cpu")
    prepared = ensemble.prepare(files)
    back = ensemble.in_original_geometry(ensemble.channel_xyz(prepared.array, 0), prepared)
    assert back.shape == ramp.shape
    assert np.isfinite(back[inside]).all()
    assert np.isfinite(back).sum() == ramp[inside].size
    low, high = ramp[inside].min(), ramp[inside].max()
    deep = tuple(slice(part.start + 3, part.stop - 3) for part in inside)
    np.testing.assert_allclose(back[deep], ((ramp - low) / (high - low))[deep], atol=0.03)
