"""Sections of commands that study runs: plan, bench, sweep, report and the demonstration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deit_fast.config.options import ABOVE_0, AT_LEAST_0, AT_LEAST_1, LIMIT, SIDE, Decides, Options, Within, option, path_option


@dataclass(frozen=True)
class PlanConfig(Options):
    """Prediction of what a run will cost."""

    DECIDES = Decides.NOTHING

    gpus: int = option(0, "predict for this many GPUs on one node; 0: for as many ranks as `plan` runs on", within=AT_LEAST_0)
    seconds: float = option(90.0, "approximate seconds of measuring", within=Within("5 to 3600", lambda v: 5 <= v <= 3600))
    prices: str = path_option(
        "",
        "YAML of prices per hour, to list the run's cost at each; prices.yaml comes with the package; "
        "empty: run.dollars_per_hour only",
    )
    figure: str = path_option("", "PNG for a figure of the stages; empty: beside --out, if that is given")


@dataclass(frozen=True)
class SweepConfig(Options):
    """Many runs that differ in some options."""

    DECIDES = Decides.NOTHING

    file: str = path_option("", "YAML of the sweep: `base`, `options`, and what varies as `grid`, `list` or `random`")
    dir: str = path_option(
        "", "folder of the sweep, with a run in it for each point; empty: runs/NAME, with the name of the sweep's file"
    )
    dry_run: bool = option(False, "print the points with their predicted hours and dollars; train none")
    retry: bool = option(False, "retry points that failed")
    at_once: int = option(
        0,
        "runs at the same time, one GPU for each; 0: as many as there are GPUs, else 1; with slurm: jobs at once, 0: all",
        within=AT_LEAST_0,
    )
    where: Literal["here", "slurm"] = option("here", "here: on this machine; slurm: one job for each point, through submitit")
    hours: float = option(-1.0, "budget of all points together, in hours of their processes; -1: no limit", within=LIMIT)
    dollars: float = option(
        -1.0, "budget of all points together in dollars, at run.dollars_per_hour; -1: no limit", within=LIMIT
    )


@dataclass(frozen=True)
class BenchConfig(Options):
    """Throughput and fidelity."""

    DECIDES = Decides.NOTHING

    kind: Literal["train", "step", "eval", "gpu", "write", "loader", "fidelity"] = option(
        "train", "what to measure; `deit-fast bench --help` says what each kind is"
    )
    steps: int = option(30, "steps in one measurement", within=AT_LEAST_1)
    rounds: int = option(
        5, "measurements of each figure, interleaved (eval: one after another); the median is reported", within=AT_LEAST_1
    )
    seconds: float = option(3.0, "seconds for one measurement: minimum for loader, target for eval", within=ABOVE_0)
    against: tuple[str, ...] = option((), "rivals to measure beside ours: timm, ffcv (stock FFCV), dali")
    work: tuple[str, ...] = option(
        (),
        "what to measure: stages and threads, with the options of data and augment; recipe3, recipe1, crop, raw and "
        "evaluation, with DeiT's; empty: all",
    )
    threads: int = option(
        0,
        "largest number of threads; ours runs with 1, 2, 4 ... up to it, rivals with it; 0: one for each core",
        within=AT_LEAST_0,
    )
    images: int = option(
        2048,
        "largest number of images, in proportion from each class; 0: all; fidelity without source.path: "
        "number of random images",
        within=AT_LEAST_0,
    )
    chart: str = path_option("", "PNG for a chart of the result; empty: beside --out, if that is given")
    markdown: str = path_option("", "Markdown file to write the table to; empty: none")
    models: tuple[str, ...] = option((), "names of the models to measure; empty: those that DeiT's paper compares, and CaiT")
    batch_sizes: tuple[int, ...] = option(
        (1, 64, 256),
        "batch sizes, one row each; 0: the largest power of two that fits into the GPU's memory",
        within=Within("each >= 0", lambda v: all(x >= 0 for x in v)),
    )
    precisions: tuple[str, ...] = option(
        (), "precisions of weights and images: fp32, tf32, bf16, fp16; empty: fp32, and bf16 on a GPU"
    )
    resolution: int = option(0, "side of the images in pixels; 0: the model's own, from timm", within=SIDE)
    limit_seconds: float = option(
        30.0,
        "seconds for all rows of a model; rows that would exceed them are left out, with the reason; 0: no limit",
        within=AT_LEAST_0,
    )


@dataclass(frozen=True)
class ReportConfig(Options):
    """Report of finished runs."""

    DECIDES = Decides.NOTHING

    runs: tuple[str, ...] = path_option((), "what to report on: folders of runs or sweeps, and JSON results of bench")
    html: str = path_option("", "page to write; empty: report.html in the first run's folder")
    published: tuple[str, ...] = option((), "published figures to draw beside them, marked as such: paper, ffcv-imagenet")
    images: str = path_option("", "folder for each figure as PNG; empty: none")
    markdown: str = path_option("", "Markdown file for the tables; empty: none")
    csv: str = path_option("", "CSV file for the table of runs; empty: none")


@dataclass(frozen=True)
class DemoConfig(Options):
    """The demonstration on scikit-learn's digits."""

    DECIDES = Decides.NOTHING

    dir: str = path_option("runs/demo", "folder of the demonstration; an earlier demonstration in it is replaced")
