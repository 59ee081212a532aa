"""The shipped catalogues against the study's table; users' files against their mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnunet_plugin.benchmark.catalogue import load_catalogue
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.perturbations import Perturber, draw

# The study's table of perturbations, typed from the paper.
STUDY = {
    "motion": [(10, 10, 2), (20, 20, 3), (30, 30, 4)],
    "ghosting": [((4, 10), (0.5, 1), 0.02), ((6, 15), (0.7, 1.5), 0.04), ((8, 20), (1, 2), 0.06)],
    "spike": [(1, (1, 3)), (2, (2, 5)), (3, (3, 7))],
    "bias": [(0.5, 3), (0.75, 3), (1.0, 4)],
    "noise": [(0, 0.25), (0.1, 0.5), (0.2, 0.75)],
    "blur": [(0, 2), (1, 3), (2, 4)],
}


def test_paper_has_the_studys_perturbations():
    assert load_catalogue("paper").perturbations == tuple(STUDY)
    assert all(len(severities) == 3 for severities in STUDY.values())
    assert len(load_catalogue("paper").entries) == 18


def test_paper_gives_torchio_the_studys_ranges():
    """Read from the constructed transforms, so that what counts is what TorchIO understood."""
    catalogue = load_catalogue("paper")
    for level in (1, 2, 3):
        built = {name: catalogue.entry(name, level).build() for name in STUDY}
        degrees, translation, count = STUDY["motion"][level - 1]
        assert built["motion"].degrees_range == (-degrees, degrees)
        assert built["motion"].translation_range == (-translation, translation)
        assert built["motion"].num_transforms == count
        ghosts, intensity, restore = STUDY["ghosting"][level - 1]
        assert built["ghosting"].num_ghosts_range == ghosts
        assert built["ghosting"].intensity_range == pytest.approx(intensity)
        assert built["ghosting"].restore == (restore, restore)
        assert built["ghosting"].axes == (0, 1, 2)
        spikes, intensity = STUDY["spike"][level - 1]
        assert built["spike"].num_spikes_range == (spikes, spikes)
        assert built["spike"].intensity_range == pytest.approx(intensity)
        coefficients, order = STUDY["bias"][level - 1]
        assert built["bias"].coefficients_range == (-coefficients, coefficients)
        assert built["bias"].order == order
        assert built["noise"].std_range == pytest.approx(STUDY["noise"][level - 1])
        assert built["noise"].mean_range == (0, 0)
        assert built["blur"].std_ranges == pytest.approx(STUDY["blur"][level - 1] * 3)


@pytest.mark.parametrize("perturbation", list(STUDY))
def test_calibrated_draws_all_act_and_grow(perturbation, head):
    """Mean absolute change, the same seeds at every severity."""
    catalogue = load_catalogue("calibrated")
    change = np.array(
        [
            [
                np.abs(
                    Perturber(head, (4, 4, 4)).apply(draw(catalogue.entry(perturbation, level), seed, head.shape))
                    - head
                ).mean()
                for seed in range(8)
            ]
            for level in (1, 2, 3)
        ]
    )
    assert (change > 1e-4).all()
    assert (np.diff(change, axis=0) > 0).all()


def test_shipped_catalogues_differ_in_hash_but_not_by_name_of_file(tmp_path):
    paper = load_catalogue("paper")
    source = Path(__file__).parents[3] / "nnunet_plugin" / "benchmark" / "catalogue" / "paper.toml"
    copy = tmp_path / "mine.toml"
    copy.write_text("# another comment\n" + source.read_text())
    assert load_catalogue(str(copy)).sha256 == paper.sha256
    assert load_catalogue("calibrated").sha256 != paper.sha256


def test_users_catalogue_with_another_transform(tmp_path, head):
    file = tmp_path / "gamma.toml"
    file.write_text(
        '[perturbations.gamma]\ntransform = "RandomGamma"\n'
        "severities = [{ log_gamma = [0.5, 0.5] }, { log_gamma = [1, 1] }]"
    )
    catalogue = load_catalogue(str(file))
    assert catalogue.name == "gamma"
    perturbed = Perturber(head, (1, 1, 1)).apply(draw(catalogue.entry("gamma", 1), 0, head.shape))
    np.testing.assert_allclose(perturbed, head ** np.exp(0.5), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one"),
        ("x = [", "not valid TOML"),
        ("[perturbations]", "at least one"),
        ('[perturbation.spike]\ntransform = "RandomSpike"\nseverities = [{}]', r"expected only \[perturbations"),
        ("perturbations = 3", "expected only"),
        ('[perturbations."my-spike"]\ntransform = "RandomSpike"\nseverities = [{}]', "letters, digits and _"),
        ('[perturbations.baseline]\ntransform = "RandomSpike"\nseverities = [{}]', "not 'baseline'"),
        ('[perturbations.spike]\ntransform = "RandomSpyke"\nseverities = [{}]', "did you mean 'RandomSpike'"),
        ('[perturbations.warp]\ntransform = "RandomAffine"\nseverities = [{}]', "no intensity transform"),
        ('[perturbations.map]\ntransform = "RandomLabelsToImage"\nseverities = [{}]', "refuses"),
        ('[perturbations.os]\ntransform = "Path"\nseverities = [{}]', "no transform 'Path'"),
        ('[perturbations.spike]\ntransform = "RandomSpike"\nseverities = []', "mildest first"),
        ('[perturbations.spike]\ntransform = "RandomSpike"\nseverities = [1, 2]', "mildest first"),
        ('[perturbations.spike]\ntransform = "RandomSpike"', "transform and severities"),
        (
            '[perturbations.spike]\ntransform = "RandomSpike"\nseverities = [{ num_spike = [1, 1] }]',
            "severity 1: RandomSpike has no parameter 'num_spike'; did you mean 'num_spikes'",
        ),
        (
            '[perturbations.n]\ntransform = "RandomNoise"\nseverities = [{ std = [0.5, 0.1] }]',
            "severity 1: RandomNoise refuses",
        ),
        ('[perturbations.n]\ntransform = "RandomNoise"\nseverities = [{ std = "loud" }]', "refuses"),
        ('[perturbations.b]\ntransform = "RandomBlur"\nseverities = [{ std = 1 }, { std = -1 }]', "severity 2"),
        (
            '[perturbations.b]\ntransform = "RandomBiasField"\nseverities = [{ coefficients = [90, 90] }]',
            "refuses|finite",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(BenchmarkError, match=message) as error:
        load_catalogue(str(file))
    assert "mine.toml" in str(error.value)


def test_missing_file_names_what_exists():
    with pytest.raises(BenchmarkError, match=r"'papr'.*calibrated, paper"):
        load_catalogue("papr")
