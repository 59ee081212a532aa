"""The clinical grading study as a kit: choose, blind, show, collect and analyse grades of contours."""
