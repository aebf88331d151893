"""Reads a command line and the YAML files that it names into one frozen RunConfig; writes the `--help` texts.

fastargs holds the options (Section, Param, Checker) and validates them. We pass it every value, and it never reads the command
line, files or the environment itself, because version 1.2.0 would read bool("False") as True and 3.9 as the integer 3,
ignore unknown YAML keys, drop None, accept abbreviated options, let the environment beat the command line, and exit
with status 0 on an error. Precedence: defaults, each `--config-file` in turn (a file after its `base`), command line.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_origin, get_type_hints

from fastargs import Config, Param, Section
from fastargs.validation import Checker

from deit_fast.config import RunConfig, UserError, at_home, check_ranges, declared, in_words
from deit_fast.option_values import BOOLEANS, COMMAND_LINE, Given, accepted, nearest, read_file, shown, typed, wanted
from deit_fast.shipped import shipped


@dataclass(frozen=True)
class Command:
    """What a command does, and its options beside --config-file and --out: sections ("data"), single ones ("train.device").

    `positional`: the option that is set by words without dashes, if any. `short`: options by a shorter name. `usual`: options
    that most people need, which `--help` lists; empty: all.
    """

    summary: str
    takes: tuple[str, ...]
    positional: str = ""
    short: dict[str, str] = dataclasses.field(default_factory=dict)
    usual: tuple[str, ...] = ()

    def has(self, key: str) -> bool:
        """Whether the command takes the option `section.name`."""
        return key in self.takes or key.partition(".")[0] in self.takes


_TRAINING = (
    *("data", "augment", "model", "distil", "optim", "schedule", "train"),
    *("eval.flip", "eval.heads", "eval.fusion", "run", "budget"),
)
_USUAL = (
    *("data.train", "data.val", "data.batch_size", "data.resolution", "model.name", "model.weights", "distil.kind"),
    *("distil.teacher_weights", "optim.lr", "train.epochs", "train.compile", "run.dir", "run.dollars_per_hour"),
)
COMMANDS = {
    "write": Command(
        "convert a data set into a beton",
        ("source", "write"),
        short={"resume": "write.resume"},
        usual=(
            *("source.path", "source.kind", "source.split", "source.subset", "write.out", "write.mode", "write.max_resolution"),
            *("write.on_error", "write.num_workers", "write.resume"),
        ),
    ),
    "inspect": Command("say what is in a beton", ("inspect",), positional="inspect.beton"),
    "verify": Command(
        "check that a beton is whole, and optionally that it is its source",
        ("verify",),
        positional="verify.beton",
        short={"against": "verify.against"},
    ),
    "train": Command(
        "train a classifier and record the run",
        (*_TRAINING, "slurm"),
        usual=(*_USUAL, "train.resume", "budget.hours", "slurm.nodes"),
    ),
    "plan": Command(
        "predict the hours and dollars of a training run", (*_TRAINING, "plan"), usual=(*_USUAL, "plan.gpus", "plan.prices")
    ),
    "eval": Command(
        "evaluate a checkpoint",
        (
            *("eval", "model.name", "model.options", "model.blurpool"),
            *(f"data.{name}" for name in ("val", "eval_batch_size", "eval_resolution", "eval_crop_ratio")),
            *(f"data.{name}" for name in ("num_workers", "batches_ahead")),
            *(f"train.{name}" for name in ("device", "amp", "channels_last")),
        ),
    ),
    "bench": Command(
        "measure throughput of training, inference, conversion or loading, or the fidelity of views",
        ("source", "write", "data", "augment", "model", "distil", "optim", "schedule", "train", "bench"),
        positional="bench.kind",
        usual=(
            *("bench.kind", "bench.rounds", "bench.against", "bench.work", "bench.images", "bench.models", "bench.markdown"),
            *("source.path", "data.train", "data.val", "data.batch_size", "model.name", "train.compile"),
        ),
    ),
    "sweep": Command(
        "train at every point of a grid, list or random sample of options",
        (*_TRAINING, "slurm", "sweep"),
        positional="sweep.file",
        short={"dry-run": "sweep.dry_run"},
        usual=(
            *("sweep.file", "sweep.dir", "sweep.dry_run", "sweep.retry", "sweep.at_once", "sweep.where", "sweep.hours"),
            *("sweep.dollars", "data.train", "data.val", "train.epochs", "run.dollars_per_hour"),
        ),
    ),
    "report": Command("write a page about finished runs", ("report",), positional="report.runs"),
    "demo": Command("train a small DeiT on scikit-learn's digits, from image folder to report", ("demo",)),
}

_SECTIONS: dict[str, Any] = {n: hint for n, hint in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(hint)}
_HINTS = {key: one.hint for key, one in declared().items()}
_COMMON = {  # options of every command that are not part of a section: placeholder and meaning
    "config-file": (
        "FILE.yaml",
        "options from a file, `section: {option: value}`; may be repeated: a later file wins over an earlier one and "
        "the command line over both; `base: OTHER.yaml` in a file names one, or a list of them, that it extends; "
        "a name that is no file here may be that of a recipe which comes with the package, such as "
        "deit_configs/deit_small.yaml; `~` in any path is the home",
    ),
    "out": ("FILE.json", "write the result there as JSON"),
    "help": ("", "print the options that most people need, and stop; --help=all: every option"),
}


def parse(command: str, argv: Sequence[str]) -> RunConfig:
    """The configuration of `deit-fast COMMAND *argv`. Raises UserError for the first error in it."""
    taken = _command(command)
    given, out = given_options(command, argv)
    registry = _registry()
    registry.collect(given)
    for error in registry.validate("errordict").values():
        # fastargs raises an empty ValidationError while it handles what the checker raised: that is the context
        assert isinstance(error.__context__, UserError), error.__context__
        raise UserError(str(error.__context__))
    sections = {
        section: cls(**{field.name: registry[f"{section}.{field.name}"] for field in dataclasses.fields(cls)})
        for section, cls in _SECTIONS.items()
    }
    config = RunConfig(**sections, out=out)
    check_ranges(config, taken.has)
    return config


def given_options(command: str, argv: Sequence[str]) -> tuple[dict[str, Given], str]:
    """The options on a command line and in its configuration files, unconverted, and the value of --out.

    Raises UserError for an unknown option, one that the command does not take, and a file that cannot be read.
    """
    given, files, out = _split(command, argv)
    layers: dict[str, Given] = {}
    for file in files:
        layers |= read_file(shipped(at_home(file)), _HINTS, COMMAND_LINE)
    return layers | given, out


def overview() -> str:
    """The text of `deit-fast --help`."""
    lines = ["usage: deit-fast COMMAND [--section.option=VALUE ...]", "", "commands:"]
    lines += [f"  {name:<8}{command.summary}" for name, command in COMMANDS.items()]
    lines += ["", "`deit-fast COMMAND --help` lists a command's options, `deit-fast --version` prints the version."]
    return "\n".join(lines)


def help_text(command: str, *, everything: bool = False) -> str:
    """The text of `deit-fast COMMAND --help`: each option with its meaning, unit, type, range and default, in 100 columns.

    everything: list the options that few people need as well.
    """
    taken = _command(command)
    placeholder = _positional_placeholder(taken)
    words = f" {placeholder}" if placeholder else ""
    lines = [
        f"usage: deit-fast {command}{words} [--config-file FILE.yaml] [--section.option=VALUE ...]",
        "",
        f"{taken.summary[0].upper()}{taken.summary[1:]}.",
    ]
    registry = _registry()
    for ns, paths in registry.sections_to_entries.items():
        keys = [key for key in map(".".join, paths) if taken.has(key) and (everything or not taken.usual or key in taken.usual)]
        if keys:
            lines += ["", f"{ns[0]}: {registry.sections[ns].desc}"]
        for key in keys:
            param = registry.entries[tuple(key.split("."))]
            lines += _help_lines(f"--{key}", f"{param.desc} [{accepted(key)}; {_default(key)}]")
        if taken.positional in keys:
            lines += _help_lines(placeholder, f"the same as --{taken.positional}={placeholder.replace('...', ',...')}")
        for name, key in taken.short.items():
            if key in keys:
                lines += _help_lines(f"--{name}", f"the same as --{key}")
    if taken.usual and not everything:
        lines += ["", f"`deit-fast {command} --help=all` lists all options."]
    lines += ["", "every command:"]
    for name, (placeholder, meaning) in _COMMON.items():
        lines += _help_lines(f"--{name} {placeholder}", meaning)
    return "\n".join(lines)


def _positional_placeholder(taken: Command) -> str:
    """Placeholder for words without dashes: RUN... if there may be several, else the option's name."""
    if not taken.positional:
        return ""
    return "RUN..." if get_origin(_HINTS[taken.positional]) is tuple else taken.positional.partition(".")[2].upper()


def _default(key: str) -> str:
    value = in_words(key, declared()[key].default)
    if isinstance(value, tuple):
        value = tuple(round(item, 4) if isinstance(item, float) else item for item in value)
    text = shown(value) or ("empty" if value == {} else "")
    return f"default: {text}" if text else "no default"


def _help_lines(left: str, right: str) -> list[str]:
    indent = 33
    return textwrap.wrap(
        right, 100, initial_indent=f"  {left} ".ljust(indent), subsequent_indent=" " * indent, break_on_hyphens=False
    )


def _command(name: str) -> Command:
    if name not in COMMANDS:
        raise UserError(f"unknown command {shown(name)}: want one of {', '.join(COMMANDS)}; {nearest(name, COMMANDS)}")
    return COMMANDS[name]


class _Typed(Checker):
    """Strict reader of one option: converts a value to the type of its dataclass field, or raises UserError."""

    def __init__(self, key: str) -> None:
        self.key = key

    def check(self, value: Any) -> Any:
        if not isinstance(value, Given):
            return value  # the default, which fastargs passes through here
        return typed(self.key, value)

    def help(self) -> str:
        return wanted(self.key)


def _registry() -> Config:
    """A fastargs Config of its own, never the library's global one, with every option of every section."""
    registry = Config()
    for section, cls in _SECTIONS.items():
        params = {}
        for field in dataclasses.fields(cls):
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            params[field.name] = Param(_Typed(f"{section}.{field.name}"), field.metadata["help"], default)
        Section(section, (cls.__doc__ or "").rstrip("."), config_descriptor=registry).params(**params)
    return registry


def _split(command: str, argv: Sequence[str]) -> tuple[dict[str, Given], list[str], str]:
    """Splits a command line into options, configuration files and the value of --out."""
    taken = COMMANDS[command]
    given: dict[str, Given] = {}
    files: list[str] = []
    runs: list[str] = []  # words without dashes
    words = list(reversed(argv))
    while words:
        word = words.pop()
        if not word.startswith("-"):
            runs.append(word)
            continue
        name, equals, value = word.partition("=")
        key = name.lstrip("-")
        if name == f"--{key}":
            key = taken.short.get(key, key)
            name = f"--{key}"
        hint = _HINTS.get(key, str if key in ("config-file", "out") else None)
        if hint is None or name != f"--{key}":
            raise UserError(f"{COMMAND_LINE}: unknown option {shown(name)}; {nearest(key, [*_HINTS, *_COMMON])}")
        if key in _HINTS and not taken.has(key):
            *takers, last = (name for name, other in COMMANDS.items() if other.has(key))
            others = f"{', '.join(takers)} and {last}" if takers else last
            raise UserError(f"{COMMAND_LINE}: {key} is not an option of {command}, but of {others}")
        if not equals and hint is bool and (not words or words[-1].lower() not in BOOLEANS):
            value = "true"
        elif not equals:
            if not words or words[-1].startswith("--"):
                raise UserError(f"{COMMAND_LINE}: {key} has no value: want --{key}=VALUE")
            value = words.pop()
        if key == "config-file":
            files.append(value)
        elif key in given:
            raise UserError(f"{COMMAND_LINE}: {key} is given twice: want it once")
        else:
            given[key] = Given(value, COMMAND_LINE)
    if runs and not taken.positional:
        raise UserError(f"{COMMAND_LINE}: {shown(runs[0])} is not an option: want --section.option=VALUE")
    if runs and taken.positional in given:
        raise UserError(f"{COMMAND_LINE}: {taken.positional} is given twice: as an option and as {shown(runs[0])}")
    if runs:
        if get_origin(_HINTS[taken.positional]) is tuple:
            given[taken.positional] = Given(runs, COMMAND_LINE)
        elif len(runs) == 1:
            given[taken.positional] = Given(runs[0], COMMAND_LINE)
        else:
            raise UserError(f"{COMMAND_LINE}: {shown(runs[1])} is one word too many: want one {taken.positional}")
    out = given.pop("out", None)
    if out and not out.value:
        raise UserError(f"{COMMAND_LINE}: out is empty: want a file name")
    return given, files, out.value if out else ""
