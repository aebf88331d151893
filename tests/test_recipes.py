"""Every recipe, by the command in its header, against what was published of it; the docs against the files."""

import ast
import dataclasses
import functools
import re
from pathlib import Path

import pytest

from deit_fast.config import ModelConfig, check_training
from deit_fast.model.create import create_model, num_parameters
from deit_fast.train.schedule import peak_lr
from tests.model.meta import on_meta
from tests.recipe_files import (
    BASES,
    DEMO,
    DEMOS,
    FILES,
    PUBLISHED,
    PUBLISHED_TOP1,
    RECIPES,
    ROOT,
    commands_in,
    config_of,
    header,
    parsed,
    prose,
    short_name,
)

DOCS = "".join((ROOT / "docs" / name).read_text() for name in ("recipes.md", "successors.md"))
CLASSES = {"cifar10": 10, "cifar10_scratch": 10, "cifar100": 100, "flowers102": 102, "cars": 196}
CLASSES |= {"inat2018": 8142, "inat2019": 1010}  # Table 6 of the DeiT paper; every other recipe is for ImageNet's 1000
CLASSES |= {f"deit3_{size}_21k": 21_841 for size in ("small", "medium", "base", "large", "huge")}  # fall 2011

# an arXiv number, a GitHub repository with a file or an issue, or torchvision
SOURCE = r"arXiv [0-9]{4}\.[0-9]{5}|[\w-]+/[\w-]+[,#] ?[\w/.-]+|torchvision"

MILLIONS = r"([0-9.]+) M parameters"


@functools.cache
def _num_parameters(options: str, num_classes: int, resolution: int) -> int:
    """Parameters of the model of options, which _model_options writes."""
    with on_meta():
        model = create_model(ModelConfig(**ast.literal_eval(options)), num_classes=num_classes, resolution=resolution)
    return num_parameters(model)


def _model_options(model: ModelConfig) -> str:
    """What decides on the architecture, without weights, the same for the same."""
    return repr(dataclasses.asdict(dataclasses.replace(model, weights="", weights_from="auto", trains="all")))


def test_every_recipe_is_in_the_table() -> None:
    assert set(RECIPES) == set(PUBLISHED)


@pytest.mark.parametrize("file", RECIPES, ids=short_name)
def test_recipe_by_its_header(file: str) -> None:
    """The one command in the header runs this file, on ranks that make the published batch, rate, epochs and model.

    The header has a source, a figure or the lack of one, and the model's parameters.
    """
    (command,) = commands_in(header(file))
    assert command[command.index("--config-file") + 1] == file
    config, ranks = parsed(command)
    check_training(config, ranks)
    assert config.run.dir == f"runs/{file.partition('/')[2].removesuffix('.yaml')}"
    run = PUBLISHED[file]
    assert (config.model.name, config.data.resolution, config.train.epochs) == (run.model, run.resolution, run.epochs)
    assert ranks * config.data.batch_size == run.batch
    assert peak_lr(config.optim, run.batch) == pytest.approx(run.lr, rel=1e-9)

    text = prose(header(file))
    assert re.search(SOURCE, text)
    assert re.search(rf"{PUBLISHED_TOP1}|Not published: ", text)
    assert len(re.findall(MILLIONS, text)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("file", RECIPES, ids=short_name)
def test_header_has_the_models_parameters(file: str) -> None:
    """Rounded to the digits that stand there."""
    (millions,) = re.findall(MILLIONS, prose(header(file)))
    config = config_of(file)
    counted = _num_parameters(_model_options(config.model), CLASSES.get(Path(file).stem, 1000), config.data.resolution)
    assert f"{counted / 1e6:.{len(millions.partition('.')[2])}f}" == millions


@pytest.mark.parametrize("file", BASES, ids=short_name)
def test_base_is_extended(file: str) -> None:
    assert header(file).startswith("Base: ")
    assert not commands_in(header(file))
    path = (ROOT / file).resolve()
    extended = []
    for other in FILES:
        (line,) = re.findall(r"^base: (.*)$", (ROOT / other).read_text(), re.MULTILINE) or [""]
        extended += [((ROOT / other).parent / name).resolve() for name in re.findall(r"[^\s,\[\]]+", line)]
    assert path in extended or f"--config-file {file}" in DOCS  # as the second one


@pytest.mark.parametrize("file", DEMOS, ids=short_name)
def test_demo_is_a_run(file: str) -> None:
    command = commands_in(header(file))[-1]
    assert command[:2] == ["deit-fast", "demo"] or command[command.index("--config-file") + 1] == file
    check_training(config_of(file), world_size=1)


@pytest.mark.parametrize("file", RECIPES, ids=short_name)
def test_docs_have_the_recipe_and_its_figure(file: str) -> None:
    lines = [line for line in DOCS.splitlines() if f"`{file}" in line]
    assert lines
    figure = re.search(PUBLISHED_TOP1, prose(header(file)))
    if figure:
        assert any(re.search(rf"(?<![0-9.]){re.escape(figure[1])}(?![0-9])", line) for line in lines)


def test_docs_name_only_files_that_are_there() -> None:
    named = set(re.findall(r"(?:deit|rn)_configs/[\w/]+\.yaml", DOCS))
    assert named <= set(FILES)
    assert {DEMO, "deit_configs/base_finetune.yaml", "rn_configs/base_fixres.yaml"} <= named


def _commands_of_docs() -> list[list[str]]:
    """Blocks of shell commands, recipes with options behind them, and what `eval` is told."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL))
    (run,) = re.findall(r'run="(.*?)"', blocks, re.DOTALL)
    commands = commands_in(blocks.replace("$run", run).replace("$heads", "class"))
    cells = re.findall(r"`((?:deit|rn)_configs/[^`]*\.yaml[^`]*)`", DOCS)
    data = ["--data.train=a", "--data.val=b", "--run.dir=c"]
    commands += [
        ["torchrun", "--nproc-per-node", "8", "train", "--config-file", *cell.split(), *data] for cell in cells if " " in cell
    ]
    return commands + [["eval", *words.split()] for words in re.findall(r"`eval ([^`]*)`", DOCS)]


def test_commands_in_docs_are_ones() -> None:
    commands = _commands_of_docs()
    assert len(commands) > 150
    for command in commands:
        config, ranks = parsed(command)
        if "train" in command:
            check_training(config, ranks)
            assert bool(config.distil.teacher_weights) == (config.distil.kind in ("hard", "soft")), command
            assert bool(config.model.weights) == (config.train.mode == "eval" or config.model.weights_from != "auto"), command
            assert config.distil.kind != "cosub" or config.model.drop_path, command


@pytest.mark.slow
def test_models_that_commands_in_docs_change_are_built() -> None:
    changing = [
        command
        for command in _commands_of_docs()
        if any(word.startswith("--model.") and not word.startswith("--model.weights") for word in command)
    ]
    assert len(changing) > 30
    for command in changing:
        config, _ = parsed(command)
        assert _num_parameters(_model_options(config.model), 1000, config.data.resolution)
