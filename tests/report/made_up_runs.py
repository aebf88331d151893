"""Folders of made-up runs as the trainer records them, results of bench, and what a page holds."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from deit_fast.cli import parse
from deit_fast.config import ReportConfig
from deit_fast.record.log import EventLog
from deit_fast.record.run import open_run, write_json
from deit_fast.report import write_report
from deit_fast.report.tables import Table

EPOCHS = 4
SECONDS = {"setup": 2.5, "compile": 0.0, "data_wait": 1.25, "compute": 80.0, "evaluation": 6.0, "checkpoint": 1.0}


class Page(HTMLParser):
    """A page as its texts, its attributes, and the cells of its rows; every element must be closed in order.

    Rows are those of tables, and of key figures: their name and value.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.rows: list[list[str]] = []
        self.raw: dict[str, str] = {}  # what stands in <style> and <script>, the last of each
        self._open: list[str] = []
        self.feed(self.html)
        assert not self._open

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for element, name, value in self.attributes if (element, name) == (tag, attribute)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img"):
            self._open.append(tag)
        if tag in ("tr", "div"):
            self.rows.append([])
        elif tag in ("th", "td", "dt", "dd"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("style", "script"):
            self.raw[self._open[-1]] = data
            return
        self.texts.append(data.strip())
        if {"th", "td", "dt", "dd"} & set(self._open):
            self.rows[-1][-1] += data


def write_epoch(log: EventLog, epoch: int, *, top1: float, ema_top1: float, num_images: int = 360) -> None:
    """Logs an epoch of two steps as the trainer does."""
    for step in range(2 * epoch, 2 * epoch + 2):
        log.write("step", epoch=epoch, step=step, loss=1.5, lr=1e-3 / (1 + step))
    seconds = {"compute": 20.0, "data_wait": 0.5}
    log.write(
        "epoch", epoch=epoch, steps=2, loss=1.5, lr=1e-3, resolution=32, images=256, wall_seconds=20.5,
        images_per_second=1000.0 + epoch, seconds=seconds, queue={"filled": 0.25 * epoch, "empty": 0.5},
        loader_seconds={"files": 0.0, "device": 0.0, "decode": 3.0, "augment": 1.0, "finish": 0.5, "queue": 15.5},
    )  # fmt: skip
    log.write("eval", epoch=epoch, weights="model", top1=top1, top5=99.0, loss=0.5, num_images=num_images)
    log.write("eval", epoch=epoch, weights="ema", top1=ema_top1, top5=99.5, loss=0.4, num_images=num_images)
    log.write("checkpoint", epoch=epoch, path="checkpoints/last.pt", best=False)


def write_start(log: EventLog, epoch: int = 0, **fields: Any) -> None:
    facts = {"world_size": 1, "global_batch_size": 128, "device": "cpu", "amp": "off", "lr": 1e-3, "num_parameters": 5_717_416}
    log.write("start", epoch=epoch, **{"steps_per_epoch": 2, **facts, **fields})


def make_run(
    folder: Path,
    *,
    finished: bool = True,
    epochs: int = EPOCHS,
    model: str = "deit_tiny",
    top1: float = 90.0,
    num_images: int = 360,
    options: dict[str, Any] | None = None,
    start: dict[str, Any] | None = None,
    end: dict[str, Any] | None = None,
) -> Path:
    """A made-up run: top-1 of 90, 91, … % for the raw weights, best in the last epoch but one, and 2 more for EMA.

    options: as {"section.option": value}; start, end: further fields of these events.
    """
    given = {"model.name": model, "train.epochs": EPOCHS} | (options or {})
    config = parse("train", [f"--{name}={value}" for name, value in given.items()])
    with open_run(folder, config, ["deit-fast", "train", "--x=<b>&"], resume=False) as run:
        write_start(run.log, **(start or {}))
        for epoch in range(epochs):
            reached = top1 + (epoch if epoch < EPOCHS - 1 else -0.75)
            write_epoch(run.log, epoch, top1=reached, ema_top1=reached + 2, num_images=num_images)
        if finished:
            summary: dict[str, Any] = {
                "epoch": EPOCHS - 1, "wall_seconds": 90.75, "seconds": SECONDS | {"other": 0.0}, "best_top1": top1 + 4,
                "best_weights": "ema", "best_epoch": 2, "checkpoint": "checkpoints/best.pt",
            } | (end or {})  # fmt: skip
            run.log.write("end", **summary)
            run.finish(summary)
    return folder


def bench_eval(path: Path, *rows: tuple[str, str, int, float | None]) -> Path:
    """A result of `bench eval`: model, precision, batch size and images/s of each row, and one that could not be measured."""
    found = [
        {
            "model": model, "precision": precision, "batch_size": batch_size, "num_parameters": 5, "resolution": 224,
            "images_per_second": None if rate is None else {"median": rate, "min": rate, "max": rate},
        }
        for model, precision, batch_size, rate in rows
    ]  # fmt: skip
    skipped = {"model": "vit_huge", "precision": "fp32", "batch_size": None, "reason": "does not fit into memory"}
    write_json(path, {"kind": "eval", "rows": found, "skipped": [skipped], "hardware": {}})
    return path


def report(*paths: Path, **options: Any) -> dict[str, Any]:
    """Writes the report of runs, sweeps and bench results with further options of its section."""
    return write_report(ReportConfig(runs=tuple(map(str, paths)), **options))


def texts(table: Table | None) -> list[list[str]]:
    """The texts of a table's rows."""
    assert table is not None
    return [[cell.text for cell in row] for row in table.rows]


def make_timed_run(
    folder: Path,
    evaluated: dict[int, tuple[float, float] | tuple[float, float, float]],
    *,
    options: dict[str, Any] | None = None,
    is_ended: bool = True,
    stopped: str = "",
    diverges: bool = False,
) -> Path:
    """A made-up run by its evaluations: by epochs done, the run's seconds so far, top-1 of raw weights, and that of EMA if any.

    stopped: why it ended before its last epoch.
    """
    config = parse("train", [f"--{name}={value}" for name, value in {"train.epochs": 10, **(options or {})}.items()])
    with open_run(folder, config, ["deit-fast", "train"], resume=False) as run:
        write_start(run.log)
        for epochs, (seconds, *several) in evaluated.items():
            run.log.write("epoch", epoch=epochs - 1, loss=1.0, lr=1e-3, images_per_second=10.0, seconds={"compute": seconds})
            for weights, top1 in zip(("model", "ema"), several, strict=False):
                run.log.write("eval", epoch=epochs - 1, weights=weights, top1=top1, loss=1.0, run_seconds=seconds)
        if diverges:
            run.log.write("not_finite", epoch=max(evaluated, default=0), step=1, loss=None, lr=1e-3, samples={})
        elif is_ended:
            last = max(seconds for seconds, *_ in evaluated.values())
            summary = {"stopped": stopped, "wall_seconds": last + 1, "seconds": {"compute": last + 1}}
            run.log.write("end", **summary)
            run.finish(summary)
    return folder
