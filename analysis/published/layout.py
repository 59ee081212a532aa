"""What the authors' folder holds, by our names and theirs."""

from __future__ import annotations

MODALITIES = ("CT", "PET")
PERTURBATIONS = {
    "bias": "Bias",
    "blur": "Blur",
    "ghosting": "Ghost",
    "motion": "Motion",
    "noise": "Noise",
    "spike": "Spike",
}
"""Perturbation by our name, with the authors'."""
SEVERITIES = (1, 2, 3)
STRUCTURES = ("GTVp", "GTVn")
OBSERVERS = ("observer_1", "observer_2")
GRADED = {"baseline": "Metrics_x_Clinical.csv", "perturbed": "Metrics_x_Clinical_perturbed.csv"}
"""Tables with the grades of both observers."""

DESCRIPTORS = {
    "volume_mm3": "Volume",
    "surface_mm2": "Surface Area",
    "compactness": "Compactness",
    "centroid_distance_mm": "Distance from Center",
    "boundary_length_mm": "Boundary Length",
    "CT_sd": "CT Intensity Var",
    "PET_sd": "PET Intensity Var",
    "CT_contrast": "CT F/B Contrast",
    "PET_contrast": "PET F/B Contrast",
    "PET_max": "SUVmax",
    "CT_mean": "CT Number (HU)",
    "regions": "Regions",
    "mask_entropy": "Entropy",
}
"""The study's 13 descriptors by our name, with the authors' column."""
