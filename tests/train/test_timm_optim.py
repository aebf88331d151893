"""timm's optimisers by name: each step is that of timm's own factory; states, parameter groups, refusals."""

from __future__ import annotations

import io
from typing import Any

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import nn

from deit_fast.config import OptimConfig, UserError
from deit_fast.train.optim import create_optimizer, load_optimizer, num_moments, parameter_groups, set_lr

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 10}
# for CUDA and packages of their own; by gradients of gradients
ELSEWHERE = [name for name in list_optimizers() if isinstance(get_optimizer_info(name).opt_class, str)]
SECOND_ORDER = [name for name in list_optimizers() if get_optimizer_info(name).second_order]
KRON = [name for name in list_optimizers() if name.startswith("kron")]  # would compile, for half a minute each
HERE = [name for name in list_optimizers() if name not in {*ELSEWHERE, *SECOND_ORDER, *KRON}]
NAMES = [*HERE, "lookahead_adamw", "lookahead_muon"]
OFTEN = ("muon", "nadamuon", "adan", "lookahead_muon")  # others in the long tests
EACH = [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in NAMES]
WITH_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("muon", {"fallback_list": ["head.*", "pos_embed"], "ns_steps": 3}),
    ("muon", {"fallback_no_weight_decay": True, "momentum": 0.8, "betas": [0.8, 0.9]}),
    ("lion", {"betas": [0.8, 0.9]}),
    ("adamc", {"eps": 1e-4}),
    ("sgd", {"momentum": 0.5, "nesterov": False}),
]


def _model() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model("deit_tiny_patch16_224", **TINY)
    return model


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        set_lr(optimizer, 1e-3 / (1 + step))
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(4, 3, 32, 32, generator=generator)
        labels = torch.randint(10, (4,), generator=generator)
        torch.manual_seed(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def _is_equal(model: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def _check_steps(name: str, options: dict[str, Any], of_timm: dict[str, Any], num_steps: int = 8) -> None:
    ours, theirs, before = _model(), _model(), _model()
    config = OptimConfig(name=f"timm:{name}", options=options, weight_decay=0.1, no_decay="paper", layer_decay=0.7)
    _train(ours, create_optimizer(config, ours, 1e-3), range(num_steps))
    timms = create_optimizer_v2(theirs, name, lr=1e-3, weight_decay=0.1, layer_decay=0.7, **options, **of_timm)
    _train(theirs, timms, range(num_steps))
    for (key, a), b, old in zip(ours.named_parameters(), theirs.parameters(), before.parameters(), strict=True):
        assert not torch.equal(b, old), key
        assert torch.equal(a, b), key


def _check_resumes(name: str, options: dict[str, Any], num_steps: int = 7) -> None:
    config = OptimConfig(name=f"timm:{name}", options=options, layer_decay=0.5)
    model, resumed = _model(), _model()
    optimizer, other = create_optimizer(config, model, 1e-3), create_optimizer(config, resumed, 1e-3)
    _train(model, optimizer, range(num_steps))  # Lookahead's slow weights move after six
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed.load_state_dict(saved["model"])
    load_optimizer(other, saved["optimizer"])
    _train(model, optimizer, range(num_steps, 2 * num_steps))
    _train(resumed, other, range(num_steps, 2 * num_steps))
    assert _is_equal(model, resumed)


@pytest.mark.parametrize("name", EACH)
def test_8_steps_are_timms(name: str) -> None:
    _check_steps(name, {}, {})


@pytest.mark.parametrize(("name", "options"), WITH_OPTIONS)
def test_8_steps_with_options_are_timms(name: str, options: dict[str, Any]) -> None:
    _check_steps(name, options, {})


@pytest.mark.parametrize("name", EACH)
def test_a_loaded_state_goes_on_bit_for_bit(name: str) -> None:
    _check_resumes(name, {})


@pytest.mark.slow
def test_krons_steps_are_timms_and_go_on_bit_for_bit() -> None:
    with torch.compiler.set_stance("force_eager"):
        _check_steps("kron", {}, {"deterministic": True}, num_steps=3)
        _check_resumes("kronw", {}, num_steps=2)


@pytest.mark.slow
def test_no_random_number_of_the_process_moves_a_step() -> None:
    """Ranks draw different numbers, and must take the same step."""
    with torch.compiler.set_stance("force_eager"):
        for name in [*NAMES, *KRON]:
            models = [_model(), _model()]
            for seed, model in enumerate(models):
                optimizer = create_optimizer(OptimConfig(name=f"timm:{name}"), model, 1e-3)
                gradients = torch.Generator().manual_seed(0)
                for parameter in model.parameters():
                    parameter.grad = torch.randn(parameter.shape, generator=gradients)
                torch.manual_seed(seed)
                optimizer.step()
            assert _is_equal(*models), name


def test_all_of_timms_are_tried() -> None:
    assert {"muon", "adamuon", "lion", "adan", "mars", "adopt", "laprop"} <= set(HERE)
    assert len(HERE) > 60
    assert SECOND_ORDER == ["adahessian"]


def test_muon_leaves_vectors_and_what_it_is_told_to_adamw() -> None:
    def of_muon(**options: Any) -> set[str]:
        model = _model()
        optimizer = create_optimizer(OptimConfig(name="timm:muon", options=options), model, 1e-3)
        _train(model, optimizer, range(1))
        return {name for name, parameter in model.named_parameters() if optimizer.state[parameter]["use_muon"]}

    plain = of_muon()
    assert {"blocks.0.attn.qkv.weight", "head.weight"} <= plain
    assert not any(name.endswith("bias") for name in plain)
    assert plain - of_muon(fallback_list=["head.*"]) == {"head.weight"}


def test_parameters_of_the_fallback_have_groups_of_their_own() -> None:
    model = _model()
    config = OptimConfig(name="timm:muon", options={"fallback_list": "head.*", "fallback_no_weight_decay": True})
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {
        names[parameter]
        for group in parameter_groups(config, model)
        if group.get("use_fallback")
        for parameter in group["params"]
    }
    assert found == {"head.weight", "head.bias", "pos_embed", "cls_token"}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("adamw", 2), ("muon", 1), ("adamuon", 2), ("lion", 1), ("adan", 4), ("momentum", 1), ("lookahead_adamw", 2 + 1),
        ("kron", 1 + 2),
    ],
)  # fmt: skip
def test_moments_are_counted(name: str, wanted: int) -> None:
    state = torch.get_rng_state()
    assert num_moments(OptimConfig(name=f"timm:{name}")) == pytest.approx(wanted, abs=0.01)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "timm:muonn"}, r"optim\.name=timm:muonn: timm .* has no such optimiser; nearest: timm:muon, timm:"),
        ({"name": "timm:"}, r"has no such optimiser; nearest: timm:"),
        ({"name": "timm:lookahead_muonn"}, r"has no such optimiser; nearest: timm:muon"),
        ({"name": "timm:adahessian"}, r"timm:adahessian: needs gradients of gradients, .*; want another"),
        ({"name": "timm:muon", "options": {"ns_step": 3}}, r"timm cannot build it with ns_step=3: .*ns_step"),
        ({"name": "timm:muon", "options": {"lr": 3}}, r"optim\.options: lr=3: want optim\.lr instead"),
        ({"name": "timm:muon", "options": {"layer_decay": 0.5}}, r"optim\.options: layer_decay=0\.5: want optim\.layer_decay"),
        ({"name": "timm:adamw", "options": {"betas": [2, 3]}}, r"timm cannot build it with betas=\[2, 3\]: Invalid beta"),
        ({"name": "timm:adamw", "betas": (0.9, 0.95)}, r"optim\.betas=.*: is for adamw, .*timm:adamw wants it in optim\.opt"),
        ({"name": "timm:sgd", "momentum": 0.8}, r"optim\.momentum=0\.8: is for adamw"),
        ({"name": "timm:kron", "options": {"deterministic": False}}, r"deterministic=false: timm:kron would draw other numb"),
        ({"name": "muon"}, r"optim\.name=muon: want one of adamw, sgd, lamb, or timm:NAME for one of timm's; nearest: "),
        ({"name": "lamb", "options": {"ns_steps": 3}}, r"optim\.options: are for timm:NAME, and optim\.name=lamb; leave"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_optimizer(OptimConfig(**changes), nn.Linear(2, 2), 0.1)


def test_timm_has_no_shampoo_yet() -> None:
    """docs/training.md says so; once this fails, it can step like timm's, and belongs to the lists above if it does."""
    assert not [name for name in list_optimizers() if "shampoo" in name or "schedule" in name]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing without CUDA")
@pytest.mark.parametrize("name", ELSEWHERE)
def test_optimisers_of_other_packages_say_what_they_want(name: str) -> None:
    with pytest.raises(UserError, match=rf"optim\.name=timm:{name}: timm cannot build it with its defaults: CUDA required"):
        create_optimizer(OptimConfig(name=f"timm:{name}"), nn.Linear(2, 2), 0.1)
