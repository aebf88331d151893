"""Names of DeiT's own code: sizes counted by hand, initial values, and words for classes of timm."""

import pytest
import timm
from timm.layers import DropPath
from timm.models.vision_transformer import ParallelThingsBlock

from deit_fast.benchmarks.gpu.needs import forward_needs
from deit_fast.config import ModelConfig, UserError
from deit_fast.model.create import create_model, has_fixed_resolution, num_parameters
from deit_fast.model.hmlp import HMLPStem
from deit_fast.model.names import NAMES_OF_DEIT, stated, timm_model, with_layers
from tests.model.meta import on_meta

# width, depth, parallel branches, side of a patch, LayerScale of all that models_v2.py has
SIZES = {
    "deit_tiny_patch16_LS": (192, 12, 1, 16, True),
    "deit_small_patch16_LS": (384, 12, 1, 16, True),
    "deit_medium_patch16_LS": (512, 12, 1, 16, True),
    "deit_base_patch16_LS": (768, 12, 1, 16, True),
    "deit_large_patch16_LS": (1024, 24, 1, 16, True),
    "deit_huge_patch14_LS": (1280, 32, 1, 14, True),
    "deit_huge_patch14_52_LS": (1280, 52, 1, 14, True),
    "deit_huge_patch14_26x2_LS": (1280, 26, 2, 14, True),
    "deit_Giant_48x2_patch14_LS": (1664, 48, 2, 14, True),
    "deit_giant_40x2_patch14_LS": (1408, 40, 2, 14, True),
    "deit_Giant_48_patch14_LS": (1664, 48, 1, 14, True),
    "deit_giant_40_patch14_LS": (1408, 40, 1, 14, True),
    "deit_small_patch16_36_LS": (384, 36, 1, 16, True),
    "deit_small_patch16_36": (384, 36, 1, 16, False),
    "deit_small_patch16_18x2_LS": (384, 18, 2, 16, True),
    "deit_small_patch16_18x2": (384, 18, 2, 16, False),
    "deit_base_patch16_18x2_LS": (768, 18, 2, 16, True),
    "deit_base_patch16_18x2": (768, 18, 2, 16, False),
    "deit_base_patch16_36x1_LS": (768, 36, 1, 16, True),
    "deit_base_patch16_36x1": (768, 36, 1, 16, False),
}


def _numbers(width: int, depth: int, branches: int, patch: int, scales: bool) -> int:
    """Parameters of a ViT of models_v2.py for 1000 classes at 224 pixels: the class token has no position."""
    block = 12 * width**2 + 13 * width + 2 * width * scales
    embedding = 3 * patch**2 * width + width + (224 // patch) ** 2 * width + width
    return depth * branches * block + embedding + 2 * width + 1000 * (width + 1)


def _multiply_adds(width: int, depth: int, branches: int, patch: int, scales: bool) -> int:
    """Those of the products of matrices for an image of 224 pixels; attention's two products are of all pairs of tokens."""
    patches = (224 // patch) ** 2
    tokens = patches + 1
    block = 12 * tokens * width**2 + 2 * tokens**2 * width
    return depth * branches * block + patches * 3 * patch**2 * width + 1000 * width


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if SIZES[name][1] < 24 else pytest.mark.slow) for name in SIZES])
def test_sizes_of_deits_names(name: str) -> None:
    with on_meta():
        needs = forward_needs(ModelConfig(name=name), num_classes=1000, resolution=224)
    assert needs.num_parameters == _numbers(*SIZES[name])
    assert needs.multiply_adds == _multiply_adds(*SIZES[name])


def test_layer_scale_begins_as_in_deits_code() -> None:
    model = create_model(ModelConfig(name="deit_tiny_patch16_LS", options={"depth": 1}), num_classes=5, resolution=32)
    assert model.state_dict()["blocks.0.ls1.gamma"].unique().tolist() == pytest.approx([1e-4])


def test_all_names_are_models_of_timm() -> None:
    assert all(timm.is_model(timm_model(name)[0]) for name in NAMES_OF_DEIT)
    assert not any(timm.is_model(name) for name in NAMES_OF_DEIT)
    assert has_fixed_resolution("deit_base_patch16_18x2")
    assert stated("cait_M48").input_size == (3, 448, 448)
    with pytest.raises(UserError, match=r"model\.name=deit_small_patch16_L: .*deit_small_patch16_LS"):
        timm_model("deit_small_patch16_L")


def test_words_for_classes_of_timm() -> None:
    options = with_layers({"embed_layer": "hmlp", "block_fn": "parallel", "depth": 12})
    assert options == {"embed_layer": HMLPStem, "block_fn": ParallelThingsBlock, "depth": 12}
    assert with_layers(options) == options
    with pytest.raises(
        UserError, match=r"^model\.name=deit_tiny_patch16_LS: block_fn=parallel9: want parallel, parallel3, par"
    ):
        create_model(ModelConfig(name="deit_tiny_patch16_LS", options={"block_fn": "parallel9"}), num_classes=5, resolution=32)


@pytest.mark.parametrize(("word", "branches"), [("parallel", 2), ("parallel3", 3), ("parallel4", 4)])
def test_branches_of_parallel_blocks(word: str, branches: int) -> None:
    """As many attentions and MLPs as in a sequence, side by side."""
    options = {"depth": 12 // branches, "block_fn": word}
    with on_meta():
        model = create_model(ModelConfig(name="deit_tiny_patch16_LS", options=options), num_classes=1000, resolution=224)
    assert num_parameters(model) == _numbers(192, 12 // branches, branches, 16, True)
    assert [len(block.attns) for block in model.blocks] == [branches] * (12 // branches)  # type: ignore[union-attr]


def test_constant_drop_path_of_parallel_blocks() -> None:
    options = {"depth": 2, "block_fn": "parallel"}
    config = ModelConfig(name="deit_tiny_patch16_LS", options=options, drop_path=0.3, drop_path_rates="constant")
    model = create_model(config, num_classes=5, resolution=32)
    assert [module.drop_prob for module in model.modules() if isinstance(module, DropPath)] == [0.3] * 8
