"""A kit of the toy run: what raters see is what was measured, and tells them nothing; a changed kit is refused."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.case_images import find_case_files
from analysis.errors import AnalysisError
from analysis.grading.key import METRICS, read_key
from analysis.grading.kit import CONTOURS, open_kit
from analysis.grading.make import KitOptions, make_kit
from analysis.grading.volumes import first_looks, in_display_order, label_map, perturbed_image, write_volume
from analysis.pictures.replay import CaseReplay, load_measured_model
from nnunet_plugin.benchmark.perturbations import Variant
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.run import measure
from nnunet_plugin.benchmark.settings import Options, open_benchmark

KEYS = ["case", "modality", "perturbation", "severity", "structure"]


def volume(kit, code, name):
    return sitk.ReadImage(str(kit.volume(code, kit.volumes[name])))


def oriented(image):
    """In the order that files of a kit have: SimpleITK's own turning of axes."""
    return sitk.DICOMOrient(image, "RAS")


def same_grid(a, b):
    grids = [(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()) for image in (a, b)]
    return all(np.allclose(x, y, atol=1e-4) for x, y in zip(*grids, strict=True))


def test_items_are_what_was_asked_for(made):
    first = made.table[(made.table["structure"] == "GTVp") & (made.table["repeat"] == 0)]
    assert Counter(first["perturbation"]) == {"baseline": 3, "spike": 4, "noise": 4}
    assert Counter(first["modality"].dropna()) == {"CT": 4, "PET": 4}
    assert made.table["repeat"].sum() == 2  # both structures of one item
    assert re.fullmatch(
        r"12 items for 2 raters: 3 unperturbed, 8 perturbed \((spike|noise) 4, (spike|noise) 4\), and 1 of these again",
        made.sentences[0],
    )
    assert made.sentences[-1].startswith("The perturbed cases are those that lose most Dice")


def test_unperturbed_images_are_those_of_the_cohort(made, toy):
    """Read back by SimpleITK, on the same grid, to 1 / 65,000 of the range."""
    kit = made.open()
    for _, row in made.table[made.table["perturbation"] == "baseline"].iterrows():
        for channel, name in enumerate(("CT", "PET")):
            source = oriented(sitk.ReadImage(str(toy.images / f"{row['case']}_000{channel}.nii.gz")))
            shown = volume(kit, row["item"], name)
            assert same_grid(source, shown)
            expected = sitk.GetArrayFromImage(source)
            np.testing.assert_allclose(sitk.GetArrayFromImage(shown), expected, atol=np.ptp(expected) / 65_000)


def test_perturbed_images_are_what_the_network_saw_in_units_of_the_image(made, toy, run_with_images):
    """Undone by hand: the toy's CT is brought to 0..1 by minimum and maximum, its PET z-scored."""
    kit, run = made.open(), RunFolder(run_with_images)
    ensemble = load_measured_model(run, toy.folder)
    rows = made.table[(made.table["modality"].notna()) & (made.table["structure"] == "GTVp")]
    for case, of_case in rows.groupby("case"):
        replay = CaseReplay(run, ensemble, case, find_case_files(run, case))
        for _, row in of_case.iterrows():
            image = replay.images[row["modality"]].astype(float)
            seen = replay.variant(Variant(row["modality"], row["perturbation"], row["severity"])).seen
            undone = (
                seen * np.ptp(image) + image.min() if row["modality"] == "CT" else seen * image.std() + image.mean()
            )
            source = sitk.GetImageFromArray(undone.astype(np.float32))
            source.CopyInformation(replay.geometry)
            shown = sitk.GetArrayFromImage(volume(kit, row["item"], row["modality"]))
            expected = sitk.GetArrayFromImage(oriented(source))
            tolerance = np.ptp(expected) / 65_000 + 2e-4 * np.abs(expected).max()
            np.testing.assert_allclose(shown, expected, atol=tolerance)
            assert np.abs(shown - sitk.GetArrayFromImage(oriented(to_image(image, replay)))).max() > 10 * tolerance


def to_image(array, replay):
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.CopyInformation(replay.geometry)
    return image


def test_contours_have_the_dice_of_the_rows(made, toy):
    kit = made.open()
    for _, row in made.table.iterrows():
        contours = sitk.GetArrayFromImage(volume(kit, row["item"], CONTOURS))
        reference = sitk.GetArrayFromImage(oriented(sitk.ReadImage(str(toy.labels / f"{row['case']}.nii.gz"))))
        value = kit.structures.index(row["structure"]) + 1
        found, expected = contours == value, reference == value
        total = found.sum() + expected.sum()
        dice = 2 * (found & expected).sum() / total if total else 1.0
        assert dice == pytest.approx(row["dice"])


def test_the_first_look_lies_in_the_contour(made):
    kit = made.open()
    for code, looks in kit.items.items():
        labels = nib.load(kit.volume(code, kit.volumes[CONTOURS])).get_fdata()
        assert list(looks) == [name for number, name in enumerate(kit.structures, 1) if (labels == number).any()]
        for structure, (i, j, k) in looks.items():
            mask = labels == kit.structures.index(structure) + 1
            assert mask[i, j, k]
            assert mask[:, :, k].sum() == mask.sum(axis=(0, 1)).max()


def test_the_key_has_the_metrics_of_the_rows(made, run_with_images):
    rows = RunFolder(run_with_images).rows()
    expected = rows[[*KEYS, *METRICS]].astype(dict.fromkeys(METRICS, float))
    merged = made.table.merge(
        expected.assign(modality=expected["modality"].fillna(np.nan)), on=KEYS, suffixes=("", "_")
    )
    assert len(merged) == len(made.table)
    for name in METRICS:
        np.testing.assert_allclose(merged[name], merged[f"{name}_"])
    assert set(made.table["sample"].dropna()) == {"worst"}
    assert made.table["synthetic"].all()


def test_a_repeat_shows_the_same_from_other_files(made):
    table = made.table.drop_duplicates("item").set_index("item")
    kit = made.open()
    (repeat,) = table.index[table["repeat"] == 1]
    what = ["case", "perturbation", "severity"]
    same = table[(table[what] == table.loc[repeat, what]).all(axis=1) & (table["repeat"] == 0)]
    (original,) = same.index[same["modality"].fillna("") == (table["modality"].fillna("")[repeat])]
    for name, file in kit.volumes.items():
        arrays = [sitk.GetArrayFromImage(volume(kit, code, name)) for code in (repeat, original)]
        np.testing.assert_array_equal(*arrays)
        assert kit.volume(repeat, file).read_bytes() != kit.volume(original, file).read_bytes()
    assert kit.items[repeat] == kit.items[original]
    for rater in kit.raters.values():
        assert rater.order.index(repeat) - rater.order.index(original) >= 3


def test_raters_see_the_same_items_in_orders_of_their_own(made):
    orders = [rater.order for rater in made.open().raters.values()]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(made.open().items)
    assert orders[0] != orders[1]


def test_nothing_in_the_kit_names_a_case_or_a_perturbation(made, toy):
    secrets = [*toy.cases, "spike", "noise", "baseline", *made.tokens.values(), str(toy.images)]
    for file in made.kit.rglob("*"):
        assert not any(secret in str(file.relative_to(made.kit)) for secret in secrets)
        if file.is_file():
            content = file.read_bytes()
            content += gzip.decompress(content) if file.suffix == ".gz" else b""
            assert not [secret for secret in secrets if secret.encode() in content]


def test_tokens_are_for_their_owner_alone(made):
    assert (made.key / "tokens.csv").stat().st_mode & 0o077 == 0
    assert list(made.tokens) == ["rater-1", "rater-2"]


def test_checksums_are_those_of_sha256sum(made):
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=made.kit, check=False)
    assert done.returncode == 0
    listed = (made.kit / "SHA256SUMS").read_text().count("\n")
    assert listed == 1 + 12 * 3


def small(**changes):
    return KitOptions(**{"baseline": 1, "top": 1, "per": 1, "repeat": 0, **changes})


def test_the_same_seed_gives_the_same_items_under_other_codes_and_tokens(run_with_images, toy, tmp_path):
    run = RunFolder(run_with_images)
    one, two = (make_kit(run, toy.folder, tmp_path / name, options=small()) for name in ("one", "two"))
    keys = [pd.read_csv(made.key / "key.csv") for made in (one, two)]
    by_item = [key.drop(columns="item").sort_values(list(key.columns[1:7]), ignore_index=True) for key in keys]
    pd.testing.assert_frame_equal(*by_item)
    assert set(keys[0]["item"]) != set(keys[1]["item"])
    kits = [open_kit(made.kit) for made in (one, two)]
    assert [r.token_sha256 for r in kits[0].raters.values()] != [r.token_sha256 for r in kits[1].raters.values()]
    with pytest.raises(AnalysisError, match="is not the key of"):
        read_key(two.key, kits[0])


def nothing_is_left(folder):
    return list(folder.iterdir()) == []


def test_another_model_leaves_nothing(run_with_images, toy, tmp_path):
    other = shutil.copytree(toy.folder, tmp_path / "model")
    checkpoint = other / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes() + b" ")
    (tmp_path / "out").mkdir()
    with pytest.raises(AnalysisError, match="another model"):
        make_kit(RunFolder(run_with_images), other, tmp_path / "out" / "kit", options=small())
    assert nothing_is_left(tmp_path / "out")


def test_changed_images_leave_nothing(run_with_images, toy, tmp_path):
    images = shutil.copytree(toy.images, tmp_path / "images")
    for file in images.iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    (tmp_path / "out").mkdir()
    with pytest.raises(AnalysisError, match="changed since it was measured"):
        make_kit(RunFolder(run_with_images), toy.folder, tmp_path / "out" / "kit", options=small(), images=images)
    assert nothing_is_left(tmp_path / "out")


def test_a_full_disk_leaves_nothing(run_with_images, toy, tmp_path, mount_at):
    """The images of one item take more than 16 kB."""
    mount_at(tmp_path / "disk", "size=16k")
    with pytest.raises(AnalysisError, match="cannot be written"):
        make_kit(RunFolder(run_with_images), toy.folder, tmp_path / "disk" / "kit", options=small())
    assert nothing_is_left(tmp_path / "disk")


def test_a_folder_that_is_there_is_kept(run_with_images, toy, tmp_path):
    (tmp_path / "kit").mkdir()
    run = RunFolder(run_with_images)
    with pytest.raises(AnalysisError, match="is there already"):
        make_kit(run, toy.folder, tmp_path / "kit")
    with pytest.raises(AnalysisError, match=r"is there already.*--key"):
        make_kit(run, toy.folder, tmp_path / "new", tmp_path / "kit")
    with pytest.raises(AnalysisError, match="lies in the kit"):
        make_kit(run, toy.folder, tmp_path / "new", tmp_path / "new" / "key")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"raters": 0}, "--raters: found 0, expected 1 or more"),
        ({"repeat": -1}, "--repeat: found -1"),
        ({"repeat": 99}, "--repeat: found 99, expected no more than are chosen: 3 items"),
        ({"per": 0}, "--per"),
        ({"scale": ("a", "b")}, "--scale: found 2 lines, expected 5"),
        ({"baseline": 0, "top": 0}, "nothing is chosen"),
    ],
)
def test_options_that_make_no_kit(run_with_images, toy, tmp_path, options, words):
    with pytest.raises(AnalysisError, match=words):
        make_kit(RunFolder(run_with_images), toy.folder, tmp_path / "kit", options=small(**options))


def test_a_kit_as_it_was_made_is_accepted(made):
    steps = []
    made.open().check(lambda *step: steps.append(step))
    assert steps[-1] == ("checking the kit", 37, 37)


def spoil_image(kit):
    file = next(kit.glob("items/*/image_0.nii.gz"))
    file.write_bytes(file.read_bytes()[:-1])
    return f"{file.relative_to(kit)} was changed"


def lose_contours(kit):
    file = next(kit.glob("items/*/contours.nii.gz"))
    file.unlink()
    return f"{file.relative_to(kit)} is missing"


def edit_scale(kit):
    file = kit / "kit.toml"
    file.write_text(file.read_text().replace("unusable", "fine"))
    return "kit.toml was changed"


def lose_sums(kit):
    (kit / "SHA256SUMS").unlink()
    return "SHA256SUMS: cannot be read"


def drop_a_sum(kit):
    file = kit / "SHA256SUMS"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    return "does not list the files"


@pytest.mark.parametrize("spoil", [spoil_image, lose_contours, edit_scale, lose_sums, drop_a_sum])
def test_a_kit_edited_by_hand_is_refused(folders, spoil):
    expected = spoil(folders.kit)
    with pytest.raises(AnalysisError) as error:
        folders.open().check()
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("pattern", "after", "words"),
    [
        ("format = 1", "format = 2", "another version"),
        ("format = 1", "format = ", "cannot be read"),
        ('title = "', 'titel = "', "KeyError: 'title'"),
        ("token_sha256", "token", "KeyError: 'token_sha256'"),
        (r"structures = \[[^]]*\]", "structures = []", "no raters, items, structures"),
        (r"scale = \[[^]]*\]", 'scale = ["good"]', "the scale has 1 grades instead of 5"),
        (r"GTVp = \[[^]]*\]", "GTVp = [1, 2]", "ValueError"),
        (r"\[items\.(\w+)\]", '[items."../\\1"]', "the order of rater-1 is not that of the items"),
    ],
)
def test_a_kit_file_that_is_none(folders, pattern, after, words):
    file = folders.kit / "kit.toml"
    text, count = re.subn(pattern, after, file.read_text(), count=1)
    assert count == 1
    file.write_text(text)
    with pytest.raises(AnalysisError, match=words):
        folders.open()


def test_orders_that_are_not_those_of_the_items(folders):
    kit = folders.open()
    rater = replace(kit.raters["rater-1"], order=kit.raters["rater-1"].order[1:])
    replace(kit, raters={**kit.raters, "rater-1": rater}).write()
    with pytest.raises(AnalysisError, match="the order of rater-1 is not that of the items"):
        folders.open()


def test_no_kit(tmp_path):
    with pytest.raises(AnalysisError, match="is no grading kit"):
        open_kit(tmp_path / "missing")


def test_a_key_that_was_cut_short(folders):
    file = folders.key / "key.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(AnalysisError, match=r"key.csv: was changed since it was made"):
        read_key(folders.key, folders.open())


AXES = [
    (1, 0, 0, 0, 1, 0, 0, 0, 1),
    (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    (0, 0, 1, 1, 0, 0, 0, 1, 0),
    (0, 1, 0, 1, 0, 0, 0, 0, -1),
]
TILTED = (0.98, 0, 0.199, 0, 1, 0, -0.199, 0, 0.98)


@pytest.mark.parametrize("direction", [*AXES, TILTED])
def test_volumes_lie_where_they_lay(tmp_path, direction):
    """Each voxel's position in space, by SimpleITK, before and after."""
    array = np.random.default_rng(0).integers(0, 200, (4, 5, 6), np.uint8)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    image.SetDirection(direction)
    write_volume(tmp_path / "v.nii.gz", in_display_order(array, image), "AB12")
    shown = sitk.ReadImage(str(tmp_path / "v.nii.gz"))
    for x, y, z in np.ndindex(6, 5, 4):
        place = image.TransformIndexToPhysicalPoint((x, y, z))
        index = shown.TransformPhysicalPointToIndex(place)
        assert shown[index] == array[z, y, x]
    stored = nib.load(tmp_path / "v.nii.gz")
    assert nib.aff2axcodes(stored.affine) == ("R", "A", "S")
    assert stored.header["descrip"].item() == b"AB12"


@given(st.floats(0.001, 50), st.floats(-100, 100), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_what_was_done_to_the_normalised_image_is_done_in_its_units(slope, offset, seed):
    """Property: normalise, add anything, and see the image plus that in its own units."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(-200, 300, (6, 7, 8))
    added = rng.normal(0, 50, image.shape)
    normalised = slope * image + offset
    shown = perturbed_image(image, normalised, normalised + slope * added, slope)
    np.testing.assert_allclose(shown, image + added, rtol=1e-4, atol=1e-2)


def test_where_the_network_saw_nothing_the_image_stays():
    image = np.arange(100.0).reshape(4, 5, 5)
    normalised = image / 10
    normalised[0] = np.nan
    shown = perturbed_image(image, normalised, normalised + 1, 0.1)
    np.testing.assert_allclose(shown[0], image[0])
    np.testing.assert_allclose(shown[1:], image[1:] + 10)


def test_a_normalisation_that_is_no_line_is_refused(run_with_images, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(CaseReplay, "normalisation", lambda *_: None)
    with pytest.raises(AnalysisError, match=r"its normalisation is no line.*--top 0"):
        make_kit(RunFolder(run_with_images), toy.folder, tmp_path / "kit", options=small())
    assert nothing_is_left(tmp_path)


@pytest.fixture(scope="module")
def resampled(toy, tmp_path_factory):
    """The toy cohort with voxels of 3 mm, which the model resamples to 4 mm, measured with noise in the CT."""
    root = tmp_path_factory.mktemp("resampled")
    for source in (toy.images, toy.labels):
        (root / source.name).mkdir()
        for file in source.iterdir():
            image = sitk.ReadImage(str(file))
            image.SetSpacing((3.0, 3.0, 3.0))
            sitk.WriteImage(image, str(root / source.name / file.name))
    options = Options(toy.folder, root / toy.images.name, root / toy.labels.name, root / "run", device="cpu")
    measure(open_benchmark(options), [Variant("CT", "noise", 3), Variant("PET", "noise", 3)])
    return RunFolder(root / "run")


def test_the_scale_of_images_that_the_model_resamples(resampled, toy):
    """By hand: nnU-Net brings the toy's CT to 0..1 by minimum and maximum and z-scores its PET, before it resamples."""
    case = resampled.settings["cohort"]["cases"][0]
    replay = CaseReplay(resampled, load_measured_model(resampled, toy.folder), case, find_case_files(resampled, case))
    ct, pet = (replay.images[name].astype(float) for name in ("CT", "PET"))
    assert replay.normalisation("CT") == pytest.approx((1 / np.ptp(ct), -ct.min() / np.ptp(ct)), rel=1e-3)
    assert replay.normalisation("PET") == pytest.approx((1 / pet.std(), -pet.mean() / pet.std()), rel=1e-3)


def test_images_that_the_model_resamples_keep_their_detail(resampled, toy, tmp_path):
    """Away from the noise, a perturbed image is as sharp as the unperturbed one: only the change is resampled."""
    kit = open_kit(make_kit(resampled, toy.folder, tmp_path / "kit", options=small(baseline=3)).kit)
    table = pd.read_csv(tmp_path / "kit-key" / "key.csv")
    (row,) = table[(table["modality"] == "PET") & (table["structure"] == "GTVp")].to_dict("records")
    source = next((Path(resampled.settings["provenance"]["images"])).glob(f"{row['case']}_0001*"))
    before = sitk.GetArrayFromImage(oriented(sitk.ReadImage(str(source)))).astype(float)
    change = sitk.GetArrayFromImage(volume(kit, row["item"], "PET")) - before
    assert 0.1 < change.std() / before.std() < 1
    # Sharp edges of the image, where resampling it would leave residues, are no part of the change.
    edges = np.abs(np.diff(before, axis=0))
    correlation = np.corrcoef(edges.ravel(), np.abs(np.diff(change, axis=0)).ravel())[0, 1]
    assert abs(correlation) < 0.1


def test_looks_of_a_ring_lie_on_it():
    ring = np.zeros((3, 9, 9), bool)
    ring[1, 2:7, 2:7] = True
    ring[1, 3:6, 3:6] = False
    empty = np.zeros_like(ring)
    geometry = sitk.GetImageFromArray(ring.astype(np.uint8))
    labels = in_display_order(label_map([empty, ring]), geometry)
    looks = first_looks(labels, ["none", "ring"])
    assert list(looks) == ["ring"]
    assert np.asarray(labels.dataobj)[looks["ring"]] == 2


def test_the_order_of_the_kit_says_nothing(made):
    """Sorted by code: in the order of making, a repeat would stand beside its original."""
    kit = made.open()
    assert list(kit.items) == sorted(kit.items)
    listed = [line.split("/")[1] for line in (made.kit / "SHA256SUMS").read_text().splitlines()[1:]]
    assert listed == sorted(listed)


def test_a_key_that_was_edited(folders):
    file = folders.key / "key.csv"
    file.write_text(file.read_text().replace(",spike,", ",noise,", 1))
    with pytest.raises(AnalysisError, match=r"key.csv: was changed since it was made"):
        read_key(folders.key, folders.open())


def test_a_kit_or_key_inside_another_kit(made, run_with_images, toy, tmp_path):
    run = RunFolder(run_with_images)
    for kit, key in ((tmp_path / "new", made.kit / "key"), (made.kit / "new", tmp_path / "key")):
        with pytest.raises(AnalysisError, match="lies in the kit"):
            make_kit(run, toy.folder, kit, key)


def test_key_facts_say_how(made):
    text = (made.key / "key.toml").read_text()
    assert "those that lose most Dice" in text
    assert json.dumps(made.open().sha256) in text
    assert pd.read_csv(made.key / "key.csv")["item"].nunique() == 12
