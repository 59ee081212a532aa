"""Ways of choosing the perturbed cases that are graded."""

from typing import Literal, get_args

Sample = Literal["worst", "random", "stratified"]
SAMPLES: tuple[Sample, ...] = get_args(Sample)

SAMPLE_WORDS = {
    "worst": "The perturbed cases are those that lose most Dice, as in the study: the share of usable ones says how "
    "bad it can get and lies below that of all perturbed cases.",
    "random": "The perturbed cases are drawn at random among all cases and severities of each perturbation.",
    "stratified": "The perturbed cases are drawn one from each part of equally many cases and severities, from the "
    "least loss of Dice to the largest.",
}
"""What each way of choosing perturbed cases means for the share of usable ones."""
