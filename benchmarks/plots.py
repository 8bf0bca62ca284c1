"""Draws how something grows, and what happens over time. The one module that needs matplotlib, only when it draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .timeline import SLICE_S, Timeline, slices, spans

FORMATS = (".png", ".svg")
INCHES = (9.0, 3.6)
DOTS_PER_INCH = 120
INCHES_OF_TIMELINE = (12.0, 6.4)
HEIGHTS_OF_TIMELINE = (4, 1)
MARK_COLOUR, MOVE_COLOUR, FAILURE_COLOUR = "0.25", "tab:orange", "tab:red"


@dataclass(frozen=True, slots=True)
class Curve:
    """One operation: at each place its CPU time on all nodes and its median latency, in milliseconds."""

    title: str
    places: Sequence[int]
    cpu_ms: Sequence[float]
    p50_ms: Sequence[float]


@dataclass(frozen=True, slots=True)
class Line:
    """One figure at each place."""

    title: str
    places: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over the same places, both axes logarithmic."""

    title: str
    x_title: str
    lines: Sequence[Line]


def can_plot() -> bool:
    return find_spec("matplotlib") is not None


def plot(beside: Path, x_title: str, curves: Sequence[Curve]) -> None:
    """CPU time and latency side by side."""
    cpu = [Line(curve.title, curve.places, curve.cpu_ms) for curve in curves]
    p50 = [Line(curve.title, curve.places, curve.p50_ms) for curve in curves]
    draw(beside, [Panel("CPU of all nodes, ms per operation", x_title, cpu), Panel("median latency, ms", x_title, p50)])


def draw(beside: Path, panels: Sequence[Panel]) -> None:
    """Panels side by side, in files of the same name as `beside`. Where all have the same lines, one legend will do."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = beside.stem  # the same figures give the same file
    figure = Figure(figsize=INCHES, layout="constrained")
    drawn: Sequence[str] = ()
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.set(xscale="log", yscale="log", xlabel=panel.x_title, title=panel.title)
        axes.grid(visible=True, which="both", alpha=0.3)
        for line in panel.lines:
            axes.plot(line.places, line.values, marker="o", label=line.title)
        titles = [line.title for line in panel.lines]
        if titles != drawn:
            axes.legend(fontsize="small")
        drawn = titles
    for suffix in FORMATS:
        metadata = {"Date": None} if suffix == ".svg" else None
        figure.savefig(beside.with_suffix(suffix), dpi=DOTS_PER_INCH, metadata=metadata)


def plot_timeline(path: Path, title: str, timeline: Timeline) -> None:
    """Above each operation as a dot, with p50 and p99 of each slice; below nodes and moves. As a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES_OF_TIMELINE, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=HEIGHTS_OF_TIMELINE)
    draw_latencies(above, timeline)
    above.set_title(title, pad=28)
    draw_cluster(below, timeline)
    for panel in (above, below):
        panel.grid(visible=True, alpha=0.3)
        panel.margins(x=0.01)
        for start, end in spans(timeline.looks):
            panel.axvspan(start, end, color=MOVE_COLOUR, alpha=0.12, linewidth=0)
        for mark in timeline.marks:
            panel.axvline(mark.at, color=MARK_COLOUR, linewidth=1, linestyle="--")
    for mark in timeline.marks:
        above.annotate(
            mark.text,
            (mark.at, 1.0),
            (0, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            color=MARK_COLOUR,
        )
    figure.savefig(path, format="png", dpi=DOTS_PER_INCH)


def draw_latencies(panel: Any, timeline: Timeline) -> None:
    well = [each for each in timeline.samples if not each.failed]
    failed = [each for each in timeline.samples if each.failed]
    panel.scatter(
        [each.at for each in well],
        [each.latency_us / 1000 for each in well],
        s=5,
        alpha=0.35,
        color="tab:blue",
        linewidths=0,
        label="an operation",
    )
    found = list(slices(timeline.samples))
    middles = [each.at + SLICE_S / 2 for each in found]
    panel.plot(middles, [each.p50_ms for each in found], color="tab:green", label=f"p50 of {SLICE_S} s")
    panel.plot(middles, [each.p99_ms for each in found], color="tab:purple", label=f"p99 of {SLICE_S} s")
    if failed:
        panel.scatter(
            [each.at for each in failed],
            [each.latency_us / 1000 for each in failed],
            s=40,
            marker="x",
            color=FAILURE_COLOUR,
            label="failed",
        )
    panel.fill_between([], [], color=MOVE_COLOUR, alpha=0.2, linewidth=0, label="replicas move")
    panel.set(yscale="log", ylabel="latency, ms")
    panel.yaxis.set_major_formatter("{x:g}")
    panel.legend(loc="lower right", ncols=5, markerscale=3)


def draw_cluster(panel: Any, timeline: Timeline) -> None:
    """The nodes that are in, on the left axis; the partitions on the move, on the right one."""
    moments = [each.at for each in timeline.looks]
    panel.step(moments, [each.nodes for each in timeline.looks], where="post", color="tab:blue", linewidth=2)
    panel.set(ylabel="nodes", xlabel="seconds since the load began", ylim=(0, None))
    panel.yaxis.label.set_color("tab:blue")
    panel.yaxis.get_major_locator().set_params(integer=True)
    moves = panel.twinx()
    panel.set_zorder(moves.get_zorder() + 1)  # the line is not hidden by the area
    panel.patch.set_visible(False)
    moves.fill_between(moments, [each.moving for each in timeline.looks], step="post", color=MOVE_COLOUR, alpha=0.5)
    moves.set(ylabel="groups on\nthe move", ylim=(0, None))
    moves.yaxis.label.set_color(MOVE_COLOUR)
