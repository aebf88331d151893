"""Takes nothing, gives the sections about what is asked of runs: plans, benches, sweeps, reports, the demonstration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deit_fast.config.options import Options, option, path_option


@dataclass(frozen=True)
class PlanConfig(Options):
    """Prediction of what a run will cost."""

    gpus: int = option(0, "GPUs that the run is to have, on one node; 0: as many ranks as the plan itself is made on")
    seconds: float = option(90.0, "how long measuring may take, about")
    prices: str = path_option(
        "",
        "YAML of prices an hour, to list what the run costs at each; prices.yaml comes with the package; "
        "empty: run.dollars_per_hour alone",
    )
    figure: str = path_option("", "PNG to draw the stages in; empty: beside --out, where that is given")


@dataclass(frozen=True)
class SweepConfig(Options):
    """Many runs that differ in some options."""

    file: str = path_option("", "YAML of the sweep: `base`, `options`, and what varies as `grid`, `list` or `random`")
    dir: str = path_option(
        "", "folder of the sweep, with a run in it for each point; empty: runs/NAME, NAME being that of the file"
    )
    dry_run: bool = option(False, "print the points, with their predicted hours and dollars, and train none")
    retry: bool = option(False, "try points again that failed")
    at_once: int = option(
        0, "runs at the same time, each on a GPU of its own; 0: one for each GPU, else 1; slurm: jobs at the same time, 0: all"
    )
    where: Literal["here", "slurm"] = option("here", "here; slurm: each point is a job, submitted through submitit")
    hours: float = option(-1.0, "budget of all points together, in hours of their processes; -1: no limit")
    dollars: float = option(-1.0, "budget of all points together, at run.dollars_per_hour; -1: no limit")


@dataclass(frozen=True)
class BenchConfig(Options):
    """Throughput and fidelity."""

    kind: Literal["train", "step", "eval", "gpu", "write", "loader", "fidelity"] = option(
        "train",
        "train: images per second of the loader alone, of training steps alone, and of both together; step: time of our "
        "training step over a bare PyTorch loop's, on synthetic batches; eval: images per second of inference, by model; gpu: "
        "the GPU's ceilings, and how near training comes to them; write: of conversion, beside stock FFCV's; loader: views per "
        "second of the data path, by stage and by threads, and beside other loaders; fidelity: no speed, but how far views are "
        "from Pillow's and timm's",
    )
    steps: int = option(30, "train, step, gpu: steps in one measurement")
    rounds: int = option(5, "measurements of each figure, in turns (eval: one after another); the median is reported")
    seconds: float = option(3.0, "loader, eval: seconds for one measurement: minimum for loader, target for eval")
    against: tuple[str, ...] = option((), "loader: rivals to measure beside ours, of timm, ffcv (stock FFCV) and dali")
    work: tuple[str, ...] = option(
        (),
        "loader: what to measure: stages and threads, as data and augment say; recipe3, recipe1, crop, raw and evaluation, "
        "as DeiT's recipe has them; empty: all",
    )
    threads: int = option(
        0, "loader: measured with 1, 2, 4 threads and so on up to so many, rivals with so many; 0: one for each core"
    )
    images: int = option(
        2048,
        "loader, fidelity: take so many images at most, from each class its share; 0: all; fidelity without source.path: so "
        "many random images",
    )
    chart: str = path_option("", "loader: PNG to draw the result in; empty: beside --out, where that is given")
    markdown: str = path_option("", "fidelity: page to write the table to, in Markdown; empty: none")
    models: tuple[str, ...] = option(
        (), "eval: names of the models to measure; empty: those that DeiT's paper compares, and CaiT"
    )
    batch_sizes: tuple[int, ...] = option(
        (1, 64, 256), "eval: images at once, a row for each; 0: the largest power of two that fits into the GPU's memory"
    )
    precisions: tuple[str, ...] = option(
        (), "eval: of fp32, tf32, bf16 and fp16, weights and images alike; empty: fp32, and bf16 where there is a GPU"
    )
    resolution: int = option(0, "eval: side of the images in pixels; 0: what timm says that the model was made for")
    limit_seconds: float = option(
        30.0, "eval: time for all rows of a model; what would not end in it is left out, with its reason; 0: no limit"
    )


@dataclass(frozen=True)
class ReportConfig(Options):
    """Report of finished runs."""

    runs: tuple[str, ...] = path_option((), "folders of runs or of sweeps, and results of bench as JSON, to report on")
    html: str = path_option("", "page to write; empty: report.html in the first run's folder")
    published: tuple[str, ...] = option((), "published figures to draw beside them, marked as such: of paper and ffcv-imagenet")
    images: str = path_option("", "folder to write each figure to as PNG as well; empty: none")
    markdown: str = path_option("", "file to write the tables to as Markdown as well; empty: none")
    csv: str = path_option("", "file to write the table of runs to as CSV as well; empty: none")


@dataclass(frozen=True)
class DemoConfig(Options):
    """The demonstration on scikit-learn's digits."""

    dir: str = path_option("runs/demo", "folder of the demonstration; an earlier demonstration in it is replaced")
