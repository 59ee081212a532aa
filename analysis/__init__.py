"""From the rows of a run to knowledge: statistics, tables, figures, the verdict and the report."""
