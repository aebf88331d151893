from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deit_fast.report.ablation import ablation_table, differences_table, ingredients
from deit_fast.report.contents import prediction_table, runs_table
from deit_fast.report.inputs import Inputs, read_inputs
from deit_fast.report.pareto import pareto_front
from deit_fast.report.published import published_ablation, published_figures
from deit_fast.report.tables import Cell, Table, as_csv, as_html, as_markdown
from tests.report.made_up_runs import SECONDS, make_run, report

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
        make_run(tmp_path / "none", top1=80, options={"augment.auto_augment": ""}, end={"prediction": prediction}),
        make_run(tmp_path / "=a|<b>", top1=60, options={"optim.name": "sgd", "model.options": "depth=2"}),
    ]
    return read_inputs([str(folder) for folder in folders])


def test_ablation_shows_the_ingredients_that_differ(tmp_path: Path) -> None:
    table = ablation_table(runs_of(tmp_path).runs, [])
    assert table is not None
    assert table.columns == ("#", "Run", "optimiser", "RandAugment", "Top-1")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["1", "default", "AdamW", "✓", "94.00 %"],
        ["2", "none", "AdamW", "✗", "84.00 %"],
        ["3", "=a|<b>", "SGD", "✓", "64.00 %"],
    ]
    assert [[cell.mark for cell in row[2:4]] for row in table.rows] == [["", ""], ["", "changed"], ["changed", ""]]
    assert "AutoAugment ✗, Mixup ✓" in table.note
    with_paper = ablation_table(runs_of(tmp_path / "again").runs, ["paper"])
    assert with_paper is not None
    assert len(with_paper.columns) == 13
    assert [cell.text for cell in with_paper.rows[-1]] == [
        "–", "paper: EMA", "AdamW", "✓", "✗", "✓", "✓", "✓", "✓", "✓", "✗", "✓", "81.90 %",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"augment.auto_augment": "original-mstd0.5"}, {"RandAugment": False, "AutoAugment": True}),
        ({"augment.auto_augment": "3a"}, {"RandAugment": False}),
        ({"augment.cutmix_probability": 0}, {"CutMix": False}),
        ({"augment.cutmix_probability": 1}, {"Mixup": False}),
        ({"augment.cutmix": 0, "augment.cutmix_probability": 1}, {"CutMix": False}),
        ({"augment.cutmix": 0, "augment.cutmix_minmax": (0.2, 0.8)}, {}),
        ({"augment.mix_probability": 0}, {"CutMix": False, "Mixup": False}),
        ({"augment.erase": 0, "augment.repeats": 1}, {"erasing": False, "repeated augmentation": False}),
        ({"train.mode": "eval", "model.dropout": 0.1}, {"stochastic depth": False}),
        ({"model.dropout": 0.1, "train.ema_decay": 0}, {"dropout": True, "EMA": False}),
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
    assert [cell.text for cell in table.rows[1]] == ["2", "none", "empty", "adamw", "0.0", "–"]
    assert differences_table(runs_of(tmp_path / "b").runs[:1]) is None


def test_predicted_and_actual_time_stand_beside_each_other(tmp_path: Path) -> None:
    inputs = runs_of(tmp_path)
    table = prediction_table(inputs)
    assert table is not None
    (row,) = table.rows
    assert [cell.text for cell in row[:8]] == [
        "2", "none", "1 min 21 s", "1 min 10 s to 1 min 30 s", "1 min 31 s", "+12.4 %", "no", "plan",
    ]  # fmt: skip
    kinds = dict(zip(table.columns, row, strict=True))
    assert kinds["compute"] == Cell("1 min 10 s / 1 min 20 s", 10.0)
    assert [row[7].text for row in runs_table(inputs).rows] == ["–", "+12.4 %", "–"]
    assert [row[5].text for row in runs_table(inputs).rows] == ["$0.91", "–", "–"]


@pytest.mark.slow
def test_tables_and_figures_go_to_files_too(tmp_path: Path) -> None:
    runs_of(tmp_path)
    names = ("default", "none", "=a|<b>")
    files = {"markdown": str(tmp_path / "t.md"), "csv": str(tmp_path / "t.csv"), "images": str(tmp_path / "images")}
    report(*(tmp_path / name for name in names), html=str(tmp_path / "t.html"), published=("paper", "ffcv-imagenet"), **files)
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["name"] for row in rows] == ["default", "none", "'=a|<b>"]
    assert [float(row["top1"]) for row in rows] == [94.0, 84.0, 64.0]
    assert (rows[0]["off"], float(rows[1]["predicted.compute"])) == ("", 70.0)
    markdown = (tmp_path / "t.md").read_text()
    assert r"| 3 | =a\|\<b\> | 64.00 % |" in markdown
    assert "## Published figures" in markdown
    images = {file.name: file for file in (tmp_path / "images").iterdir()}
    assert set(images) == {
        "accuracy-training.png", "accuracy-inference.png", "accuracy-dollars.png", "accuracy-hours.png", "time.png",
        "prediction.png", "curves-training-loss.png", "curves-learning-rate.png", "curves-top-1-raw-weights.png",
        "curves-top-1-ema-weights.png",
        "run-1-default.png", "run-2-none.png", "run-3-=a-b.png",
    }  # fmt: skip
    for file in images.values():
        with Image.open(file) as image:
            image.load()
            assert min(image.size) > 300


def test_forms_of_tables_escape_what_they_hold() -> None:
    table = Table("T", ("<a>", "b"), [(Cell("x & y"), Cell("1.50 %", 1.5, "strong"))], "note <i>")
    html = as_html(table)
    assert '<th scope="col">&lt;a&gt;</th>' in html
    assert '<th scope="row">x &amp; y</th><td class="strong" data-value="1.5">1.50 %</td>' in html
    assert as_markdown(table) == "## T\n\n| \\<a\\> | b |\n| --- | --: |\n| x \\& y | 1.50 % |\n\nnote \\<i\\>\n"
    assert as_csv([{"a": "-x", "b": -1.5}, {"c": None}]) == "a,b,c\n'-x,-1.5,\n,,\n"


def test_published_figures_have_sources_and_machines() -> None:
    figures = published_figures(["ffcv-imagenet", "paper"])
    assert len(figures) == 12 + 9
    assert all(one.source and 60 < one.top1 < 90 for one in figures)
    assert all(one.machine for one in figures if one.hours or one.images_per_second)
    by_name = {one.name: one for one in figures}
    assert by_name["RN-50 88 ep"].hours == pytest.approx(77.2 / 60)
    assert by_name["DeiT-B"].machine == "8 V100; one V100 of 16 GB, float32"
