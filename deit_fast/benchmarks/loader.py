"""Measures views per second of the data path: by stage, by threads, beside rivals: `deit-fast bench loader`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from deit_fast.benchmarks.chart import bench_png
from deit_fast.benchmarks.files import BenchFiles
from deit_fast.benchmarks.interleave import interleaved, spread, summary
from deit_fast.benchmarks.result import check_names, described
from deit_fast.benchmarks.rivals.common import WORKS, NotInstalled, Setting, System, Work, views_per_second
from deit_fast.benchmarks.rivals.ours import open_ours, ours_evaluating, ours_training
from deit_fast.benchmarks.schedule_rates import bench_schedule, check_schedule, schedule_table
from deit_fast.benchmarks.stages import STAGES, on_one_thread, stage_input
from deit_fast.config import DataConfig, RunConfig, UserError, is_mixing
from deit_fast.data.fetch.local import local_text
from deit_fast.data.format.beton_list import without_weights
from deit_fast.data.format.beton_set import open_set
from deit_fast.data.load.decode import images_of
from deit_fast.data.load.loader import num_threads
from deit_fast.record.picture import picture_to_write
from deit_fast.record.run import write_bytes
from deit_fast.record.text_table import text_table

OURS = "deit_fast"
RIVALS = {"timm": "timm_rival", "ffcv": "ffcv_rival", "dali": "dali_rival"}
_SCHEDULE = "schedule"
_PARTS = ("stages", "threads", _SCHEDULE, *WORKS)


def bench_loader(config: RunConfig) -> dict[str, Any]:
    """`deit-fast bench loader`: figures of the parts in bench.work, as docs/benchmarks.md describes them.

    Images come from source.path or data.train; the files for the works are made from them in the system's temporary folder.
    stages, threads and schedule run on data.train itself if it is given. Raises UserError for options that do not fit.
    """
    parts = _check(config)
    config = config.changed({"data.train": local_text(config.data, "train")})
    chart = picture_to_write("bench.chart", config.bench.chart, config.out)
    rivals, left_out = _installed(config.bench.against)
    num_cores = config.bench.threads or _available_cores()
    result: dict[str, Any] = {"stages": {}, "threads": {}, _SCHEDULE: [], "works": {}}
    result |= {"left_out": left_out, "num_cores": num_cores}
    with tempfile.TemporaryDirectory(prefix="deit_fast-bench-") as scratch:
        files = None
        if config.source.path or set(parts) & set(WORKS):
            source = config.source if config.source.path else config.data.train
            files = BenchFiles(Path(scratch), source, config.bench.images, num_cores)
            result["images"] = _images(files, config)
        beton = config.data.train if files is None or not config.source.path else str(files.beton("deit_fast"))
        if "stages" in parts:
            result["stages"] = _stages(beton, config)
            print(_stages_table(result["stages"]))
        if "threads" in parts:
            result["threads"] = _threads(beton, config, num_cores)
            print(_threads_table(result["threads"]))
        if _SCHEDULE in parts:
            result[_SCHEDULE] = bench_schedule(config.changed({"data.train": beton}), num_cores)
            print(schedule_table(result[_SCHEDULE]))
        for name in parts:
            if name in WORKS and files is not None:
                setting = Setting(files, config.data.batch_size, config.data.resolution, num_cores, config.train.seed)
                result["works"][name] = _compare(WORKS[name], setting, rivals, config)
                print(_work_table(result["works"][name]))
    result |= described(config)
    if chart:
        write_bytes(chart, bench_png(result))
        print(f"chart: {chart}")
    return result


def _check(config: RunConfig) -> list[str]:
    """The parts to measure, in their order. Raises UserError for the first option that does not fit."""
    data, bench = config.data, config.bench
    if bool(config.source.path) == bool(data.train):
        got = "both are set" if data.train else "neither is set"
        raise UserError(f"source.path and data.train: {got}: want an image folder (source.path) or a beton (data.train)")
    check_names("against", bench.against, tuple(RIVALS))
    check_names("work", bench.work, _PARTS)
    if data.batch_size % 2 and (is_mixing(config.augment) or bench.against):
        raise UserError(f"data.batch_size={data.batch_size}: Mixup mixes pairs; want an even number")
    if bench.threads is not None and bench.threads > _available_cores():
        raise UserError(f"bench.threads={bench.threads}: want at most the {_available_cores()} cores of this machine, or auto")
    if _SCHEDULE in bench.work and not config.schedule.stages:
        raise UserError(f"bench.work={_SCHEDULE}: schedule.stages is off; want stages to measure")
    has_stages = bool(config.schedule.stages)
    parts = [part for part in _PARTS if part in bench.work or (not bench.work and (part != _SCHEDULE or has_stages))]
    if _SCHEDULE in parts:
        check_schedule(config)
    return parts


def _available_cores() -> int:
    return num_threads(DataConfig(), 1)


def _installed(names: tuple[str, ...]) -> tuple[dict[str, Callable[[Work, Setting], System]], dict[str, str]]:
    """Functions that open the installed rivals, and why the others are missing; prints a line for each of these."""
    openers, left_out = {}, {}
    for name in names:
        module = import_module(f"deit_fast.benchmarks.rivals.{RIVALS[name]}")
        try:
            module.check_installed()
        except NotInstalled as error:
            left_out[name] = str(error)
            print(f"{name}: left out, since it is not installed ({error})")
        else:
            openers[name] = getattr(module, f"open_{name}")
    return openers, left_out


def _images(files: BenchFiles, config: RunConfig) -> dict[str, Any]:
    print(f"{files.num_images:,} images of {files.num_bytes / files.num_images / 1000:.0f} kB on average")
    return {
        "from": config.source.path or config.data.train,
        "num_images": files.num_images,
        "num_classes": files.num_classes,
        "bytes_per_image": files.num_bytes / files.num_images,
    }


def _figures(values: list[float]) -> dict[str, Any]:
    return {"views_per_second": statistics.median(values), "rounds": values}


def _stages(beton: str, config: RunConfig) -> dict[str, Any]:
    data = config.data
    given = stage_input(
        images_of(open_set(beton, "data.train")), data.batch_size, data.resolution, data.interpolation, config.augment
    )
    num_views = len(given.samples)

    def rate(run: Callable[[], None]) -> float:
        num_runs, elapsed, started = 0, 0.0, time.perf_counter()
        # a stage is many times shorter than a batch by all threads
        while elapsed < config.bench.seconds / len(STAGES):
            run()
            num_runs += 1
            elapsed = time.perf_counter() - started
        return num_runs * num_views / elapsed

    with on_one_thread():
        made = {name: make(given) for name, make in STAGES.items()}
        runs = {name: functools.partial(rate, run) for name, run in made.items() if run is not None}
        rounds = interleaved(runs, config.bench.rounds)
    return {
        name: {**_figures(values), "milliseconds_per_view": 1000 / statistics.median(values)} for name, values in rounds.items()
    }


def _threads(beton: str, config: RunConfig, num_cores: int) -> dict[str, Any]:
    """Figures of training and of evaluation by number of threads; the loader is made anew for each measurement."""
    counts = [count for count in (2**power for power in range(num_cores.bit_length())) if count < num_cores] + [num_cores]

    val = without_weights(beton, "data.train")

    def rate(kind: str, count: int) -> float:
        data = dataclasses.replace(config.data, train=beton, val=val, num_workers=count)
        if kind == "training":
            system = ours_training(data, config.augment, config.train.seed)
        else:
            system = ours_evaluating(data, config.augment)
        with contextlib.closing(system):
            # the first batches write to memory that was never touched before
            for _ in range(system.ahead + 1):
                next(system.batches)
            return views_per_second(system, config.bench.seconds)

    kinds = ("training", "evaluation")
    measures = {(kind, count): functools.partial(rate, kind, count) for kind in kinds for count in counts}
    rounds = interleaved(measures, config.bench.rounds)
    return {kind: {str(count): _figures(rounds[kind, count]) for count in counts} for kind in kinds}


def _compare(
    work: Work, setting: Setting, rivals: dict[str, Callable[[Work, Setting], System]], config: RunConfig
) -> dict[str, Any]:
    """Measures one work by ours and by each rival that supports it; all stay open, and rest while another is measured."""
    openers = {OURS: open_ours, **{name: opener for name, opener in rivals.items() if name in work.rivals}}
    with contextlib.ExitStack() as stack:
        systems = {name: stack.enter_context(contextlib.closing(opener(work, setting))) for name, opener in openers.items()}
        measures = {name: functools.partial(views_per_second, system, config.bench.seconds) for name, system in systems.items()}
        rounds = interleaved(measures, config.bench.rounds)
    figures = {
        name: {**_figures(rounds[name]), "version": system.version, "does": system.does, "lacks": system.lacks}
        for name, system in systems.items()
    }
    ratios = {}
    for name in systems:
        if name != OURS:
            of_rounds = [ours / theirs for ours, theirs in zip(rounds[OURS], rounds[name], strict=True)]
            ratios[name] = {**summary(of_rounds), "rounds": of_rounds}
    return {"title": work.title, "systems": figures, "ratios": ratios}


def _stages_table(stages: dict[str, Any]) -> str:
    rows = [_row(name, found, f"{found['milliseconds_per_view']:.3f} ms a view") for name, found in stages.items()]
    return _table("stages, one core", rows)


def _threads_table(threads: dict[str, Any]) -> str:
    rows = [
        _row(f"{kind}, {count} thread{'s' * (count != '1')}", found)
        for kind, counts in threads.items()
        for count, found in counts.items()
    ]
    return _table("whole path", rows)


def _work_table(work: dict[str, Any]) -> str:
    rows = []
    for name, system in work["systems"].items():
        remarks = [f"without {system['lacks']}"] if system["lacks"] else []
        if name in work["ratios"]:
            ratio = work["ratios"][name]
            remarks.append(f"ours is {ratio['median']:.2f} times as fast ({ratio['min']:.2f} to {ratio['max']:.2f})")
        rows.append((*_row(name, system), "; ".join(remarks)))
    return _table(work["title"], rows)


def _row(name: str, found: dict[str, Any], *more: str) -> tuple[str, ...]:
    return (f"  {name}", f"{found['views_per_second']:,.0f} views/s", *more, f"({spread(found['rounds'])})")


def _table(title: str, rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join([title, *text_table(rows, "<>" + "<" * (len(rows[0]) - 2))])
