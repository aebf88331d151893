"""Sections of commands that study runs: plan, bench, sweep, report and the demonstration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deit_fast.config.options import ABOVE_0, AT_LEAST_1, SIDE, Decides, Options, Within, option, path_option


@dataclass(frozen=True)
class PlanConfig(Options):
    """Prediction of what a run will cost."""

    DECIDES = Decides.NOTHING

    gpus: int | None = option(
        None,
        "predict for this many GPUs on one node; auto: for as many ranks as `plan` runs on",
        unset="auto",
        within=AT_LEAST_1,
    )
    seconds: float = option(90.0, "approximate seconds of measuring", within=Within("5 to 3600", lambda v: 5 <= v <= 3600))
    prices: str = path_option(
        "",
        "YAML of prices per hour, to list the run's cost at each; prices.yaml comes with the package; "
        "off: run.dollars_per_hour only",
        unset="off",
    )
    figure: str = path_option("", "PNG for a figure of the stages; auto: beside --out, if that is given", unset="auto")


@dataclass(frozen=True)
class SweepConfig(Options):
    """Many runs that differ in some options."""

    DECIDES = Decides.NOTHING

    file: str = path_option("", "YAML of the sweep: `base`, `options`, and what varies: `recipes`, `grid`, `list`, `random`")
    dir: str = path_option(
        "",
        "folder of the sweep, with a run in it for each point; auto: runs/NAME, with the name of the sweep's file",
        unset="auto",
    )
    dry_run: bool = option(False, "print the points with their predicted hours and dollars; train none")
    retry: bool = option(False, "retry points that failed")
    at_once: int | None = option(
        None,
        "runs at the same time, one GPU for each, or jobs with slurm; auto: as many as there are GPUs, else 1; with slurm: all",
        unset="auto",
        within=AT_LEAST_1,
    )
    where: Literal["here", "slurm"] = option("here", "here: on this machine; slurm: one job for each point, through submitit")
    tuned: tuple[str, ...] = option(
        (),
        "options that are tuned, for times to budget.until: of points that differ in them alone, the fastest counts",
        unset="off",
    )
    hours: float | None = option(
        None, "budget of all points together, in hours of their processes", unset="unlimited", within=ABOVE_0
    )
    dollars: float | None = option(
        None, "budget of all points together in dollars, at run.dollars_per_hour", unset="unlimited", within=ABOVE_0
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
    against: tuple[str, ...] = option((), "rivals to measure beside ours: timm, ffcv (stock FFCV), dali", unset="off")
    choices: tuple[str, ...] = option(
        (), "options whose other values are measured too: attention, patch_embed, drop_path_kind", unset="off"
    )
    work: tuple[str, ...] = option(
        (),
        "what to measure: stages and threads, with the options of data and augment; schedule: views of each stage of "
        "schedule.stages; recipe3, recipe1, crop, raw and evaluation, with DeiT's",
        unset="all",
    )
    threads: int | None = option(
        None,
        "largest number of threads; ours runs with 1, 2, 4 ... up to it, rivals with it; auto: one for each core",
        unset="auto",
        within=AT_LEAST_1,
    )
    images: int | None = option(
        2048,
        "largest number of images, in proportion from each class; fidelity without source.path: number of random images",
        unset="all",
        within=AT_LEAST_1,
    )
    chart: str = path_option("", "PNG for a chart of the result; auto: beside --out, if that is given", unset="auto")
    markdown: str = path_option("", "Markdown file to write the table to", unset="off")
    models: tuple[str, ...] = option(
        (), "names of the models to measure; auto: those that DeiT's paper compares, and CaiT", unset="auto"
    )
    batch_sizes: tuple[int | None, ...] = option(
        (1, 64, 256),
        "batch sizes, one row each; auto: the largest power of two that fits into the GPU's memory",
        unset="auto",
        within=Within("each >= 1", lambda v: all(x >= 1 for x in v)),
    )
    precisions: tuple[str, ...] = option(
        (), "precisions of weights and images: fp32, tf32, bf16, fp16; auto: fp32, and bf16 on a GPU", unset="auto"
    )
    resolution: int | None = option(
        None, "side of the images in pixels; auto: the model's own, from timm", unset="auto", within=SIDE
    )
    limit_seconds: float | None = option(
        30.0,
        "seconds for all rows of a model; rows that would exceed them are left out, with the reason",
        unset="unlimited",
        within=ABOVE_0,
    )


@dataclass(frozen=True)
class ReportConfig(Options):
    """Report of finished runs."""

    DECIDES = Decides.NOTHING

    runs: tuple[str, ...] = path_option((), "what to report on: folders of runs or sweeps, and JSON results of bench")
    html: str = path_option("", "page to write; auto: report.html in the first run's folder", unset="auto")
    published: tuple[str, ...] = option(
        (), "published figures and curves to draw beside them, marked as such: paper, ffcv-imagenet, deit3", unset="off"
    )
    curves: tuple[str, ...] = path_option(
        (), "curves of other codes to draw beside them: log.txt of DeiT's code, summary.csv of timm", unset="off"
    )
    target: tuple[str, ...] = option(
        (),
        "targets to state the time to, each top1=PERCENT; auto: those in budget.until of the runs",
        unset="auto",
    )
    seeds: tuple[str, ...] = option(
        ("train.seed", "data.seed"), "options in which runs of one recipe may differ; the median is over them"
    )
    tuned: tuple[str, ...] = option(
        (), "options that are tuned: of runs with the same seeds that differ in them alone, the fastest counts", unset="off"
    )
    images: str = path_option("", "folder for each figure as PNG", unset="off")
    markdown: str = path_option("", "Markdown file for the tables", unset="off")
    csv: str = path_option("", "CSV file for the table of runs", unset="off")


@dataclass(frozen=True)
class TeachConfig(Options):
    """A teacher's answers, computed once for all runs that learn from them."""

    DECIDES = Decides.NOTHING

    out: str = path_option(
        "", "file of labels to write, for distil.labels; the same command goes on with one that was interrupted"
    )
    epochs: int | None = option(
        None,
        "epochs to label; a longer run shows their views again from the first on; auto: train.epochs",
        unset="auto",
        within=Within("1 to 65535", lambda v: 1 <= v <= 65535),
    )
    of: Literal["mixed", "views"] = option(
        "mixed",
        "mixed: the teacher sees the mixed images, as DeiT's does, and its answers serve runs of this data.batch_size; views: "
        "it sees each view before mixing, and its answers are mixed as the images are, for any batch size and mixing",
    )
    top: int = option(
        1,
        "classes kept of each answer: 1: the most likely one, 2 bytes a view, for distil.kind=hard; more: with their "
        "probabilities, 4 bytes each, for soft too",
        within=Within("1 to 1000", lambda v: 1 <= v <= 1000),
    )
    also: tuple[str, ...] = path_option(
        (), "further teachers, NAME:WEIGHTS each: the answer is the mean of all their probabilities", unset="off"
    )


@dataclass(frozen=True)
class DemoConfig(Options):
    """The demonstration."""

    DECIDES = Decides.NOTHING

    set: Literal["digits", "photos"] = option(
        "digits",
        "digits: scikit-learn's 1,797; photos: 10,000 crops of large photographs, each of them one class",
    )
    photographs: str = path_option(
        "",
        "demo.set=photos: folder of at least 2 large photographs to cut them out of; auto: 20 of Debian's wallpapers, which "
        "apt-get downloads (140 MB) and nothing installs",
        unset="auto",
    )
    dir: str = path_option(
        "",
        "folder of the demonstration; an earlier demonstration in it is replaced; auto: runs/demo, for photos runs/demo_photos",
        unset="auto",
    )
