"""Files of sweeps: which points they make, how these are called, and the one line for whatever is wrong, with its place."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deit_fast.cli import parse, read_call
from deit_fast.commands import COMMANDS
from deit_fast.config import RunConfig, SweepConfig, UserError
from deit_fast.options.values import HINTS
from deit_fast.sweep.file import read_sweep_file
from deit_fast.sweep.options import TRAINING
from deit_fast.sweep.points import Point, as_file, point_name, points_of

PROJECT = Path(__file__).parents[2]
BOUNDS = "random: {{count: 9, options: {{{}}}}}"
DATA = "options:\n  data: {train: a.beton, val: b.beton}\n"


def points(folder: Path, text: str, *words: str, where: str = "here", data: str = DATA) -> list[Point]:
    path = folder / "s.yaml"
    path.write_text(data + text, encoding="utf-8")
    sweep = SweepConfig(file=str(path), where=where)  # type: ignore[arg-type]
    return points_of(read_sweep_file(path), read_call(["sweep", *words]).given, sweep, folder / "out")


def options(folder: Path, text: str, *words: str) -> list[dict[str, Any]]:
    return [point.options for point in points(folder, text, *words)]


def error(folder: Path, text: str, *words: str, where: str = "here", data: str = "") -> str:
    with pytest.raises(UserError) as caught:
        points(folder, text, *words, where=where, data=data)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


def test_options_of_points_are_those_of_train() -> None:
    assert list(TRAINING) == [name for name in HINTS if COMMANDS["train"].has(name)]


def test_grid_is_the_product_with_the_last_axis_fastest(tmp_path: Path) -> None:
    found = points(tmp_path, "grid: {train.epochs: [6, 7, 8], data.resolution: [32, 48]}")
    pairs = [(point.config.train.epochs, point.config.data.resolution) for point in found]
    assert pairs == [(6, 32), (6, 48), (7, 32), (7, 48), (8, 32), (8, 48)]
    assert found[0].name == "data.resolution=32,train.epochs=6"
    assert found[0].config.run.dir == str(tmp_path / "out" / found[0].name)
    assert found[0].config.train.resume
    assert all(point.config.data.train == "a.beton" for point in found)


def test_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "base.yaml").write_text("data: {val: ~/v.beton}\n")
    text = "base: ~/base.yaml\ngrid: {data.train: [~/a.beton, ~/b.beton]}"
    found = points(tmp_path, text, data="")
    assert [(point.config.data.train, point.config.data.val) for point in found] == [
        (str(tmp_path / name), str(tmp_path / "v.beton")) for name in ("a.beton", "b.beton")
    ]


def test_options_that_vary_together(tmp_path: Path) -> None:
    text = "grid:\n  data.train+data.val:\n  - [x/a_train.beton, a_val.beton]\n  - [b_train.beton, b_val.beton]\n"
    found = points(tmp_path, text + "  augment.crop_scale: [[0.08, 1], [0.5, 1]]")
    assert [(p.config.data.train, p.config.data.val, p.config.augment.crop_scale[0]) for p in found] == [
        ("x/a_train.beton", "a_val.beton", 0.08), ("x/a_train.beton", "a_val.beton", 0.5),
        ("b_train.beton", "b_val.beton", 0.08), ("b_train.beton", "b_val.beton", 0.5),
    ]  # fmt: skip
    assert len({point.name for point in found}) == 4


def test_list_and_its_two_ways_to_write_an_option(tmp_path: Path) -> None:
    text = "list:\n- {}\n- {augment: {mixup: off, cutmix: off}}\n- {augment.mixup: off}\n- model: {options: {depth: 3}}\n"
    assert options(tmp_path, text) == [
        {}, {"augment.mixup": "off", "augment.cutmix": "off"}, {"augment.mixup": "off"}, {"model.options": {"depth": 3}},
    ]  # fmt: skip
    assert points(tmp_path, text)[0].name == "base"


def test_each_point_is_trained_with_every_recipe(tmp_path: Path) -> None:
    recipes = "recipes:\n  plain: {}\n  long+late: {train: {epochs: 40}, optim.lr: 2e-3}\n"
    found = points(tmp_path, recipes + "grid: {train.seed: [0, 1]}")
    wanted = [f"{recipe},train.seed={seed}" for seed in (0, 1) for recipe in ("plain", "long+late")]
    assert [point.name for point in found] == wanted
    assert found[3].options == {"train.epochs": 40, "train.seed": 1, "optim.lr": 2e-3}
    assert (found[2].config.train.epochs, found[3].config.train.epochs) == (RunConfig().train.epochs, 40)
    assert [point.name for point in points(tmp_path, recipes)] == ["plain", "long+late"]
    own = points(tmp_path, recipes + "list: [{train.epochs: 30}, {}]")
    late = [(point.name, point.config.train.epochs) for point in own[1:4:2]]
    assert late == [("long+late,train.epochs=30", 30), ("long+late", 40)]


RANDOM = """random:
  count: {count}
  seed: {seed}
  options:
    optim.lr: {{log_uniform: [1e-4, 1e-2]}}
    augment.mixup: {{uniform: [0.1, 0.9]}}
    train.epochs: {{int_uniform: [6, 9]}}
    model.name: {{choice: [deit_tiny_patch16_224, deit_small_patch16_224]}}
    data.train+data.val: {{choice: [[a, b], [c, d]]}}
"""


def test_sample_is_a_function_of_its_seed_and_grows_at_its_end(tmp_path: Path) -> None:
    twenty = options(tmp_path, RANDOM.format(count=20, seed=1))
    assert options(tmp_path, RANDOM.format(count=20, seed=1)) == twenty
    assert options(tmp_path, RANDOM.format(count=200, seed=1))[:20] == twenty
    assert options(tmp_path, RANDOM.format(count=20, seed=2)) != twenty


def test_sample_lies_in_its_bounds_and_fills_them(tmp_path: Path) -> None:
    found = options(tmp_path, RANDOM.format(count=400, seed=0))
    rates = sorted(one["optim.lr"] for one in found)
    assert 1e-4 <= rates[0] < 1.1e-4 < 9e-3 < rates[-1] <= 1e-2
    assert rates[200] == pytest.approx(1e-3, rel=0.3)  # half of a decade's logarithms on either side
    assert {one["train.epochs"] for one in found} == {6, 7, 8, 9}
    assert {(one["data.train"], one["data.val"]) for one in found} == {("a", "b"), ("c", "d")}
    mixup = [one["augment.mixup"] for one in found]
    assert sum(mixup) / 400 == pytest.approx(0.5, abs=0.05)
    assert len({one["model.name"] for one in found}) == 2
    # axes are independent: the share of small models among the long runs is that among all
    small = [one["model.name"].startswith("deit_small") for one in found if one["train.epochs"] >= 8]
    assert sum(small) / len(small) == pytest.approx(0.5, abs=0.12)


def test_what_wins_over_what(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("train: {epochs: 10, seed: 10, log_every: 10}\noptim: {lr: 0.5}\nsweep: {hours: 7}\n")
    (tmp_path / "more.yaml").write_text("train: {log_every: 3, keep_last: 3}\n")
    text = "base: base.yaml\noptions: {train: {seed: 20, log_every: 20}, data: {train: a, val: b}}\ngrid: {train.epochs: [30]}"
    (point,) = points(tmp_path, text, f"--config-file={tmp_path / 'more.yaml'}", "--train.keep_last=4", data="")
    train = point.config.train
    assert (train.epochs, train.seed, train.log_every, train.keep_last, point.config.optim.lr) == (30, 20, 3, 4, 0.5)
    # stated on the command line it wins, also where that is the default
    (point,) = points(tmp_path, text, "--train.seed=0", data="")
    assert point.config.train.seed == 0
    assert point.config.sweep == SweepConfig()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "1: want base, options, recipes, grid, list or random"),
        ("[1]", "1: want base, options, recipes, grid, list or random"),
        ("recipes: {'a,b': {}}", "1: recipe a,b: want a name of up to 40 letters"),
        ("recipes: {a.json: {}}", "1: recipe a.json: want a name"),
        ("recipes: []", "1: want recipes, as in `plain: {}`"),
        ("recipes: {a: {train: {epohs: 3}}}", "1: unknown option train.epohs; nearest: train.epochs"),
        ("options: {}", "1: no points: want recipes, grid, list or random"),
        ("gird: {}", "1: unknown part gird of a sweep; nearest: grid"),
        ("grid:\n  model.nam: [a]", "2: unknown option model.nam; nearest: model.name"),
        ("grid:\n  lr: [1]", "2: unknown option lr; nearest: optim.lr"),
        ("grid:\n  model: [a]", "2: unknown option model; nearest: model."),
        ("grid:\n  bench.steps: [1]", "2: unknown option bench.steps; nearest: "),
        ("grid:\n  sweep.hours: [1]", "2: unknown option sweep.hours; nearest: "),
        ("grid:\n  run.dir: [a]", "2: run.dir is set by the sweep"),
        ("options:\n  train:\n    resume: true", "3: train.resume is set by the sweep"),
        ("options: {modle: {a: 1}}", "1: unknown section modle; nearest: model"),
        ("options: {model: tiny}", "1: model: want options below it, as in `model: {option: value}`"),
        ("options: {train.epochs: 3, train: {epochs: 3}}", "1: train.epochs stands twice"),
        ("grid:\n  train.epochs: 3", "2: want a list of values of train.epochs"),
        ("grid:\n  train.epochs: []", "2: want a list of values of train.epochs"),
        ("grid:\n  train.epochs:\n  - 6\n  - few", "4: train.epochs=few: want an integer"),
        ("grid: {train.amp: [bf17]}", "1: train.amp=bf17: want one of auto, off, bf16, fp16; nearest: bf16"),
        ("grid:\n  data.train+data.val: [[a, b], [c]]", "2: data.train+data.val=['c']: want a list of 2 values"),
        ("grid: {data.train+data.train: [[a, b]]}", "1: data.train stands in two axes, or twice in one"),
        ("grid: {data.train+data.val: [[a, b]], data.val: [c]}", "1: data.val stands in two axes, or twice in one"),
        ("grid: {train.seed: [1], train.seed: [2]}", "1: train.seed stands twice"),
        ("list: {train.epochs: 3}", "1: want a list of points, each as {section.option: value}"),
        ("list:\n- 3", "2: want options, as in `section: {option: value}`"),
        ("random: {count: 3}", "1: random has no options: want what is drawn, as in `optim.lr: {uniform: [1e-4, 1e-3]}`"),
        ("random: {options: {optim.lr: {uniform: [0, 1]}}}", "1: random: count: want an integer from 1 to 10000"),
        ("random:\n  count: 0", "2: random: count=0: want an integer from 1 to 10000"),
        ("random:\n  sed: 0", "2: unknown sed of random; nearest: seed"),
        ("random: {count: 1, options: {optim.lr: [1, 2]}}", "1: optim.lr=[1, 2]: want how it is drawn, as in {uniform: "),
        ("random: {count: 1, options: {optim.lr: {normal: [1, 2]}}}", "1: optim.lr: unknown way normal to draw; nearest: "),
        (BOUNDS.format("optim.lr: {log_uniform: [0, 2]}"), "1: optim.lr: log_uniform=[0, 2]: want two numbers [LOW, HIGH], "),
        (BOUNDS.format("optim.lr: {uniform: [2, 1]}"), "1: optim.lr: uniform=[2, 1]: want two numbers [LOW, HIGH], LOW < HIGH"),
        (BOUNDS.format("optim.lr: {uniform: [1]}"), "1: optim.lr: uniform=[1]: want two numbers"),
        (BOUNDS.format("train.epochs: {int_uniform: [1.5, 2]}"), "1: train.epochs: int_uniform=[1.5, 2]: want two integers"),
        (BOUNDS.format("train.epochs: {choice: []}"), "1: train.epochs: want choice: [VALUE, VALUE, ...]"),
        (BOUNDS.format("train.epochs: {int_uniform: [6, 8]}"), "1: random: hardly more than 3 different points"),
        ("grid: {train.seed: [1]\n", "2: "),
        ("base: gone.yaml\ngrid: {train.seed: [1]}", "1: cannot read gone.yaml: No such file or directory"),
        ("base: [3]\ngrid: {train.seed: [1]}", "1: base=[3]: want a file name or a list of them"),
    ],
)
def test_what_is_wrong_in_a_file(tmp_path: Path, text: str, wanted: str) -> None:
    assert error(tmp_path, text).startswith(f"s.yaml:{wanted}")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("grid: {data.resolution: [32, 5000]}", "s.yaml: point data.resolution=5000: data.resolution=5000: want 1 to 4096"),
        ("grid: {train.epochs: [9, 5]}", "s.yaml: point train.epochs=5: schedule.warmup_epochs=5: want fewer than "),
        ("grid: {train.seed: [1, 2, 1]}", "s.yaml:3: point train.seed=1 stands twice"),
        ("grid: {train.seed: [1, 2]}\nlist: [{train.seed: 2}]", "s.yaml:4: point train.seed=2 stands twice"),
        ("recipes: {a: {train.epochs: 9}}\ngrid:\n  train.seed: [1,\n  1]", "s.yaml:6: point a,train.seed=1 stands twice"),
        (f"grid: {{train.seed: {[*range(101)]}, train.epochs: {[*range(6, 106)]}}}", "s.yaml:3: grid of 10100 points: want at"),
    ],
)
def test_every_point_is_checked_as_a_run(tmp_path: Path, text: str, wanted: str) -> None:
    assert error(tmp_path, text, data=DATA).startswith(wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]
    assert "point train.seed=1: data.train is not set" in error(tmp_path, "grid: {train.seed: [1]}")


def test_jobs_are_checked_as_jobs(tmp_path: Path) -> None:
    got = error(tmp_path, "list: [{}]", "--slurm.nodes=2", "--slurm.cluster=local", where="slurm", data=DATA)
    assert got.startswith("s.yaml: point base: slurm.nodes=2: slurm.cluster=local has one node")
    (point,) = points(tmp_path, "list: [{}]", where="slurm")
    assert point.config.slurm.nodes == 1
    (point,) = points(tmp_path, "options: {slurm.nodes: 4, data: {train: a, val: b}}\nlist: [{}]", data="")
    assert point.config.slurm.nodes is None


def test_what_varies_cannot_be_fixed_on_the_command_line(tmp_path: Path) -> None:
    got = error(tmp_path, "grid: {train.seed: [1]}", "--train.seed=3", data=DATA)
    assert got.startswith("command line: train.seed is what s.yaml varies")


@pytest.mark.parametrize("path", sorted((PROJECT / "deit_configs/sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_sweeps_of_the_project_by_their_headers(path: Path, tmp_path: Path) -> None:
    lines = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ")]
    (command,) = [line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.startswith("deit-fast ")]
    _, name, file, *words = shlex.split(command)
    assert (name, PROJECT / file) == ("sweep", path)
    sweep = parse("sweep", [file, *words]).sweep
    found = points_of(read_sweep_file(path), read_call(["sweep", *words]).given, sweep, tmp_path / "out")
    numbers = {"models_and_resolutions": 9, "digits": 12, "digits_to_target": 9, "demo_photos": 12}
    assert len(found) == numbers[path.stem]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"data.resolution": 32, "optim.lr": 1e-3}, "data.resolution=32,optim.lr=0.001"),
        ({"optim.lr": 0.1 + 0.2}, "optim.lr=0.30000000000000004"),
        ({"train.channels_last": False, "data.ramp": (0.0, 0.5)}, "data.ramp=0+0.5,train.channels_last=false"),
        ({"train.bce_threshold": "off", "augment.auto_augment": "off"}, "augment.auto_augment=off,train.bce_threshold=off"),
    ],
)
def test_names_can_be_read(values: dict[str, Any], name: str) -> None:
    assert point_name({option: values[option] for option in TRAINING if option in values}) == name


def test_a_name_tells_apart_what_it_leaves_out() -> None:
    here, there = (point_name({"data.train": f"{folder}/a.beton"}) for folder in ("x", "y"))
    assert here != there
    assert here.startswith("data.train=a.beton-")


TEXTS = st.text(st.characters(codec="utf-8"), max_size=200)


@given(st.lists(TEXTS, min_size=2, max_size=5, unique=True))
def test_names_are_safe_and_differ(texts: list[str]) -> None:
    names = [point_name({"data.train": text}) for text in texts]
    assert len(set(names)) == len(texts)
    for name in names:
        assert len(name.encode()) <= 120
        assert not set(name) & set("/\\ \n\0'\"*?$")
        assert not name.startswith((".", "-"))


@given(train=TEXTS.filter(str.isprintable), lr=st.floats(1e-300, 1e300), ramp=st.floats(0, 0.9), depth=st.integers())
def test_a_points_file_is_its_configuration(tmp_path_factory: Any, train: str, lr: float, ramp: float, depth: int) -> None:
    """Texts that look like numbers or words of YAML, floats to the last bit."""
    options = {"depth": depth, "name": train, "a": [None, {"b": 1e-5}]}
    data = {"data.train": train, "data.val": "off", "data.ramp": (ramp, 1.0)}
    config = RunConfig().changed({**data, "optim.lr": lr, "model.options": options, "train.amp": "off", "train.resume": True})
    config = config.changed({"run.dir": "1e-3"})
    file = tmp_path_factory.getbasetemp() / "point.yaml"
    file.write_text(as_file(Point("p", {}, config)), encoding="utf-8")
    assert parse("train", ["--config-file", str(file)]) == config
