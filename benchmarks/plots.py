"""Draws how something grows, as PNG and SVG. The one module that needs matplotlib, and only when it draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

FORMATS = (".png", ".svg")
INCHES = (9.0, 3.6)
DOTS_PER_INCH = 120


@dataclass(frozen=True, slots=True)
class Curve:
    """One operation: at each place its CPU time on all nodes and its median latency, in milliseconds."""

    title: str
    places: Sequence[int]
    cpu_ms: Sequence[float]
    p50_ms: Sequence[float]


def can_plot() -> bool:
    return find_spec("matplotlib") is not None


def plot(beside: Path, x_title: str, curves: Sequence[Curve]) -> None:
    """Two panels, both axes logarithmic, in files of the same name as `beside`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = beside.stem  # the same figures give the same file
    figure = Figure(figsize=INCHES, layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, title in zip(panels, ("CPU of all nodes, ms per operation", "median latency, ms"), strict=True):
        panel.set(xscale="log", yscale="log", xlabel=x_title, title=title)
        panel.grid(visible=True, which="both", alpha=0.3)
    for curve in curves:
        panels[0].plot(curve.places, curve.cpu_ms, marker="o", label=curve.title)
        panels[1].plot(curve.places, curve.p50_ms, marker="o", label=curve.title)
    panels[0].legend()
    for suffix in FORMATS:
        metadata = {"Date": None} if suffix == ".svg" else None
        figure.savefig(beside.with_suffix(suffix), dpi=DOTS_PER_INCH, metadata=metadata)
