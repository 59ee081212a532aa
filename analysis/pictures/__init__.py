"""Slices of the cases that lost most, with what was segmented before and after."""
