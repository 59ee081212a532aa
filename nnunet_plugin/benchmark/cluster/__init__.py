"""Many machines: cases are handed out to the workers of a Dask cluster. Needs the extra ``distributed``."""
