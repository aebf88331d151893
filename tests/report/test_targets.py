"""Time to a target, against examples worked by hand."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from deit_fast.config import ReportConfig, RunConfig, UserError
from deit_fast.record.log import EventLog
from deit_fast.record.run import open_run
from deit_fast.record.runs import load_run
from deit_fast.record.targets import Evaluation, Outcome, TimeToTarget, evaluations, outcome_of, time_to_target
from deit_fast.report.accuracy import accuracy_figures
from deit_fast.report.contents import csv_rows
from deit_fast.report.drawing import MAX_LEGEND
from deit_fast.report.inputs import read_inputs
from deit_fast.report.published_curves import PublishedCurve
from deit_fast.report.target_figures import line_by_target, profiles
from deit_fast.report.targets import Comparison, comparison_of, recipe_rows, target_table
from tests.report.made_up_runs import Page, make_timed_run, report, texts, write_start

PRICED = {"run.dollars_per_hour": 36}  # a cent a second


def compared(*folders: Path, **options: Any) -> Comparison:
    return comparison_of(read_inputs([str(folder) for folder in folders]), ReportConfig(**options))


def curve_of(name: str) -> PublishedCurve:
    return PublishedCurve(name, "log.txt", (1, 2), (10.0, 20.0))


def seeds_of_two_recipes(tmp_path: Path) -> list[Path]:
    """Three seeds at each of two learning rates. To 80 %: 10, 30 and 20 s; 5 s, missed, missed."""
    fast: dict[str, Any] = {"optim.lr": 0.002, **PRICED}
    slow: dict[str, Any] = {"optim.lr": 0.001, **PRICED}
    return [
        make_timed_run(tmp_path / "a0", {2: (10.0, 80.0), 4: (20.0, 85.0)}, options=slow),
        make_timed_run(tmp_path / "a1", {2: (12.0, 60.0), 4: (30.0, 81.0)}, options={**slow, "train.seed": 1}),
        make_timed_run(tmp_path / "a2", {2: (11.0, 70.0, 60.0), 4: (20.0, 79.0, 83.0)}, options={**slow, "train.seed": 2}),
        make_timed_run(tmp_path / "b0", {2: (5.0, 82.0)}, options=fast),
        make_timed_run(tmp_path / "b1", {2: (5.0, 75.0), 4: (10.0, 79.9)}, options={**fast, "data.seed": 1}),
        make_timed_run(tmp_path / "b2", {2: (6.0, 70.0)}, options={**fast, "train.seed": 2}, stopped="budget"),
    ]


def test_median_over_seeds_counts_a_missed_run_as_infinite(tmp_path: Path) -> None:
    comparison = compared(*seeds_of_two_recipes(tmp_path), target=("top1=80",))
    assert [recipe.runs for recipe in comparison.recipes] == [(0, 1, 2), (3, 4, 5)]
    table = target_table(comparison)
    assert table is not None
    assert table.columns == (
        "Recipe", "Target", "Runs", "Reached", "Missed", "Open",
        "Time to it", "Fastest", "Slowest", "Epochs to it", "Cost to it",
    )  # fmt: skip
    assert texts(table) == [
        ["lr=0.001", "80 %", "1–3", "3", "0", "0", "20.0 s", "10.0 s", "30.0 s", "4", "$0.20"],
        ["lr=0.002", "80 %", "4–6", "1", "2", "0", "missed by 2 of 3", "5.0 s", "5.0 s", "–", "–"],
    ]
    first, second = recipe_rows(comparison)
    assert (first["seconds"], first["epochs"], first["dollars"], first["is_missed"]) == (20.0, 4, pytest.approx(0.2), False)
    assert (second["seconds"], second["is_missed"], second["num_missed"], second["low"]) == (None, True, 2, 5.0)


def test_lines_by_target_end_where_half_of_the_runs_miss(tmp_path: Path) -> None:
    comparison = compared(*seeds_of_two_recipes(tmp_path))
    slow, fast = (line_by_target(comparison, recipe, "seconds") for recipe in comparison.recipes)
    # at 60 %: 10, 12, 11 s; 70 %: 10, 30, 11; 80 and 81 %: 10, 30, 20; 83 %: 20, never, 20; 85 %: 20, never, never
    assert slow == [(60.0, 11.0), (70.0, 11.0), (80.0, 20.0), (81.0, 20.0), (83.0, 20.0)]
    assert fast == [(70.0, 5.0), (75.0, 5.0), (79.9, 10.0)]  # 82 %: 5 s, never, never
    dollars = line_by_target(comparison, comparison.recipes[1], "dollars")
    assert dollars == [(top1, pytest.approx(seconds / 100)) for top1, seconds in fast]


def test_profiles_have_the_ratio_to_the_fastest_recipe(tmp_path: Path) -> None:
    targets, ratios = profiles(compared(*seeds_of_two_recipes(tmp_path), target=("top1=70", "top1=79", "top1=83", "top1=99")))
    assert targets == [70.0, 79.0, 83.0]  # nobody reaches 99 %
    # at 79 %: 10, 30, 20 s against 5, 10 s and never
    assert ratios == {"lr=0.001": [11 / 5, 20 / 10, 1.0], "lr=0.002": [1.0, 1.0, math.inf]}
    targets, ratios = profiles(compared(*seeds_of_two_recipes(tmp_path / "again")))
    assert targets == [float(percent) for percent in range(42, 84)]
    assert [targets[place] for place, ratio in enumerate(ratios["lr=0.002"]) if ratio == math.inf] == [80, 81, 82, 83]


def test_ties_and_even_numbers_of_runs() -> None:
    def times(*seconds: float | None) -> float | None:
        return time_to_target([[Outcome("missed") if s is None else Outcome("reached", 1, s)] for s in seconds]).seconds

    assert (times(3.0), times(3.0, 3.0, 7.0), times(4.0, 2.0)) == (3.0, 3.0, 3.0)
    assert (times(2.0, None), times(1.0, 2.0, 3.0, None), times(None)) == (math.inf, 2.5, math.inf)
    nothing = time_to_target([[Outcome("open")], [Outcome("open")]])
    assert (nothing.seconds, nothing.epochs, nothing.low, nothing.num_open) == (None, None, None, 2)
    assert time_to_target([[Outcome("reached", 3, None)]]).seconds is None  # a log without moments
    assert time_to_target([[Outcome("reached", 3, None)]]).epochs == 3


def test_an_unknown_time_does_not_hide_that_half_missed() -> None:
    def of(*outcomes: Outcome) -> TimeToTarget:
        return time_to_target([[one] for one in outcomes])

    unknown, known, missed = Outcome("reached", 3, None), Outcome("reached", 4, 9.0), Outcome("missed")
    assert (of(unknown, missed).seconds, of(unknown, missed).as_dict()["is_missed"]) == (math.inf, True)
    assert of(unknown, known, missed, missed, Outcome("open")).seconds == math.inf
    assert (of(unknown, known, missed).seconds, of(unknown, known, missed).epochs) == (None, 4)


def test_of_a_study_the_fastest_run_counts(tmp_path: Path) -> None:
    """Two learning rates with two seeds: studies of 10 and 8, and of 30 s and a miss; at the third seed both miss."""
    seconds = {(0, 1e-3): 10.0, (0, 2e-3): 8.0, (1, 1e-3): 30.0, (1, 2e-3): None, (2, 1e-3): None, (2, 2e-3): None}
    folders = [
        make_timed_run(
            tmp_path / f"{seed}-{lr}",
            {2: (time or 50.0, 80.0 if time else 10.0)},
            options={"train.seed": seed, "optim.lr": lr},
        )
        for (seed, lr), time in seconds.items()
    ]
    again = make_timed_run(tmp_path / "again", {2: (20.0, 80.0)}, options={"train.seed": 0, "optim.lr": 1e-3})
    comparison = compared(*folders, again, target=("top1=80",), tuned=("optim.lr",))
    (recipe,) = comparison.recipes
    assert (recipe.name, recipe.studies) == ("all runs", ((0, 1), (2, 3), (4, 5), (6,)))
    time = comparison.time(recipe, 80.0)
    assert (time.num_studies, time.num_reached, time.num_missed) == (4, 4, 3)
    assert (time.num_studies_reached, time.num_studies_missed) == (3, 1)
    assert (time.seconds, time.low, time.high) == (25.0, 8.0, 30.0)  # of 8, 30, never and 20
    table = target_table(comparison)
    assert table is not None
    assert texts(table) == [["all runs", "80 %", "1–7", "4", "3", "0", "4", "25.0 s", "8.0 s", "30.0 s", "2", "–"]]
    few = compared(*folders[2:], target=("top1=80",), tuned=("optim.lr",))  # 30 s, and never
    assert texts(target_table(few))[0][3:8] == ["1", "3", "0", "2", "missed by 1 of 2 studies"]
    assert {"num_studies": 2, "num_studies_reached": 1, "num_studies_missed": 1}.items() <= recipe_rows(few)[0].items()


def test_a_run_that_may_still_reach_it_is_open(tmp_path: Path) -> None:
    until = {"budget.until": "top1=70"}
    runs = {
        "goes on": make_timed_run(tmp_path / "a", {1: (1.0, 60.0)}, is_ended=False),
        "ended at its own": make_timed_run(tmp_path / "b", {1: (1.0, 72.0)}, options=until, stopped="target"),
        "missed": make_timed_run(tmp_path / "c", {10: (1.0, 60.0)}, options=until),
        "diverged": make_timed_run(tmp_path / "d", {1: (1.0, 60.0)}, diverges=True),
        "never evaluated": make_timed_run(tmp_path / "e", {}, is_ended=False),
    }
    states = {name: [outcome_of(load_run(run), top1).state for top1 in (50.0, 70.0, 75.0)] for name, run in runs.items()}
    assert states == {
        "goes on": ["reached", "open", "open"],
        "ended at its own": ["reached", "reached", "open"],
        "missed": ["reached", "missed", "missed"],
        "diverged": ["reached", "missed", "missed"],
        "never evaluated": ["open", "open", "open"],
    }
    comparison = compared(*runs.values())
    assert comparison.targets == (70.0,)  # that of budget.until
    (recipe,) = comparison.recipes  # a run is not another recipe because it may end earlier
    # of runs that ended: at 60 %, 1, 1 and 1 s; at 72 %, 1 s, never and never
    assert line_by_target(comparison, recipe, "seconds") == [(60.0, 1.0)]
    own = compared(runs["ended at its own"])
    assert line_by_target(own, own.recipes[0], "seconds") == [(72.0, 1.0)]
    begun = compared(runs["goes on"])
    assert line_by_target(begun, begun.recipes[0], "seconds") == [(60.0, 1.0)]
    assert profiles(begun) == ([], {})
    with EventLog(tmp_path / "d" / "log.jsonl") as log:
        write_start(log, epoch=1)  # it goes on from its last checkpoint
    assert outcome_of(load_run(tmp_path / "d"), 70.0).state == "open"


def test_lines_of_runs_that_ended_at_their_own_target_reach_it(tmp_path: Path) -> None:
    until = {"budget.until": "top1=50"}
    runs = [
        make_timed_run(tmp_path / str(seed), {2: (10.0, 30.0), 4: (last, top1)}, options={**until, "train.seed": seed},
                       stopped="target")
        for seed, (last, top1) in enumerate([(20.0, 52.0), (22.0, 51.0), (30.0, 54.0)])
    ]  # fmt: skip
    one, several = compared(runs[0]), compared(*runs)
    assert line_by_target(one, one.recipes[0], "seconds") == [(30.0, 10.0), (52.0, 20.0)]
    # nobody knows whether the second would reach 52 %
    assert line_by_target(several, several.recipes[0], "seconds") == [(30.0, 10.0), (51.0, 22.0)]
    assert several.known_up_to(several.recipes[0]) == 51.0


def test_seconds_are_those_of_the_run_over_all_its_sessions(tmp_path: Path) -> None:
    """Evaluated each second epoch. The first session trained epochs that the second trained again."""
    folder = make_timed_run(tmp_path / "run", {2: (20.0, 50.0), 4: (40.0, 80.0)}, is_ended=False)
    with open_run(folder, RunConfig(), ["deit-fast", "train"], resume=True) as run:
        write_start(run.log, epoch=2)
        run.log.write("eval", epoch=3, weights="model", top1=79.0, loss=1.0, run_seconds=45.0)
        run.log.write("eval", epoch=3, weights="ema", top1=None, loss=None, run_seconds=45.0)
        run.log.write("eval", epoch=5, weights="model", top1=85.0, loss=1.0, run_seconds=66.0)
    assert evaluations(load_run(folder)) == [Evaluation(2, 20.0, 50.0), Evaluation(4, 45.0, 79.0), Evaluation(6, 66.0, 85.0)]
    assert outcome_of(load_run(folder), 80.0) == Outcome("reached", 6, 66.0, None)


def test_logs_without_seconds_of_the_run_have_those_of_epochs(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with open_run(folder, RunConfig(), ["deit-fast", "train"], resume=False) as run:
        write_start(run.log)
        for epoch in range(3):
            seconds = {"setup": 5.0 * (epoch == 0), "compute": 10.0, "evaluation": None}
            run.log.write("epoch", epoch=epoch, loss=1.0, lr=1e-3, images_per_second=1.0, seconds=seconds, time=100.0 * epoch)
            run.log.write("eval", epoch=epoch, weights="model", top1=20.0 * epoch, loss=1.0, time=100.0 * epoch + 2.0)
    assert [one.seconds for one in evaluations(load_run(folder))] == [17.0, 27.0, 37.0]


def test_csv_has_the_outcome_of_each_run(tmp_path: Path) -> None:
    inputs = read_inputs([str(folder) for folder in seeds_of_two_recipes(tmp_path)])
    rows = csv_rows(inputs, comparison_of(inputs, ReportConfig(target=("top1=80", "top1=90"))))
    assert [(row["recipe"], row["to.top1=80.outcome"], row["to.top1=80.seconds"]) for row in rows[2:5]] == [
        ("lr=0.001", "reached", 20.0), ("lr=0.002", "reached", 5.0), ("lr=0.002", "missed", None),
    ]  # fmt: skip
    assert (rows[0]["to.top1=80.epochs"], rows[0]["to.top1=80.dollars"]) == (2, pytest.approx(0.1))
    assert {row["to.top1=90.outcome"] for row in rows} == {"missed"}


@pytest.mark.slow
def test_page_of_recipes_and_its_files(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text('{"epoch": 0, "test_acc1": 50.0}\n{"epoch": 1, "test_acc1": 60.0}\n')
    folders = seeds_of_two_recipes(tmp_path)
    result = report(*folders, target=("top1=80",), markdown=str(tmp_path / "t.md"), curves=(str(log),), published=("deit3",))
    assert result["runs"][0]["to"]["top1=80"] == {"outcome": "reached", "epochs": 2, "seconds": 10.0, "dollars": 0.1}
    assert [(row["recipe"], row["seconds"]) for row in result["recipes"]] == [("lr=0.001", 20.0), ("lr=0.002", None)]
    assert "| lr=0.001 | 80 % | 1–3 | 3 | 0 | 0 | 20.0 s |" in (tmp_path / "t.md").read_text()
    page = Page(Path(result["html"]))
    titles = ["Time by target", "Cost by target", "Performance profile", "Top-1 by epoch", "Top-1 by time", "Top-1 by dollar"]
    assert [title for title in page.values("img", "alt") if title in titles] == titles
    assert [text for text in page.texts if "issue 160" in text and str(log) in text]


def test_curves_of_others_are_drawn_where_no_run_was_evaluated(tmp_path: Path) -> None:
    none = compared(make_timed_run(tmp_path / "a", {}, is_ended=False))
    by_epoch, by_time, by_price = accuracy_figures(none, [curve_of("deit_s")])
    assert by_epoch is not None
    assert by_epoch.caption == "deit_s: log.txt."
    assert [text.get_text() for text in by_epoch.figure.legends[0].get_texts()] == ["deit_s, not ours"]
    assert (by_time, by_price) == (None, None)
    assert accuracy_figures(none, []) == [None, None, None]


@pytest.mark.parametrize(("num_curves", "has_legend"), [(MAX_LEGEND - 2, True), (MAX_LEGEND - 1, False)])
def test_lines_have_a_legend_or_their_names_at_their_ends(tmp_path: Path, num_curves: int, has_legend: bool) -> None:
    options = ({"optim.lr": 0.001 * (1 + place)} for place in range(2))
    runs = [make_timed_run(tmp_path / str(place), {2: (10.0, 50.0)}, options=own) for place, own in enumerate(options)]
    names = [f"curve {number}" for number in range(num_curves)]
    drawing = accuracy_figures(compared(*runs), [curve_of(name) for name in names])[0]
    assert drawing is not None
    labels = [text.get_text() for legend in drawing.figure.legends for text in legend.get_texts()]
    ends = [text.get_text() for text in drawing.figure.axes[0].texts]
    assert len(labels) == (2 + num_curves if has_legend else 0)
    assert ends == ([] if has_legend else ["1", "2", *names])


def test_targets_and_options_that_are_none_get_one_line(tmp_path: Path) -> None:
    run = make_timed_run(tmp_path / "run", {1: (1.0, 60.0)})
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"target": ("top5=3",)}, "report.target=top5=3: want top1=PERCENT"),
        ({"tuned": ("optim.rate",)}, "report.tuned=optim.rate: want options"),
        ({"seeds": ("run.dir",)}, "report.seeds=run.dir: want options"),
    ]
    for options, message in wrong:
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            report(run, **options)
        assert "\n" not in str(caught.value)
