"""The robustness gate: ``pytest robustness_tests``."""
