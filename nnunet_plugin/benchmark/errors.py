"""The one exception that front ends turn into a message instead of a traceback."""


class BenchmarkError(Exception):
    """Input that cannot be worked with; the text names the file or option, the finding, the expectation, the remedy."""
