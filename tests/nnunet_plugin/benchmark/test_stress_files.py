"""Files of a user at random: the loaders give what they are for or one clear error, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK as sitk
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_plugin.benchmark import predictor
from nnunet_plugin.benchmark.catalogue import load_catalogue
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.image_files import refuse_unfit_files
from nnunet_plugin.benchmark.run import measure
from nnunet_plugin.benchmark.settings import Options, open_benchmark

# Its processes take long to get ready: they do so while the first tests run.
pytestmark = pytest.mark.usefixtures("processes")

SMALL = b"""# two perturbations
[perturbations.noise]
transform = "RandomNoise"
severities = [{ mean = 0.0, std = [0.0, 0.25] }, { mean = 0.1, std = [0.25, 0.5] }]

[perturbations.blur]
transform = "RandomBlur"
severities = [{ std = [0, 2] }]
"""

scalars = st.one_of(
    st.integers(-3, 3),
    st.floats(-3, 3),
    st.booleans(),
    st.text(max_size=5),
    st.datetimes(),
    st.sampled_from([float("nan"), float("inf"), 2**70, 1e300]),
)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(st.text(max_size=3), scalars, max_size=2))
INTENSITY = ("RandomNoise", "RandomBlur", "RandomSpike", "RandomGamma", "RandomBiasField", "RandomGhosting")
OTHERS = ("RandomAffine", "Compose", "OneOf", "Lambda", "RandomLabelsToImage", "RandomSwap", "Subject", "data")
transforms = st.sampled_from([*INTENSITY, *OTHERS, "__doc__"])
parameters = st.sampled_from(["std", "mean", "intensity", "num_spikes", "coefficients", "log_gamma", "p", "args", "x"])
tables = st.dictionaries(
    st.one_of(st.sampled_from(["spike", "noise"]), st.text(max_size=4)),
    st.one_of(
        values,
        st.fixed_dictionaries(
            {
                "transform": st.one_of(transforms, values),
                "severities": st.one_of(
                    values, st.lists(st.dictionaries(parameters, values, max_size=2), min_size=1, max_size=2)
                ),
            }
        ),
    ),
    max_size=2,
)


def load_or_refuse(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        catalogue = load_catalogue(str(file))
    except BenchmarkError as error:
        message = str(error)
    else:
        message = str(file)
        assert tomli_w.dumps({"severities": catalogue.severities, "name": catalogue.name})
        assert len(catalogue.sha256) == 64
        assert catalogue.severities
    assert str(file) in message


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, len(SMALL)), cut=st.integers(0, 10), garbage=st.binary(max_size=6))
def test_catalogue_with_damage(tmp_path_factory, place, cut, garbage):
    file = tmp_path_factory.mktemp("catalogue") / "own.toml"
    load_or_refuse(file, SMALL[:place] + garbage + SMALL[place + cut :])


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None)
@given(content=st.one_of(st.fixed_dictionaries({"perturbations": tables}), tables))
def test_catalogue_of_anything(tmp_path_factory, content):
    load_or_refuse(tmp_path_factory.mktemp("catalogue") / "own.toml", tomli_w.dumps(content).encode())


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 5000, "\ufeff", "a = 2000-13-45"])
def test_catalogue_that_the_toml_reader_trips_over(tmp_path, text):
    (tmp_path / "own.toml").write_text(text, "utf-8")
    with pytest.raises(BenchmarkError, match="is not valid TOML"):
        load_catalogue(str(tmp_path / "own.toml"))


def test_headers_with_damage(processes, toy, tmp_path):
    """In a process of its own: what reads the images is written in C++."""
    arguments = [str(toy.images), str(toy.labels), str(toy.folder), str(tmp_path / "work"), 120]
    code = f"from image_fuzzer import main\nmain(*{arguments})"
    status = processes.wait(processes.start(code, tmp_path / "output"))
    assert status == 0, (tmp_path / "output").read_text()


@pytest.mark.parametrize("spacing", [(4000.0, 4.0, 4.0), (4.0, 4.0, 1e30)], ids=["in another unit", "beyond sense"])
def test_image_of_a_size_that_no_patient_has(tmp_path, spacing):
    """Resampling it would fill the memory."""
    image = sitk.Image([30, 26, 28], sitk.sitkFloat32)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(tmp_path / "huge.nii.gz"))
    with pytest.raises(BenchmarkError, match=r"huge.nii.gz: (found .* mm; expected at most 5000 mm|spacing)"):
        refuse_unfit_files({"CT": tmp_path / "huge.nii.gz"})


def test_nan_out_of_one_fold_is_no_dice(toy, tmp_path, monkeypatch):
    """One voxel of one fold, in one variant: the others are measured."""
    benchmark = open_benchmark(Options(toy.folder, toy.images, toy.labels, tmp_path / "run", device="cpu"))
    wanted = [v for v in benchmark.variants if str(v) in {"PET-noise-1", "PET-noise-2"}]
    logits_of, calls = predictor.predict_logits, []

    def with_a_hole(*args, **kwargs):
        logits = logits_of(*args, **kwargs)
        calls.append(1)
        if len(calls) == 4:  # baseline and PET-noise-1 of the first case, two folds each
            logits[1, 5, 6, 7] = float("nan")
        return logits

    monkeypatch.setattr(predictor, "predict_logits", with_a_hole)
    measure(benchmark, wanted)
    assert len(calls) == 3 * 3 * 2
    assert set(benchmark.run.failures()) == {"CHUM-001"}
    assert "PET-noise-1: the network's output holds NaN" in benchmark.run.failures()["CHUM-001"]
    rows = benchmark.run.rows()
    assert len(rows) == (3 * 3 - 1) * 2
    assert rows["dice"].notna().all()
    of_case = rows[rows["case"] == "CHUM-001"]
    assert set(of_case["perturbation"] + of_case["severity"].astype(str)) == {"baseline0", "noise2"}
