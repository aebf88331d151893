"""What is read of a configuration is noted, from copies too, and what is only copied, recorded or overwritten is not."""

from __future__ import annotations

import dataclasses

import pytest

from deit_fast.__main__ import main
from deit_fast.commands import COMMANDS, Command, Group
from deit_fast.config import DataConfig, RunConfig, eval_resolution
from tests.benchmarks.conftest import checked
from tests.benchmarks.reads import options_read


def test_reads_are_noted() -> None:
    config = RunConfig()
    with options_read(config) as read:
        assert config.data.batch_size == DataConfig().batch_size
        copy = dataclasses.replace(config, train=dataclasses.replace(config.train, log_every=7))
        assert (copy.train.log_every, copy.train.seed) == (7, 0)
        eval_resolution(config.data)
        config.as_dict()
        RunConfig().optim.lr  # noqa: B018  (of another configuration)
    assert read == {"data.batch_size", "train.seed", "data.eval_resolution", "data.resolution"}
    config.model.name  # noqa: B018  (after the block)
    assert "model.name" not in read


def test_a_kind_that_reads_what_it_does_not_take_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Command(
        "a toy", takes=("bench.rounds",), run=lambda call: {"rounds": call.config.bench.rounds + call.config.bench.steps}
    )
    group = COMMANDS["bench"]
    assert isinstance(group, Group)
    monkeypatch.setitem(COMMANDS, "bench", dataclasses.replace(group, kinds={"step": checked(toy)}))
    with pytest.raises(AssertionError, match=r"bench\.steps"):
        main(["bench", "step"])
