"""Trained model + labelled cohort -> rows. Knows nothing of pytest or statistics."""
