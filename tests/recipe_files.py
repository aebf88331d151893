"""Finds every recipe's file, header and command, and lists what was published about it."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from deit_fast.cli import parse
from deit_fast.config import RunConfig

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("deit_configs", "rn_configs")
    for path in (ROOT / folder).rglob("*.yaml")
    if path.parent.name != "sweeps"  # many runs each: tests/sweep/test_sweep_file.py
)
BASES = [file for file in FILES if Path(file).name.startswith("base")]
DEMO = "deit_configs/demo.yaml"
DEMOS = [DEMO, "deit_configs/demo_photos.yaml", "deit_configs/demo_photos_teacher.yaml"]
RECIPES = [file for file in FILES if file not in (*BASES, *DEMOS)]
PUBLISHED_TOP1 = r"Published: top-1 ([0-9.]+) %"


@functools.cache
def config_of(*files: str) -> RunConfig:
    """The configuration of several --config-file, given as paths in the repository."""
    return parse("train", [*(f"--config-file={ROOT / file}" for file in files), "--data.train=a", "--data.val=b"])


def difference(config: RunConfig, reference: RunConfig) -> dict[str, Any]:
    """The options of config that differ from reference, with their values."""
    ours, theirs = config.as_dict(), reference.as_dict()
    sections = [section for section, options in ours.items() if isinstance(options, dict)]
    pairs = ((section, name) for section in sections for name in ours[section])
    return {f"{s}.{name}": ours[s][name] for s, name in pairs if ours[s][name] != theirs[s][name]}


def commands_in(text: str) -> list[list[str]]:
    """Words of each command in a text, with those of its continuation lines."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip().startswith(("torchrun ", "deit-fast "))]


def parsed(words: list[str]) -> tuple[RunConfig, int]:
    """The configuration of a command, whose files are read from the repository, and its number of ranks."""
    name = next(word for word in words if word in ("train", "eval"))
    ranks = int(words[words.index("--nproc-per-node") + 1]) if "torchrun" in words else 1
    arguments = words[words.index(name) + 1 :]
    return parse(name, [str(ROOT / word) if word.endswith(".yaml") else word for word in arguments]), ranks


def header(file: str) -> str:
    """The comment at the head of a recipe, without the # of each line."""
    lines = (ROOT / file).read_text().splitlines()
    return "\n".join(line[2:] for line in lines if line.startswith("# ")) + "\n"


def prose(text: str) -> str:
    return " ".join(text.split())


def short_name(file: str) -> str:
    return file.removesuffix(".yaml").removeprefix("deit_configs/")


class Run(NamedTuple):
    """What was published of a recipe: model, training resolution, global batch, peak rate, epochs."""

    model: str
    resolution: int
    batch: int
    lr: float
    epochs: int


TINY, SMALL, BASE = (f"deit_{size}_patch16_224" for size in ("tiny", "small", "base"))
TINY_2, SMALL_2, BASE_2 = (f"deit_{size}_distilled_patch16_224" for size in ("tiny", "small", "base"))
DEIT = {  # by hand, from DeiT's paper and README, except for rows that the files call chosen
    "deit_tiny": Run(TINY, 224, 1024, 1e-3, 300),
    "deit_small": Run(SMALL, 224, 1024, 1e-3, 300),
    "deit_base": Run(BASE, 224, 1024, 1e-3, 300),
    "deit_base_400_epochs": Run(BASE, 224, 1024, 1e-3, 400),
    "deit_base_384": Run("deit_base_patch16_384", 384, 512, 5e-6, 30),
    "deit_tiny_distilled": Run(TINY_2, 224, 1024, 1e-3, 300),
    "deit_small_distilled": Run(SMALL_2, 224, 1024, 1e-3, 300),
    "deit_base_distilled": Run(BASE_2, 224, 1024, 1e-3, 300),
    "deit_tiny_distilled_1000_epochs": Run(TINY_2, 224, 1024, 1e-3, 1000),
    "deit_small_distilled_1000_epochs": Run(SMALL_2, 224, 1024, 1e-3, 1000),
    "deit_base_distilled_1000_epochs": Run(BASE_2, 224, 1024, 1e-3, 1000),
    "deit_base_distilled_384": Run("deit_base_distilled_patch16_384", 384, 512, 5e-6, 30),
    "deit_base_distilled_384_labels": Run("deit_base_distilled_patch16_384", 384, 512, 5e-6, 30),
    "vit_base": Run("vit_base_patch16_224", 224, 4096, 3e-3, 300),
    "vit_base_384": Run("vit_base_patch16_384", 384, 512, 0.03, 8),
    **{f"table3/{kind}_tiny": Run(TINY, 224, 1024, 1e-3, 300) for kind in ("usual", "hard")},
    **{f"table3/{kind}_small": Run(SMALL, 224, 1024, 1e-3, 300) for kind in ("usual", "hard")},
    **{f"table3/{kind}_base": Run(BASE, 224, 1024, 1e-3, 300) for kind in ("usual", "hard")},
    "table8/sgd": Run(BASE, 224, 1024, 0.01, 300),
    **{f"table8/no_{part}": Run(BASE, 224, 1024, 1e-3, 300) for part in ("randaugment", "mixup", "cutmix", "erasing")},
    "table8/autoaugment": Run(BASE, 224, 1024, 1e-3, 300),
    "table8/no_mixup_no_cutmix": Run(BASE, 224, 1024, 1e-3, 300),
    "table8/no_stochastic_depth": Run(BASE, 224, 1024, 1e-3, 300),
    "table8/no_repeated_augmentation": Run(BASE, 224, 1024, 1e-3, 300),
    "table8/dropout": Run(BASE, 224, 1024, 1e-3, 300),
    "table8/sgd_finetuning": Run("deit_base_patch16_384", 384, 512, 8e-3, 30),
    "table8/ema_finetuning": Run("deit_base_patch16_384", 384, 512, 5e-6, 30),
    "transfer/cifar10": Run(BASE, 224, 768, 0.01, 1000),
    "transfer/cifar100": Run(BASE, 224, 768, 0.01, 1000),
    "transfer/flowers102": Run(BASE, 224, 768, 0.01, 1000),
    "transfer/cars": Run(BASE, 224, 768, 0.01, 1000),
    "transfer/inat2018": Run(BASE, 224, 768, 7.5e-5, 360),
    "transfer/inat2019": Run(BASE, 224, 768, 7.5e-5, 360),
    "transfer/cifar10_scratch": Run(BASE, 224, 1024, 1e-3, 7200),
}
FFCV_EPOCHS = {16: (11, 13), 24: (17, 20), 32: (23, 27), 40: (29, 34), 56: (41, 48), 88: (65, 76)}  # and the ramp, of its YAMLs
CONVNETS = {
    **{f"rn18_{epochs}_epochs": Run("resnet18", 192, 1024, 0.5, epochs) for epochs in FFCV_EPOCHS},
    **{f"rn50_{epochs}_epochs": Run("resnet50", 192, 4096, 1.7, epochs) for epochs in FFCV_EPOCHS},
    "regnety_4gf": Run("regnety_040", 224, 1024, 1e-3, 300),
    "regnety_8gf": Run("regnety_080", 224, 1024, 1e-3, 300),
    "regnety_12gf": Run("regnety_120", 224, 1024, 1e-3, 300),
    "regnety_16gf": Run("regnety_160", 224, 1024, 1e-3, 300),
    "regnety_16gf_384": Run("regnety_160", 384, 512, 8e-3, 31),
    "resnet18": Run("resnet18", 224, 256, 0.1, 90),
    "resnet50": Run("resnet50", 224, 256, 0.1, 90),
    "resnet101": Run("resnet101", 224, 256, 0.1, 90),
    "resnet152": Run("resnet152", 224, 256, 0.1, 90),
    "resnet50_fixres_384": Run("resnet50", 384, 512, 8e-3, 31),
    "efficientnet_b0": Run("efficientnet_b0", 224, 1024, 1e-3, 300),
    "efficientnet_b4": Run("efficientnet_b4", 380, 1024, 1e-3, 300),
}
_SMALL_3, _MEDIUM_3, _BASE_3, _LARGE_3 = (f"deit3_{size}_patch16_224" for size in ("small", "medium", "base", "large"))
_HUGE_3 = "deit3_huge_patch14_224"
_STAGES = {
    "small": _SMALL_3,
    "base_192": _BASE_3,
    "large_192": _LARGE_3,
    "huge_154": _HUGE_3,
}
_SIZES_3 = {"small": _SMALL_3, "medium": _MEDIUM_3, "base": _BASE_3, "large": _LARGE_3, "huge": _HUGE_3}


def _side(name: str) -> int:
    """The resolution in a recipe's name; 224 if it has none."""
    return int((re.findall(r"_(126|154|192|384|448|512)", name) or [224])[0])


DEIT3 = {
    **{f"{size}{end}": Run(name, _side(size), 2048, 4e-3 if size == "small" else 3e-3, epochs)
       for size, name in _STAGES.items() for end, epochs in (("", 800), ("_400_epochs", 400))},
    "medium": Run(_MEDIUM_3, 224, 2048, 3e-3, 800),
    **{size: Run(_SIZES_3[size], 224, 512, 1e-5, 20) for size in ("base", "large", "huge")},
    **{f"{size}_384": Run(f"deit3_{size}_patch16_384", 384, 512, 1e-5, 20) for size in ("small", "base", "large")},
    **{f"{size}_21k": Run(name, 224, 2048, 1e-3, 240) for size, name in _SIZES_3.items()},
    "huge_21k": Run(_HUGE_3, 126, 2048, 1e-3, 90),
    **{f"{size}_21k_1k": Run(name, 224, 2048, 3e-4, 50) for size, name in _SIZES_3.items()},
}  # fmt: skip
_CAIT = {"xxs24": 224, "xxs36": 224, "xs24": 384, "s24": 224, "s36": 384, "m36": 384, "m48": 448}  # timm's smallest side
CAIT = {
    **{f"{size}{end}": Run(f"cait_{size}_{side}", 224, 1024, 1e-3, 400)
       for size, side in _CAIT.items() for end in ("", "_distilled")},
    **{f"{size}{end}_{side}": Run(f"cait_{size}_{side}", side, 256, 5e-6, 60)
       for size in _CAIT for side in (448 if size == "m48" else 384,) for end in ("", "_distilled")},
}  # fmt: skip
_RESMLP = {"s12": "resmlp_12_224", "s24": "resmlp_24_224", "s36": "resmlp_36_224", "b24": "resmlp_big_24_224"}
RESMLP = {f"{size}{end}": Run(name, 224, 2048, 5e-3, 400) for size, name in _RESMLP.items() for end in ("", "_distilled")}
RESMLP["b24_patch16"] = Run("resmlp_big_24_patch16_224", 224, 2048, 5e-3, 400)
PATCHCONVNET = {
    **{
        size: Run(f"patchconvnet_{size}", 224, 2048, 3e-3, 400)
        for size in ("s60", "s120", "b60", "b120", "l60", "l120", "s60_multi")
    },
    "s60_multi_finetuned": Run("patchconvnet_s60_multi", 224, 512, 1e-5, 20),
}
_DEEP = {
    "small_36": "deit_small_patch16_36",
    "small_18x2": "deit_small_patch16_18x2",
    "small_48": SMALL,
    "small_24x2": SMALL,
    "base_36": "deit_base_patch16_36x1",
    "base_18x2": "deit_base_patch16_18x2",
    "base_36_ls": "deit_base_patch16_36x1_LS",
    "base_18x2_ls": "deit_base_patch16_18x2_LS",
    "base_hmlp": BASE,
}
_PLAIN = {"tiny": TINY, "small": SMALL, "base": BASE, "large": "vit_large_patch16_224"}
THREE_THINGS = {
    **{
        size: Run(name, 224, 2048, 4e-3 if "tiny" in name or "small" in name else 3e-3, 300)
        for size, name in (_PLAIN | _DEEP).items()
    },
    **{
        f"{size}_ls": Run(f"deit_{size}_patch16_LS", 224, 2048, 4e-3 if size in ("tiny", "small") else 3e-3, 400)
        for size in _PLAIN
    },
    **{f"{size}_384_attention": Run(f"deit_{size}_patch16_LS", 384, 512, 1e-5, 20) for size in ("small", "base", "large")},
}
SIMPLE_VIT = {
    f"small{end}": Run("simple_vit_small_patch16_224", 224, 1024, 1e-3, epochs)
    for end, epochs in (("", 90), ("_300_epochs", 300))
}
COSUB = {size: DEIT3[size] for size in (*_STAGES, "medium")}
EFFICIENTTRAIN = {
    **{f"{size}_{budget}": Run(name, 224, 4096, 4e-3, epochs) for size, name in (("tiny", TINY), ("small", SMALL))
       for budget, epochs in ((100, 234), (150, 351), (200, 469), (300, 703))},
    "resnet50": Run("resnet50", 224, 4096, 4e-3, 454),
}  # fmt: skip

PUBLISHED = {f"deit_configs/{name}.yaml": run for name, run in DEIT.items()}
PUBLISHED |= {f"rn_configs/{name}.yaml": run for name, run in CONVNETS.items()}
_FAMILIES = {"deit3": DEIT3, "cait": CAIT, "resmlp": RESMLP, "cosub": COSUB, "patchconvnet": PATCHCONVNET}
for _family, _runs in (_FAMILIES | {"efficienttrain": EFFICIENTTRAIN}).items():
    PUBLISHED |= {f"deit_configs/{_family}/{_family}_{name}.yaml": run for name, run in _runs.items()}
PUBLISHED |= {f"deit_configs/simple_vit/simple_vit_{name}.yaml": run for name, run in SIMPLE_VIT.items()}
PUBLISHED |= {f"deit_configs/three_things/vit_{name}.yaml": run for name, run in THREE_THINGS.items()}
