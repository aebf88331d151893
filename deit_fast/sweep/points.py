"""Makes the points of a sweep, each with a name, the options that it sets, and a whole configuration."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit_fast.config import RunConfig, SweepConfig, UserError, check_ranges, check_training
from deit_fast.options.values import COMMAND_LINE, Given, typed
from deit_fast.record.log import as_json
from deit_fast.sweep.file import Setting, SweepFile
from deit_fast.sweep.options import TRAINING, configuration, value_of
from deit_fast.train.slurm import check_job

BASE = "base"  # name of the point that sets nothing
_LONGEST = 120  # characters of a name: folders and files are called by it, with endings
_SAFE, _NOT_SAFE = re.compile(r"[A-Za-z0-9._+-]*"), re.compile(r"[^A-Za-z0-9._+-]+")


@dataclass(frozen=True)
class Point:
    """One run of a sweep: its name (also of its folder), the options that it sets, and its whole configuration."""

    name: str
    options: dict[str, Any]
    config: RunConfig

    @property
    def folder(self) -> Path:
        """The folder of its run."""
        return Path(self.config.run.dir)


def points_of(file: SweepFile, given: Mapping[str, Given], sweep: SweepConfig, folder: Path) -> list[Point]:
    """All points of a sweep, each checked as `train` would check it before it starts.

    given: the options of the sweep's command line, which override those that the file's points share. Raises UserError for the
    first error, with the file, and the line or the point.
    """
    for name, value in given.items():
        if value.origin == COMMAND_LINE and name in file.varied:
            raise UserError(f"{COMMAND_LINE}: {name} is what {file.path} varies: leave it out here, or there")
    taken = set(TRAINING)
    shared = file.shared | {name: value for name, value in given.items() if name in taken}
    points: dict[str, Point] = {}
    for setting in file.points:
        config = RunConfig().changed({key: typed(key, value) for key, value in (shared | setting.options).items()})
        values = {name: value_of(config, name) for name in TRAINING if name in setting.options}
        name = point_name({name: value for name, value in values.items() if name in setting.own}, setting.recipe)
        if name in points:
            raise UserError(f"{file.path}:{_line(setting)}: point {name} stands twice: want it once")
        points[name] = Point(name, values, _of_run(config, sweep, folder / name))
    for point in points.values():
        _check(point, sweep, file.path)
    return list(points.values())


def _check(point: Point, sweep: SweepConfig, file: Path) -> None:
    try:
        check_ranges(point.config, TRAINING.__contains__)
        if sweep.where == "slurm":
            check_job(point.config)
        else:
            check_training(point.config, world_size=1)
    except UserError as error:
        raise UserError(f"{file}: point {point.name}: {error}") from None


def _of_run(config: RunConfig, sweep: SweepConfig, folder: Path) -> RunConfig:
    """The configuration of a point's run, which resumes from its checkpoints."""
    nodes = config.slurm.nodes or 1 if sweep.where == "slurm" else None
    config = dataclasses.replace(config, sweep=SweepConfig())
    return config.changed({"run.dir": str(folder), "train.resume": True, "slurm.nodes": nodes})


def _line(setting: Setting) -> str:
    """Line of the first of a point's options."""
    return next((given.origin.rpartition(":")[2] for given in (setting.own or setting.of_recipe).values()), "1")


def point_name(options: Mapping[str, Any], recipe: str = "") -> str:
    """The name of a point from its recipe and the options that it sets itself: readable, and safe as a file name.

    The options of its recipe are not in it, and nothing else decides on it, so that points added to a sweep rename none.
    If a value cannot be written in full, e.g. a path, a digest stands for the rest.
    """
    if not options:
        return recipe or BASE
    texts = {name: _text(value) for name, value in options.items()}
    safe = {name: text if _SAFE.fullmatch(text) else _made_safe(text) for name, text in texts.items()}
    name = ",".join([*filter(None, [recipe]), *(f"{option}={text}" for option, text in safe.items())])
    if safe == texts and len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(json.dumps(as_json(options), sort_keys=True).encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - 9]}-{digest}"


def _made_safe(text: str) -> str:
    return _NOT_SAFE.sub("-", Path(text).name or text).strip("-")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, tuple):
        return "+".join(map(_text, value))
    return json.dumps(as_json(value)) if isinstance(value, dict) else str(value)


def as_file(point: Point) -> str:
    """The point's configuration as a YAML file for `train`."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in configuration(point.config).items():
        section, option = name.split(".")
        if section != "slurm":  # a job's own processes submit no job
            sections.setdefault(section, {})[option] = value
    # JSON is YAML in which each text is in quotes; PyYAML's own writer leaves them out where our reader wants them
    lines = [f"{section}: {json.dumps(options, ensure_ascii=False)}" for section, options in sections.items()]
    return "\n".join([f"# Point {point.name} of a sweep: its options in full, but for defaults.", *lines]) + "\n"
