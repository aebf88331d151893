"""The command line: forms of options, kinds and words, errors, and traps of fastargs 1.2.0."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from deit_fast.cli import help_text, parse, read_call
from deit_fast.commands import COMMANDS
from deit_fast.config import (
    PredictConfig,
    ReportConfig,
    RunConfig,
    UserError,
)
from tests.commands.every import every_command

PROJECT = Path(__file__).parents[1]
COMMANDS_AND_KINDS = every_command()


def value(config: RunConfig, path: str) -> Any:
    section, name = path.split(".")
    return getattr(getattr(config, section), name)


def error(command: str, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(command, words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_gives_the_defaults() -> None:
    for command in COMMANDS:
        assert parse(command, []) == RunConfig()


@pytest.mark.parametrize("words", [["loader"], ["--bench.kind=loader"], ["--bench.kind", "loader"]])
def test_a_kind_is_chosen_by_a_word_an_option_or_a_file(tmp_path: Path, words: list[str]) -> None:
    assert read_call(["bench", *words]).command is COMMANDS_AND_KINDS["bench loader"]
    file = tmp_path / "a.yaml"
    file.write_text("bench: {kind: eval}\n", encoding="utf-8")
    assert read_call(["bench", f"--config-file={file}"]).command is COMMANDS_AND_KINDS["bench eval"]
    assert read_call(["bench", f"--config-file={file}", *words]).config.bench.kind == "loader"
    assert read_call(["bench"]).command is COMMANDS_AND_KINDS["bench train"]
    file.write_text("bench: {kind: evil}\n", encoding="utf-8")
    assert error("bench", f"--config-file={file}").startswith(f"{file}:1: bench.kind=evil: want one of train, ")


def test_a_file_may_have_options_that_the_command_does_not_take(tmp_path: Path) -> None:
    """A recipe is for several commands; ranges are checked of what is taken alone."""
    file = tmp_path / "a.yaml"
    file.write_text("bench: {models: [resnet18], steps: 0}\n", encoding="utf-8")
    call = read_call(["bench", "loader", f"--config-file={file}", "--bench.rounds=1"])
    assert (call.config.bench.models, call.config.bench.rounds) == (("resnet18",), 1)
    assert set(call.given) == {"bench.kind", "bench.models", "bench.steps", "bench.rounds"}
    assert error("bench", "step", f"--config-file={file}") == "bench.steps=0: want >= 1"


@pytest.mark.parametrize(
    ("words", "path", "wanted"),
    [
        (["--data.batch_size=3"], "data.batch_size", 3),
        (["--data.batch_size", "3"], "data.batch_size", 3),
        (["--data.train", "a=b.beton"], "data.train", "a=b.beton"),
        (["--data.train=a=b.beton"], "data.train", "a=b.beton"),
        (["--data.train=--odd"], "data.train", "--odd"),
        (["--data.train="], "data.train", ""),
        (["--data.train", ""], "data.train", ""),
        (["--data.train=1"], "data.train", "1"),
        (["--optim.lr=1e-3"], "optim.lr", 1e-3),
        (["--optim.lr=.5"], "optim.lr", 0.5),
        (["--optim.lr", "3"], "optim.lr", 3.0),
        (["--augment.mean=-1,0,+1.5"], "augment.mean", (-1.0, 0.0, 1.5)),
        (["--augment.mean", "-1,0,1"], "augment.mean", (-1.0, 0.0, 1.0)),
        (["--augment.crop_scale=0.08,1.0"], "augment.crop_scale", (0.08, 1.0)),
        (["--train.resume"], "train.resume", True),
        (["--train.resume", "--train.amp=off"], "train.resume", True),
        (["--train.resume", "yes"], "train.resume", True),
        (["--train.channels_last", "False"], "train.channels_last", False),
        (["--train.amp=off"], "train.amp", "off"),
        (["--train.compile", "max-autotune"], "train.compile", "max-autotune"),
        (["--model.options=patch_size=4,depth=6"], "model.options", {"patch_size": 4, "depth": 6}),
        (["--model.options=init_values=1e-5"], "model.options", {"init_values": 1e-5}),
        (["--model.options=img_size=[32, 16],name=a=b,on=off"], "model.options",
         {"img_size": [32, 16], "name": "a=b", "on": False}),
        (["--model.options="], "model.options", {}),
    ],
)  # fmt: skip
def test_forms_of_the_command_line(words: list[str], path: str, wanted: Any) -> None:
    got = value(parse("train", words), path)
    assert got == wanted
    assert type(got) is type(wanted)


@pytest.mark.parametrize("word", ["true", "True", "YES", "on", "1"])
def test_words_for_true(word: str) -> None:
    assert parse("eval", [f"--eval.flip={word}"]).eval.flip is True


@pytest.mark.parametrize("word", ["false", "False", "NO", "off", "0"])
def test_words_for_false(word: str) -> None:
    """fastargs' own checker reads all of these as True."""
    assert parse("train", [f"--train.channels_last={word}"]).train.channels_last is False


def test_out_and_positional_words() -> None:
    assert parse("report", ["runs/a", "--out", "b.json", "runs/c,d"]) == dataclasses.replace(
        RunConfig(), report=ReportConfig(runs=("runs/a", "runs/c,d")), out="b.json"
    )
    assert parse("report", ["--report.runs=a,b"]).report.runs == ("a", "b")
    assert parse("report", ["--report.runs="]).report.runs == ()


def test_the_first_word_sets_an_option_of_its_own() -> None:
    wanted = PredictConfig(model="a.pt", images=("b.jpg", "c,d"))
    assert parse("predict", ["a.pt", "b.jpg", "c,d"]).predict == wanted
    assert parse("predict", ["b.jpg", "c,d", "--predict.model=a.pt"]).predict == wanted
    assert parse("predict", ["a.pt", "--predict.images=b.jpg"]).predict == PredictConfig(model="a.pt", images=("b.jpg",))
    with pytest.raises(UserError, match=r"predict\.images is given twice: as an option and as b\.jpg"):
        parse("predict", ["a.pt", "b.jpg", "--predict.images=c.jpg"])
    text = help_text("predict")
    assert text.startswith("usage: deit-fast predict MODEL IMAGE... [")
    assert "the same as --predict.model=MODEL" in text
    assert "the same as --predict.images=IMAGE,..." in text


@pytest.mark.parametrize("variable", ["data.batch_size", "DATA.BATCH_SIZE", "batch_size"])
def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """fastargs' own collect_argparse_args lets it beat the command line."""
    monkeypatch.setenv(variable, "7")
    assert parse("train", []).data.batch_size == 128
    assert parse("train", ["--data.batch_size=3"]).data.batch_size == 3


def test_a_parse_leaves_nothing_behind() -> None:
    parse("train", ["--data.batch_size=3", "--model.options=a=1"])
    parse("train", []).model.options["b"] = 2
    assert parse("train", []) == RunConfig()


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (
            "trian",
            [],
            "unknown command trian: want one of "
            "write, inspect, verify, merge, split, subset, filter, views, train, teach, plan, eval, analyse, export, predict, "
            "bench, sweep, report, demo; nearest: train",
        ),
        ("train", ["--data.batchsize=3"], "unknown option --data.batchsize; nearest: data.batch_size"),
        ("train", ["--data.res=3"], "unknown option --data.res; nearest: data.resolution"),
        ("train", ["--dat.train=a"], "unknown option --dat.train; nearest: data.train"),
        ("train", ["--lr=3"], "unknown option --lr; nearest: optim.lr"),
        ("train", ["--data=3"], "unknown option --data; nearest: data."),
        ("train", ["--conf=a"], "unknown option --conf; nearest: config-file"),
        ("train", ["-C", "a.yaml"], "unknown option -C; nearest: "),
        ("train", ["-data.train=a"], "unknown option -data.train; nearest: data.train"),
        ("train", ["---data.train=a"], "unknown option ---data.train; nearest: data.train"),
        ("train", ["--"], "unknown option --; nearest: "),
        ("train", ["--DATA.train=a"], "unknown option --DATA.train; nearest: data.train"),
        ("train", ["data.train=a"], "data.train=a is not an option: want --section.option=VALUE"),
        ("train", ["--train.resume", "maybe"], "maybe is not an option: want --section.option=VALUE"),
        ("train", ["--data.train"], "data.train has no value: want --data.train=VALUE"),
        ("train", ["--data.train", "--data.val=a"], "data.train has no value: want --data.train=VALUE"),
        ("train", ["--config-file"], "config-file has no value: want --config-file=VALUE"),
        ("train", ["--out="], "out is empty: want a file name"),
        ("train", ["--data.train=a", "--data.train=a"], "data.train is given twice: want it once"),
        ("train", ["--out=a", "--out", "b"], "out is given twice: want it once"),
        ("report", ["a", "--report.runs=b"], "report.runs is given twice: as an option and as a"),
        (
            "eval",
            ["--train.mode=eval"],
            "train.mode is not an option of eval, but of train, plan, bench train, bench step, bench gpu and sweep",
        ),
        ("bench", ["--eval.flip"], "eval.flip is not an option of bench train, but of train, plan, eval, predict and sweep"),
        ("bench", ["loader", "--bench.models=a"], "bench.models is not an option of bench loader, but of bench eval"),
        ("bench", ["--bench.models=a"], "bench.models is not an option of bench train, but of bench eval"),
        ("write", ["--bench.kind=eval"], "bench.kind is not an option of write, but of bench"),
        ("bench", ["step", "--train.resume"], "train.resume is not an option of bench step, but of train, plan and sweep"),
        ("bench", ["lad"], "bench.kind=lad: want one of train, step, eval, gpu, write, loader, fidelity; nearest: loader"),
        ("bench", ["eval", "step"], "step is one word too many: want one bench.kind"),
        ("bench", ["eval", "--bench.kind=eval"], "bench.kind is given twice: as an option and as eval"),
        ("train", ["--train.epochs=3.0"], "train.epochs=3.0: want an integer"),
        ("train", ["--train.epochs=3.9"], "train.epochs=3.9: want an integer"),
        ("train", ["--train.epochs=1_000"], "train.epochs=1_000: want an integer"),
        ("train", ["--train.epochs= 3"], "train.epochs= 3: want an integer"),
        ("train", ["--train.epochs=3\n"], r"train.epochs='3\n': want an integer"),
        ("train", ["--train.epochs=\u0663"], "train.epochs=\u0663: want an integer"),
        ("train", ["--train.epochs=True"], "train.epochs=True: want an integer"),
        ("train", ["--train.epochs="], "train.epochs=: want an integer"),
        ("train", [f"--train.epochs={'9' * 5000}"], f"train.epochs={'9' * 97}...: want an integer"),
        ("train", ["--optim.lr=fast"], "optim.lr=fast: want a number"),
        ("train", ["--optim.lr=nan"], "optim.lr=nan: want a number"),
        ("train", ["--optim.lr=inf"], "optim.lr=inf: want a number"),
        ("train", ["--optim.lr=1e999"], "optim.lr=1e999: want a number"),
        ("train", ["--optim.lr=1_0.0"], "optim.lr=1_0.0: want a number"),
        ("train", ["--optim.lr=3/4"], "optim.lr=3/4: want a number"),
        ("train", ["--train.resume=maybe"], "train.resume=maybe: want true or false"),
        ("train", ["--train.resume="], "train.resume=: want true or false"),
        ("train", ["--train.amp=bf-16"], "train.amp=bf-16: want one of auto, off, bf16, fp16; nearest: bf16"),
        ("train", ["--train.amp=false"], "train.amp=false: want one of auto, off, bf16, fp16; nearest: "),
        ("train", ["--data.ramp=0"], "data.ramp=0: want 2 numbers with commas between"),
        ("train", ["--data.ramp=0,1,2"], "data.ramp=0,1,2: want 2 numbers with commas between"),
        ("train", ["--data.ramp=0,"], "data.ramp=0,: want 2 numbers with commas between"),
        ("train", ["--data.ramp=[0,1]"], "data.ramp=[0,1]: want 2 numbers with commas between"),
        (
            "train",
            ["--schedule.stages=[{"],
            "schedule.stages=[{: want a YAML list of mappings from options to values, or off",
        ),
        ("train", ["--schedule.stages=[{share: x}]"], "schedule.stages: stage 1: share=x: want a number above 0"),
        (
            "train",
            ["--schedule.stages=[{}, {optim.lr: 1}]"],
            "schedule.stages: stage 2: optim.lr cannot stand there; nearest: ",
        ),
        ("train", ["--augment.mean=1,2,x"], "augment.mean=1,2,x: want 3 numbers with commas between"),
        ("report", ["--report.runs=a,,b"], "report.runs=a,,b: want texts with commas between"),
        ("train", ["--model.options=depth"], "model.options=depth: want key=value,key=value"),
        ("train", ["--model.options=depth=1,depth=2"], "model.options=depth=1,depth=2: want key=value,key=value"),
        ("train", ["--model.options=depth=[1"], "model.options=depth=[1: want key=value,key=value"),
        ("train", ["--model.options=a-b=1"], "model.options=a-b=1: want key=value,key=value"),
    ],
)
def test_errors_of_the_command_line(command: str, words: list[str], message: str) -> None:
    prefix = "" if command not in COMMANDS else "command line: "
    got = error(command, *words)
    assert got == prefix + message or (message.endswith((": ", ".")) and got.startswith(prefix + message))


def test_ranges_are_checked_of_what_the_command_takes() -> None:
    assert error("train", "--data.batch_size=0") == "data.batch_size=0: want >= 1"
    assert error("bench", "--bench.steps=-1") == "bench.steps=-1: want >= 1"


@pytest.mark.parametrize("path", [str(path.relative_to(PROJECT)) for path in sorted(PROJECT.glob("*_configs/*.yaml"))])
def test_configurations_of_the_project_parse(path: str) -> None:
    parse("train", ["--config-file", str(PROJECT / path)])
