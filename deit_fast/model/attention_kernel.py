"""Chooses the kernel by which PyTorch computes attention, and tries beforehand that a model can use it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from deit_fast.config import UserError

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
_NO_REASONS = ("not used because", "runtime disabled")  # warnings that name a kernel, and those of kernels that nobody wants


def attention_kernel(name: str) -> AbstractContextManager[Any]:
    """Context in which scaled_dot_product_attention uses the kernel of train.attention and no other; auto: PyTorch's choice.

    The backward pass needs no context: its kernel is that of the forward pass. Within a function that is compiled, this
    becomes part of its graph, so that no graph compiled for another kernel is taken for it."""
    return nullcontext() if name == "auto" else sdpa_kernel(BACKENDS[name])


class _Calls(TorchFunctionMode):
    """Counts the calls of scaled_dot_product_attention inside its `with` block in `count`."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is F.scaled_dot_product_attention
        return func(*args, **(kwargs or {}))


def try_attention(name: str, model: Callable[[torch.Tensor], Any], images: torch.Tensor, *, option: str) -> int:
    """Shows a model images (B, 3, H, W) with an attention kernel, under the caller's autocast; backwards too, where gradients
    are enabled. Gives the number of attentions that PyTorch was asked for.

    option: names the model in the error. Raises UserError if the kernel cannot do what the model wants on this device.
    """
    with warnings.catch_warnings(record=True) as caught, _Calls() as calls, attention_kernel(name):
        warnings.simplefilter("always")
        try:
            outputs = model(images)
            if torch.is_grad_enabled():
                sum(output.float().sum() for output in (outputs if isinstance(outputs, tuple) else (outputs,))).backward()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = _reason([str(warning.message) for warning in caught], error)
            raise UserError(f"train.attention={name}: {option} cannot use it here ({reason}); want auto, or another") from error
    return calls.count


def _reason(warned: Iterable[str], error: RuntimeError) -> str:
    """Why PyTorch has no kernel: what it warned of first, else the error's first sentence."""
    reasons = (text for text in warned if not any(phrase in text for phrase in _NO_REASONS))
    text = next(reasons, str(error)).strip().splitlines()[0]
    return text.partition(" (Triggered")[0].partition(". ")[0].rstrip(".")[:200]
