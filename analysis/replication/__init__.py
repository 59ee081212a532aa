"""The study's published figures, recomputed from the per-case tables that its authors made public."""
