"""Converted data set -> trained folds, by stock nnU-Net commands."""
