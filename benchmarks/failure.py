"""The two ways in which a benchmark ends without a figure."""


class BenchmarkFailed(Exception):
    """It could not be run; the message is the sentence to show."""


class RunVoid(Exception):
    """A run says nothing about the servers: the generator was the bottleneck, or not all answers were good."""
