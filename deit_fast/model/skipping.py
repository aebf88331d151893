"""Efficient stochastic depth, as in Cosub (arXiv 2212.04884): only samples that keep a residual branch compute it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.layers import DropPath
from timm.models.cait import LayerScaleBlock
from timm.models.convnext import ConvNeXtBlock
from timm.models.mlp_mixer import ResBlock
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.vision_transformer import Block, ParallelThingsBlock
from torch import nn

from deit_fast.config import UserError
from deit_fast.model.patchconvnet import ConvolutionBlock

Branch = Callable[[torch.Tensor], torch.Tensor]


def use_skipping(model: nn.Module) -> None:
    """Makes the blocks of a timm model skip what stochastic depth drops, in place; names and values of the state dict stay.

    timm computes each branch for the whole batch, and multiplies the result by 0 for the samples that drop it, each by chance.
    Here a fixed number of samples keeps a branch, drawn anew for each: see num_kept. Fixed, because then shapes stay the same
    for torch.compile and CUDA graphs, and at least 1, so that every parameter has a gradient on every rank. In evaluation
    mode nothing changes.

    Raises UserError if a block with stochastic depth is of a kind that this does not know.
    """
    known = [module for module in model.modules() if type(module) in _SKIPPING and not _shrinks(module)]
    covered = {id(part) for block in known for part in block.modules()}
    if any(drops(part) and id(part) not in covered for part in model.modules()):
        raise UserError(
            f"model.drop_path_kind=skip: {type(model).__name__} has blocks that cannot be computed for a part of a batch; "
            "those of ViTs, CaiT, ResMLP, PatchConvNet, Swin and ConvNeXt can; want mask"
        )
    for block in known:
        block.__class__ = _SKIPPING[type(block)]


def drops(module: nn.Module) -> bool:
    """Whether a module is stochastic depth; some architectures have their own classes for it."""
    return type(module).__name__.startswith("DropPath") and bool(getattr(module, "drop_prob", 0))


def num_kept(num_samples: int, rate: float) -> int:
    """How many samples of a batch keep a branch: num_samples * (1 - rate), rounded, and at least 1."""
    return max(1, round(num_samples * (1 - rate)))


def draw_kept(num_samples: int, num_kept: int, device: torch.device) -> torch.Tensor:
    """The samples (num_kept,) int64 that keep a branch, all sets being equally likely; from PyTorch's generator."""
    return torch.rand(num_samples, device=device).topk(num_kept, sorted=False).indices


def add_branch(sums: torch.Tensor, inputs: torch.Tensor, branch: Branch, drop_path: nn.Module) -> torch.Tensor:
    """sums + branch(inputs), both (B, ...) of one shape; in training, by the rate of drop_path, only for samples drawn anew.

    Their branch counts B / num_kept times, so that its expectation over the draws is that of all samples: DropPath's
    1 / (1 - rate), but for rounding. branch: gives for each sample a result of the sample's shape that depends on it alone.
    """
    rate = drop_path.drop_prob if isinstance(drop_path, DropPath) and drop_path.training else 0.0
    kept = num_kept(len(inputs), rate)
    if kept == len(inputs):
        return sums + branch(inputs)
    samples = draw_kept(len(inputs), kept, inputs.device)
    results = branch(inputs.index_select(0, samples))
    return sums.index_add(0, samples, results.to(sums.dtype), alpha=len(inputs) / kept)


def _add_branch_of_images(images: torch.Tensor, branch: Branch, drop_path: nn.Module) -> torch.Tensor:
    """images + branch(images), both (B, C, H, W), as add_branch has it, in channels-last memory.

    Samples are chosen and added as (B, H, W, C): PyTorch's index_select and index_add give (B, C, H, W) in plain order."""
    images_BHWC = images.permute(0, 2, 3, 1)
    sums = add_branch(images_BHWC, images_BHWC, lambda part: branch(part.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), drop_path)
    return sums.permute(0, 3, 1, 2)


class SkippingBlock(Block):
    """timm's block of ViTs."""

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None, is_causal: bool = False) -> torch.Tensor:
        assert attn_mask is None and not is_causal, "no model of ours masks attention"
        x = add_branch(x, x, lambda part: self.ls1(self.attn(self.norm1(part))), self.drop_path1)
        return add_branch(x, x, lambda part: self.ls2(self.mlp(self.norm2(part))), self.drop_path2)


class SkippingParallelBlock(ParallelThingsBlock):
    """timm's block of parallel branches: each has its own samples."""

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None, is_causal: bool = False) -> torch.Tensor:
        assert attn_mask is None and not is_causal, "no model of ours masks attention"
        for branches in (self.attns, self.ffns):
            sums = x
            for branch in branches:
                sums = add_branch(sums, x, branch[:-1], branch.drop_path)
            x = sums
        return x


class SkippingCaitBlock(LayerScaleBlock):
    """timm's block of CaiT. Its class attention has no stochastic depth."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = add_branch(x, x, lambda part: self.gamma_1 * self.attn(self.norm1(part)), self.drop_path)
        return add_branch(x, x, lambda part: self.gamma_2 * self.mlp(self.norm2(part)), self.drop_path)


class SkippingResMlpBlock(ResBlock):
    """timm's block of ResMLP."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = add_branch(x, x, self._across_patches, self.drop_path)
        return add_branch(x, x, lambda part: self.ls2 * self.mlp_channels(self.norm2(part)), self.drop_path)

    def _across_patches(self, part: torch.Tensor) -> torch.Tensor:
        return self.ls1 * self.linear_tokens(self.norm1(part).transpose(1, 2)).transpose(1, 2)


class SkippingSwinBlock(SwinTransformerBlock):
    """timm's block of Swin, on (B, H, W, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = add_branch(x, x, lambda part: self._attn(self.norm1(part)), self.drop_path1)
        return add_branch(x, x, lambda part: self.mlp(self.norm2(part)), self.drop_path2)


class SkippingConvNeXtBlock(ConvNeXtBlock):
    """timm's block of ConvNeXt, on (B, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _add_branch_of_images(x, self._branch, self.drop_path)

    def _branch(self, part: torch.Tensor) -> torch.Tensor:
        """timm's whole block, less its shortcut and its stochastic depth."""
        part = self.conv_dw(part)
        if self.use_conv_mlp:
            part = self.mlp(self.norm(part))
        else:
            part = self.mlp(self.norm(part.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return part if self.gamma is None else part.mul(self.gamma.reshape(1, -1, 1, 1))


class SkippingConvolutionBlock(ConvolutionBlock):
    """PatchConvNet's block, on (B, C, H, W). Its pooling has no stochastic depth."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return _add_branch_of_images(features, self.branch, self.drop_path)


_SKIPPING: dict[type[nn.Module], type[nn.Module]] = {
    Block: SkippingBlock,
    ParallelThingsBlock: SkippingParallelBlock,
    LayerScaleBlock: SkippingCaitBlock,
    ResBlock: SkippingResMlpBlock,
    SwinTransformerBlock: SkippingSwinBlock,
    ConvNeXtBlock: SkippingConvNeXtBlock,
    ConvolutionBlock: SkippingConvolutionBlock,
}


def _shrinks(block: nn.Module) -> bool:
    """Whether a block's result has another shape than its input; then it has no plain residual."""
    return not isinstance(getattr(block, "shortcut", nn.Identity()), nn.Identity)
