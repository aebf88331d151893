"""YAML files: what is read of them, in which order they win, and each error with its file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deit_fast.cli import parse
from deit_fast.config import UserError


def write(folder: Path, text: str, name: str = "a.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def error(path: str) -> str:
    with pytest.raises(UserError) as caught:
        parse("train", ["--config-file", path])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "path", "wanted"),
    [
        ("optim: {lr: 1e-3}", "optim.lr", 1e-3),
        ("optim: {lr: 5.0e-4}", "optim.lr", 5e-4),
        ("optim: {lr: 1E3}", "optim.lr", 1e3),
        ("optim: {lr: '1e-3'}", "optim.lr", 1e-3),
        ("optim: {lr: 2}", "optim.lr", 2.0),
        ("train: {epochs: 010}", "train.epochs", 10),
        ("train: {resume: yes}", "train.resume", True),
        ("train: {channels_last: off}", "train.channels_last", False),
        ("train: {amp: off}", "train.amp", "off"),
        ("train: {compile: off}", "train.compile", "off"),
        ("train: {amp: 'off'}", "train.amp", "off"),
        ("augment: {crop_scale: [0.08, 1]}", "augment.crop_scale", (0.08, 1.0)),
        ("data:\n  train: a.beton  # remark", "data.train", "a.beton"),
        ("data: {train: 2024-01-01}", "data.train", "2024-01-01"),
        ("data: {train: '15'}", "data.train", "15"),
        ("data: {train: bücher.beton}", "data.train", "bücher.beton"),
        ("model: {options: {depth: 6, init_values: 1e-5}}", "model.options", {"depth": 6, "init_values": 1e-5}),
        ("model: {options: {a: {b: 1}, c: [null]}}", "model.options", {"a": {"b": 1}, "c": [None]}),
        ("model: {options: {}}", "model.options", {}),
        ("data: {<<: {batch_size: 3, train: a}, batch_size: 4}", "data.batch_size", 4),
        ("report: {runs: [a, 'b,c']}", "report.runs", ("a", "b,c")),
        ("bench: {steps: 0}", "bench.steps", 0),  # out of range, but in a section that train does not take
        ("data:\n", "data.batch_size", 128),
        ("", "data.batch_size", 128),
    ],
)
def test_forms_of_yaml(tmp_path: Path, text: str, path: str, wanted: Any) -> None:
    section, name = path.split(".")
    got = getattr(getattr(parse("train", ["--config-file", write(tmp_path, text)]), section), name)
    assert got == wanted
    assert type(got) is type(wanted)


def test_later_files_win_and_the_command_line_wins_over_all(tmp_path: Path) -> None:
    first = write(tmp_path, "data: {batch_size: 1, resolution: 1, eval_resolution: 1}", "first.yaml")
    second = write(tmp_path, "data: {batch_size: 2, resolution: 2}\nmodel: {options: {depth: 2}}", "second.yaml")
    words = ["--data.batch_size=3", f"--config-file={first}", "--config-file", second]
    config = parse("train", words)
    assert (config.data.batch_size, config.data.resolution, config.data.eval_resolution) == (3, 2, 1)
    assert parse("train", [*words, "--model.options=a=1"]).model.options == {"a": 1}  # not mixed with the file's
    assert parse("train", [*words, "--model.options="]).model.options == {}


def test_stages_hold_values_of_the_types_of_their_options(tmp_path: Path) -> None:
    text = "schedule: {stages: [{share: 2, data.resolution: 96, augment.mixup: off, augment.erase: 1}, {augment.cutmix: 1}]}"
    stages = ({"share": 2.0, "data.resolution": 96, "augment.mixup": None, "augment.erase": 1.0}, {"augment.cutmix": 1.0})
    assert parse("train", ["--config-file", write(tmp_path, text)]).schedule.stages == stages
    words = "--schedule.stages=[{share: 2, data.resolution: 96, augment.mixup: off, augment.erase: 1}, {augment.cutmix: 1}]"
    assert parse("train", [words]).schedule.stages == stages
    assert parse("train", ["--schedule.stages=off"]).schedule.stages == ()


def test_bases_lie_below_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path, "data: {batch_size: 1, resolution: 1, eval_resolution: 1, num_workers: 1}", "deep/root.yaml")
    write(tmp_path, "base: root.yaml\ndata: {batch_size: 2, resolution: 2, eval_resolution: 2}", "deep/left.yaml")
    write(tmp_path, "base: root.yaml\ndata: {eval_resolution: 3}", "deep/right.yaml")
    top = write(tmp_path, "data: {batch_size: 4}\nbase: [deep/left.yaml, deep/right.yaml]")
    data = parse("train", ["--config-file", top]).data
    # right.yaml, later in the list, brings root.yaml's values with it
    assert (data.batch_size, data.resolution, data.eval_resolution, data.num_workers) == (4, 1, 3, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data:\n  batchsize: 3", "2: unknown option data.batchsize; nearest: data.batch_size"),
        ("# remark\ndate: {train: a}", "2: unknown section date; nearest: data"),
        ("bases: a.yaml", "1: unknown section bases; nearest: base"),
        ("1: 2", "1: unknown section 1; nearest: "),
        ("data.train: a", "1: unknown section data.train; nearest: "),
        ("data: {1: 2}", "1: unknown option data.1; nearest: "),
        ("data: 3", "1: data: want options below it, as in `data: {name: value}`"),
        ("data: [train]", "1: data: want options below it, as in `data: {name: value}`"),
        ("- data", "1: want sections of options"),
        ("data", "1: want sections of options"),
        ("data: {train: 15}", "1: data.train=15: want text in quotes"),
        ("data: {train: yes}", "1: data.train=true: want text in quotes"),
        ("model: {weights: 15}", "1: model.weights=15: want text in quotes, or off"),
        ("model: {weights: ''}", "1: model.weights=: want text, or off"),
        ("data: {num_workers: off}", "1: data.num_workers=false: want an integer, or auto"),
        ("data: {train: }", "1: data.train=null: want text in quotes"),
        ("data: {train: [a]}", "1: data.train=['a']: want text in quotes"),
        ("data:\n  batch_size: 3.0", "2: data.batch_size=3.0: want an integer"),
        ("data: {batch_size: 1_000}", "1: data.batch_size=1_000: want an integer"),
        ("data: {batch_size: 0x10}", "1: data.batch_size=0x10: want an integer"),
        ("data: {batch_size: 1:30}", "1: data.batch_size=1:30: want an integer"),
        ("data: {batch_size: true}", "1: data.batch_size=true: want an integer"),
        ("data: {batch_size: null}", "1: data.batch_size=null: want an integer"),
        (f"data: {{batch_size: {'9' * 5000}}}", "1: data.batch_size=inf: want an integer"),
        ("optim: {lr: fast}", "1: optim.lr=fast: want a number"),
        ("optim: {lr: true}", "1: optim.lr=true: want a number"),
        ("optim: {lr: .inf}", "1: optim.lr=.inf: want a number"),
        ("optim: {lr: .nan}", "1: optim.lr=.nan: want a number"),
        ("optim: {lr: 1e999}", "1: optim.lr=inf: want a number"),
        (f"optim: {{lr: {'9' * 500}}}", f"1: optim.lr={'9' * 97}...: want a number"),
        ("train: {resume: 1}", "1: train.resume=1: want true or false"),
        ("train: {resume: 'true'}", "1: train.resume=true: want true or false"),
        ("train: {compile: on}", "1: train.compile=true: want one of off, default, "),
        ("train: {amp: bf}", "1: train.amp=bf: want one of auto, off, bf16, fp16; nearest: bf16"),
        ("optim: {name: off}", "1: optim.name=false: want text in quotes"),
        ("data: {ramp: 1}", "1: data.ramp=1: want 2 numbers with commas between"),
        ("data: {ramp: '0,1'}", "1: data.ramp=0,1: want 2 numbers with commas between"),
        ("data: {ramp: [0]}", "1: data.ramp=[0]: want 2 numbers with commas between"),
        ("data: {ramp: [0, yes]}", "1: data.ramp=[0, True]: want 2 numbers with commas between"),
        ("data: {ramp: &a [0, *a]}", "1: found unconstructable recursive node"),
        (
            "schedule: {stages: {share: 1}}",
            "1: schedule.stages={'share': 1}: want a YAML list of mappings from options to values, or off",
        ),
        (
            "schedule: {stages: [1]}",
            "1: schedule.stages=[1]: want a YAML list of mappings from options to values, or off",
        ),
        ("schedule:\n  stages:\n  - {augment.erase: x}", "2: schedule.stages: stage 1: augment.erase=x: want a number"),
        (
            "schedule:\n  stages:\n  - {augment.erased: 1}",
            "2: schedule.stages: stage 1: augment.erased cannot stand there; nearest: augment.erase",
        ),
        ("report: {runs: a}", "1: report.runs=a: want texts with commas between"),
        ("report: {runs: [1]}", "1: report.runs=[1]: want texts with commas between"),
        ("model: {options: [a]}", "1: model.options=['a']: want key=value,key=value"),
        ("model: {options: depth=1}", "1: model.options=depth=1: want key=value,key=value"),
        ("model: {options: {1: 2}}", "1: model.options={1: 2}: want key=value,key=value"),
        ("model: {options: null}", "1: model.options=null: want key=value,key=value"),
        ("data:\n  train: a\n  train: b", "3: train stands twice: want it once"),
        ("data: {}\nmodel: {}\ndata: {}", "3: data stands twice: want it once"),
        ("model:\n  options:\n    depth: 1\n    depth: 1", "4: depth stands twice: want it once"),
        ("data:\n  train: [a", "2: expected ',' or ']', but got '<stream end>'"),
        ("data:\n\ttrain: a", "2: found character '\\t' that cannot start any token"),
        ("data: {}\n---\ndata: {}", "2: but found another document"),
        ("data: {train: !!python/name:os.system }", "1: could not determine a constructor for the tag"),
        ("data: {train: *nowhere}", "1: found undefined alias 'nowhere'"),
        ("data: {? [a] : b}", "1: expected a scalar node, but found sequence"),
        ("model: {options: {? [a] : b}}", "1: found unhashable key"),
        ("[" * 5000, "1: nested too deeply: want sections of options"),
        ("data: {train: äöüßäöüß}\nmodel:\n\n\x01", "4: special characters are not allowed: want UTF-8 text without "),
        ("base:", "1: base=null: want a file name or a list of them"),
        ("base: [3]", "1: base=[3]: want a file name or a list of them"),
    ],
)
def test_errors_of_yaml(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    got = error(path)
    assert got.startswith(f"{path}:{message}")
    assert got == f"{path}:{message}" or message.endswith((" ", "tag"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    wanted = f"cannot read {missing}: No such file or directory"
    assert error(str(missing)) == f"command line: {wanted}"
    path = write(tmp_path, "data: {}\nbase: missing.yaml")
    assert error(path) == f"{path}:2: {wanted}"
    assert error(str(tmp_path)) == f"command line: cannot read {tmp_path}: Is a directory"
    (tmp_path / "latin.yaml").write_bytes(b"data:\n  train: b\xfccher\n")
    assert error(f"{tmp_path}/latin.yaml") == (
        f"{tmp_path}/latin.yaml:2: invalid start byte: want UTF-8 text without control characters"
    )


def test_bases_that_lead_back(tmp_path: Path) -> None:
    one = write(tmp_path, "base: two.yaml", "one.yaml")
    two = write(tmp_path, "base: one.yaml", "two.yaml")
    wanted = f"{two}:1: base {one} leads back to itself: want a base that does not extend this file"
    assert error(one) == wanted
    alone = write(tmp_path, "\nbase: ./alone.yaml", "alone.yaml")
    assert error(alone).startswith(f"{alone}:2: base {alone} leads back to itself")


def test_a_tilde_is_the_home_in_files_and_names_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    home.mkdir()
    (home / "base.yaml").write_text("run: {dir: ~/run}\n")
    (tmp_path / "own.yaml").write_text("base: ~/base.yaml\ndata: {train: ~/a.beton}\n")
    config = parse("train", ["--config-file=~/../own.yaml", "--data.val=~/b.beton", "--out=~/out.json"])
    paths = (config.run.dir, config.data.train, config.data.val, config.out)
    assert paths == tuple(str(home / name) for name in ("run", "a.beton", "b.beton", "out.json"))
    assert parse("report", ["~/a", "b"]).report.runs == (str(home / "a"), "b")
    assert parse("verify", ["~/a.beton", "--against=~/a"]).verify.against == str(home / "a")


def test_errors_of_a_base_name_the_base(tmp_path: Path) -> None:
    base = write(tmp_path, "data:\n  batch_size: many", "base.yaml")
    top = write(tmp_path, "base: base.yaml")
    assert error(top) == f"{base}:2: data.batch_size=many: want an integer"
