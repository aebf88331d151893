from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deit_fast.config import RunConfig
from deit_fast.record.run import open_run
from deit_fast.report.ablation import ablation_table, differences_table, ingredients
from deit_fast.report.contents import loader_table, prediction_table, runs_table
from deit_fast.report.figures import pareto_front
from deit_fast.report.inputs import Inputs, read_inputs
from deit_fast.report.published import published_ablation, published_figures
from deit_fast.report.tables import NONE, Cell, Table, as_csv, as_markdown
from tests.report.made_up_runs import EPOCHS, SECONDS, Page, make_run, report, texts, write_start

VALUES = st.integers(0, 5).map(float)


@given(st.lists(st.tuples(VALUES, VALUES), max_size=12), st.booleans())
def test_pareto_front_is_what_no_other_point_beats(points: list[tuple[float, float]], is_cost: bool) -> None:
    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        better_x = one[0] <= other[0] if is_cost else one[0] >= other[0]
        return one != other and better_x and one[1] >= other[1]

    front = pareto_front(points, is_cost)
    best = {point for point in points if not any(beats(other, point) for other in points)}
    assert [points[place] for place in front] == sorted(best)
    assert all(points.index(points[place]) == place for place in front)  # of equal points the first


def runs_of(tmp_path: Path) -> Inputs:
    """Three runs: the default, one without RandAugment whose time was predicted, and one with SGD and a name to escape."""
    prediction = {"seconds": SECONDS | {"compute": 70.0}, "low": 70.0, "high": 90.0, "source": "plan", "wall_seconds": 80.75}
    folders = [
        make_run(tmp_path / "default", options={"run.dollars_per_hour": 36}),
        make_run(tmp_path / "none", top1=80, options={"augment.auto_augment": "off"}, end={"prediction": prediction}),
        make_run(tmp_path / "=a|<b>", top1=60, options={"optim.name": "sgd", "model.options": "depth=2"}),
    ]
    return read_inputs([str(folder) for folder in folders])


def test_loader_table_has_means_of_shares_and_sums_of_seconds(tmp_path: Path) -> None:
    inputs = runs_of(tmp_path)
    table = loader_table(inputs)
    assert table is not None
    assert table.columns == ("#", "Run", "Queue full", "Queue empty", "files", "device", "decode", "augment", "finish", "queue")
    assert texts(table)[0] == ["1", "default", "37.5 %", "50.0 %", "0.0 s", "0.0 s", "12.0 s", "4.0 s", "2.0 s", "1 min 02 s"]
    assert inputs.runs[0].numbers["loader_seconds"]["queue"] == 62.0


def test_ablation_shows_the_ingredients_that_differ(tmp_path: Path) -> None:
    table = ablation_table(runs_of(tmp_path).runs, [])
    assert table is not None
    assert table.columns == ("#", "Run", "optimiser", "RandAugment", "Top-1")
    assert texts(table) == [
        ["1", "default", "AdamW", "✓", "94.00 %"],
        ["2", "none", "AdamW", "✗", "84.00 %"],
        ["3", "=a|<b>", "SGD", "✓", "64.00 %"],
    ]
    assert [[cell.mark for cell in row[2:4]] for row in table.rows] == [["", ""], ["", "changed"], ["changed", ""]]
    assert "AutoAugment ✗, Mixup ✓" in table.note
    assert texts(ablation_table(runs_of(tmp_path / "again").runs, ["paper"]))[-1] == [
        "–", "paper: EMA", "AdamW", "✓", "✗", "✓", "✓", "✓", "✓", "✓", "✗", "✓", "81.90 %",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"augment.auto_augment": "original-mstd0.5"}, {"RandAugment": False, "AutoAugment": True}),
        ({"augment.auto_augment": "3a"}, {"RandAugment": False}),
        ({"augment.cutmix_probability": 0}, {"CutMix": False}),
        ({"augment.cutmix_probability": 1}, {"Mixup": False}),
        ({"augment.cutmix": None, "augment.cutmix_probability": 1}, {"CutMix": False}),
        ({"augment.cutmix": None, "augment.cutmix_minmax": (0.2, 0.8)}, {}),
        ({"augment.mix_probability": 0}, {"CutMix": False, "Mixup": False}),
        ({"augment.erase": 0, "augment.repeats": 1}, {"erasing": False, "repeated augmentation": False}),
        ({"train.mode": "eval", "model.dropout": 0.1}, {"stochastic depth": False}),
        ({"model.dropout": 0.1, "train.ema_decay": None}, {"dropout": True, "EMA": False}),
    ],
)
def test_ingredients_are_those_that_take_effect(tmp_path: Path, options: dict[str, object], changed: dict[str, object]) -> None:
    recipe = make_run(tmp_path / "run")
    (one,) = read_inputs([str(recipe)]).runs
    default = ingredients(one.run.config)
    assert default == published_ablation(["paper"])[0][1] | {"EMA": True}  # DeiT's code keeps one
    assert ingredients(one.run.config | options) == default | changed


def test_differences_are_the_options_that_differ_and_no_others(tmp_path: Path) -> None:
    table = differences_table(runs_of(tmp_path).runs)
    assert table is not None
    assert table.columns == ("#", "Run", "augment.auto_augment", "optim.name", "run.dollars_per_hour", "model.options.depth")
    assert texts(table)[1] == ["2", "none", "off", "adamw", "off", "–"]
    assert differences_table(runs_of(tmp_path / "b").runs[:1]) is None


def test_predicted_and_actual_time_stand_beside_each_other(tmp_path: Path) -> None:
    inputs = runs_of(tmp_path)
    table = prediction_table(inputs)
    assert table is not None
    assert texts(table)[0][:8] == [
        "2", "none", "1 min 21 s", "1 min 10 s to 1 min 30 s", "1 min 31 s", "+12.4 %", "no", "plan",
    ]  # fmt: skip
    assert table.rows[0][table.columns.index("compute")] == Cell("1 min 10 s / 1 min 20 s", 10.0)
    assert [(row[5], row[7]) for row in texts(runs_table(inputs))] == [("$0.91", "–"), ("–", "+12.4 %"), ("–", "–")]


@pytest.mark.slow
def test_page_of_several_runs_of_any_state_and_its_files(tmp_path: Path) -> None:
    runs_of(tmp_path)
    with open_run(tmp_path / "diverged", RunConfig(), ["deit-fast", "train"], resume=False) as run:
        write_start(run.log)
        run.log.write("step", epoch=0, step=0, loss=float("nan"), lr=1e-3)
    begun = make_run(tmp_path / "begun", finished=False, epochs=0)
    folders = [*(tmp_path / name for name in ("default", "none", "=a|<b>", "diverged")), begun]
    files = {"markdown": str(tmp_path / "t.md"), "csv": str(tmp_path / "t.csv"), "images": str(tmp_path / "images")}
    result = report(*folders, html=str(tmp_path / "pages" / "t.html"), published=("paper", "ffcv-imagenet"), **files)
    assert [run["epochs_done"] for run in result["runs"]] == [EPOCHS, EPOCHS, EPOCHS, 0, 0]
    assert all((folder / "curves.png").is_file() for folder in folders)
    assert not (folders[0] / "report.html").exists()
    page = Page(tmp_path / "pages" / "t.html")
    assert [row[2:6] for row in page.rows if row[8:9] == ["unfinished"]] == [["–", "–", "0.0 s", "–"]] * 2
    assert ["Cost", "$0.91 at $36.00 an hour"] in page.rows
    assert page.values("img", "alt")[:16] == [
        "Accuracy and inference", "Accuracy and speed of training", "Accuracy and money", "Accuracy and time",
        "Time by target", "Cost by target", "Performance profile",
        "Training loss of all runs", "Learning rate of all runs", "Top-1 / %, raw weights of all runs",
        "Top-1 / %, EMA weights of all runs", "Top-1 by epoch", "Top-1 by time", "Top-1 by dollar",
        "Where the time went", "Predicted and actual time",
    ]  # fmt: skip
    assert len(page.values("img", "alt")) == 16 + 3 * 6 + 2 * 4  # two runs have no epoch, so nothing of their loader
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["name"] for row in rows] == ["default", "none", "'=a|<b>", "diverged", "begun"]
    assert [float(row["top1"] or 0) for row in rows] == [94.0, 84.0, 64.0, 0, 0]
    assert (rows[0]["off"], float(rows[1]["predicted.compute"])) == ("", 70.0)
    markdown = (tmp_path / "t.md").read_text()
    assert r"| 3 | =a\|\<b\> | 64.00 % |" in markdown
    assert "## Published figures" in markdown
    names = """accuracy-training accuracy-inference accuracy-dollars accuracy-hours time prediction curves-training-loss
        curves-learning-rate curves-top-1-raw-weights curves-top-1-ema-weights curves-top-1-by-epoch curves-top-1-by-time
        curves-top-1-by-dollar target-time target-dollars target-profile run-1-default run-2-none run-3-=a-b
        run-4-diverged run-5-begun"""
    images = {file.stem: file for file in (tmp_path / "images").glob("*.png")}
    assert set(images) == set(names.split())
    for file in images.values():
        with Image.open(file) as image:
            image.load()
            assert min(image.size) > 300


def test_markdown_and_csv_escape_what_they_hold() -> None:
    table = Table("T", ("<a>", "b"), [(Cell("x & y"), Cell("1.50 %", 1.5, "strong"))], "note <i>")
    assert as_markdown(table) == "## T\n\n| \\<a\\> | b |\n| --- | --: |\n| x \\& y | 1.50 % |\n\nnote \\<i\\>\n"
    assert as_csv([{"a": "-x", "b": -1.5}, {"c": None}]) == "a,b,c\n'-x,-1.5,\n,,\n"


def test_places_by_which_columns_are_sorted() -> None:
    names = ["run 10", "Run 9", "run 9, b", NONE, "9"]
    numbers = [Cell("9.5 s", 9.5), Cell("1 h 00 min", 3600), Cell("largest"), Cell("9.5 s", 9.5), Cell(NONE)]
    table = Table("T", ("name", "number"), list(zip(map(Cell, names), numbers, strict=True)))
    by_name, by_number = zip(*table.sort_places(), strict=True)
    assert by_name == (3, 1, 2, None, 0)
    assert by_number == (0, 1, 2, 0, None)


def test_published_figures_have_sources_and_machines() -> None:
    figures = published_figures(["ffcv-imagenet", "paper"])
    assert len(figures) == 12 + 9
    assert all(one.source and 60 < one.top1 < 90 for one in figures)
    assert all(one.machine for one in figures if one.hours or one.images_per_second)
    by_name = {one.name: one for one in figures}
    assert by_name["RN-50 88 ep"].hours == pytest.approx(77.2 / 60)
    assert by_name["DeiT-B"].machine == "8 V100; one V100 of 16 GB, float32"
