"""The tables that the study's authors published, read into the columns that a run of ours has."""
