from __future__ import annotations

from typing import Any

from deit_fast.config import RunConfig
from deit_fast.record.log import as_json
from deit_fast.record.recipes import recipe_options, recipes_of
from deit_fast.record.runs import by_dotted_name

Changes = dict[str, Any]


def grouped(*changes: Changes, names: list[str] | None = None, **options: Any) -> list[tuple[str, tuple[int, ...]]]:
    """The recipes of runs with these changes, by name and places. names: of the runs."""
    configs = [by_dotted_name(as_json(RunConfig().changed(one).as_dict())) for one in changes]
    names = names or [f"train.seed={place}, run {place}" for place in range(len(changes))]
    return [(one.name, one.runs) for one in recipes_of([recipe_options(config) for config in configs], names, **options)]


def test_seeds_prices_targets_and_folders_make_no_recipe() -> None:
    runs: list[Changes] = [
        {},
        {"train.seed": 1},
        {"data.seed": 3, "run.dir": "a"},
        {"budget.until": "top1=3", "run.dollars_per_hour": 2.0},
    ]
    assert grouped(*runs) == [("all runs", (0, 1, 2, 3))]
    assert grouped(*runs, seeds=["train.seed"]) == [("seed=auto", (0, 1, 3)), ("seed=3", (2,))]


def test_recipes_are_called_by_what_differs_and_come_in_the_order_of_their_first_runs() -> None:
    runs = ({"optim.name": "sgd", "train.seed": 1}, {"augment.mixup": None}, {"optim.name": "sgd"}, {"augment.mixup": None})
    assert grouped(*runs) == [("mixup=0.8, sgd", (0, 2)), ("mixup=off, adamw", (1, 3))]
    same_end = ({"model.drop_path": 0.2, "data.train": "a"}, {"model.options": {"depth": 3}, "data.train": "b"})
    assert [name for name, _ in grouped(*same_end)] == ["train=a, drop_path=0.2, depth=–", "train=b, drop_path=0.1, depth=3"]


def test_recipes_that_differ_in_much_have_the_names_of_their_first_runs_without_seeds() -> None:
    many = {"optim.lr": 1e-4, "optim.weight_decay": 0.3, "augment.auto_augment": "3a", "augment.erase": 0.0, "train.epochs": 7}
    assert [name for name, _ in grouped({}, many, {"train.seed": 2})] == ["run 0", "run 1"]


def test_recipes_of_a_sweep_keep_their_names() -> None:
    runs: tuple[Changes, ...] = ({}, {"optim.name": "sgd"}, {"train.seed": 1}, {"optim.name": "sgd", "train.seed": 1})
    names = ["plain, seed=0", "by-sgd, seed=0", "plain, seed=1", "by-sgd, seed=1"]
    assert grouped(*runs, names=names) == [("plain", (0, 2)), ("by-sgd", (1, 3))]
    assert [name for name, _ in grouped(*runs, names=["a", "b", "c", "d"])] == ["adamw", "sgd"]
    assert [name for name, _ in grouped(*runs, names=["lr=1, seed=0", "lr=2, seed=0", "", ""])] == ["adamw", "sgd"]


def test_epochs_that_a_budget_decided_make_no_recipe() -> None:
    fitted = [{"budget.hours": 2.0, "train.epochs": epochs, "schedule.warmup_epochs": epochs / 10} for epochs in (20, 30)]
    assert grouped(*fitted) == [("all runs", (0, 1))]
    assert [runs for _, runs in grouped(*fitted, {"budget.hours": 3.0, "train.epochs": 20}, {"train.epochs": 20})] == [
        (0, 1), (2,), (3,),
    ]  # fmt: skip


def test_an_option_that_an_older_run_lacks_has_its_default() -> None:
    config = by_dotted_name(as_json(RunConfig().as_dict()))
    older = {name: value for name, value in config.items() if name not in ("optim.clip", "model.drop_path_kind")}
    (recipe,) = recipes_of([recipe_options(config), recipe_options(older)], ["new", "old"])
    assert recipe.studies == ((0,), (1,))
