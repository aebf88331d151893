"""The kernel of attention: which one PyTorch then calls, also in compiled code, and which requests are refused and why."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch._functorch.aot_autograd import aot_module_simplified
from torch.nn import functional as F

from deit_fast.benchmarks.step import Operators
from deit_fast.config import UserError
from deit_fast.model.attention_kernel import attention_kernel, try_attention

FLASH, MATH = "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_safe_softmax"  # that a CPU has
KERNELS = {"auto": FLASH, "flash": FLASH, "math": MATH}


class _Attention(nn.Module):
    def __init__(self, kernel: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.kernel, self.dropout = kernel, dropout
        self.qkv = nn.Linear(8, 24)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        with attention_kernel(self.kernel):
            q, k, v = self.qkv(tokens).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            return F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout)


def _tokens() -> torch.Tensor:
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kernel", KERNELS)
def test_attention_uses_the_kernel_and_no_other(kernel: str) -> None:
    before = _settings()
    with Operators() as operators:
        _Attention(kernel)(_tokens()).sum().backward()
    assert [name for name in (FLASH, MATH) if name in operators.names] == [KERNELS[kernel]]
    assert _settings() == before


def _settings() -> list[bool]:
    cuda = torch.backends.cuda
    return [cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled(), cuda.cudnn_sdp_enabled()]


def test_a_graph_compiled_for_one_kernel_is_not_used_for_another() -> None:
    """All in one process, as `bench step` compares them."""
    calls: list[str] = []
    aot: Any = aot_module_simplified

    def recorded(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        calls.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        return aot(graph, inputs, fw_compiler=recorded, bw_compiler=recorded)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the graphs take their arguments one by one
        for kernel, operator in KERNELS.items():
            calls.clear()
            torch.compile(_Attention(kernel), backend=backend, fullgraph=True)(_tokens()).sum().backward()
            names = {name.removesuffix(".default").replace("aten.", "aten::") for name in calls}
            assert names & {FLASH, MATH} == {operator}


def test_the_number_of_attentions_is_counted() -> None:
    attention = _Attention("auto")
    assert try_attention("flash", nn.Sequential(attention, nn.Flatten(1)), _tokens(), option="model.name=x") == 1
    assert attention.qkv.weight.grad is not None
    with torch.no_grad():
        assert try_attention("math", lambda images: (attention(images), attention(images)), _tokens(), option="x") == 2
    assert try_attention("flash", nn.Linear(8, 8), _tokens(), option="x") == 0


@pytest.mark.parametrize(("kernel", "dropout"), [("cudnn", 0.0), ("efficient", 0.0), ("flash", 0.5)])
def test_a_kernel_that_cannot_run_here_is_refused_in_one_line(kernel: str, dropout: float) -> None:
    with pytest.raises(UserError) as refused:
        try_attention(kernel, _Attention("auto", dropout), _tokens(), option="model.name=x")
    begin, _, reason = str(refused.value).partition("(")
    assert begin == f"train.attention={kernel}: model.name=x cannot use it here "
    assert reason.endswith("); want auto, or another")
    assert ("dropout" in reason) == (dropout > 0)
    assert "\n" not in reason


def test_the_reason_is_what_pytorch_warned_of() -> None:
    """The words of PyTorch on a CUDA device, where it says of each kernel why it was left out."""

    def model(images: torch.Tensor) -> torch.Tensor:
        for text in (
            "Memory efficient kernel not used because: (Triggered internally at sdp_utils.cpp:1002.)",
            "Memory Efficient attention has been runtime disabled. (Triggered internally at sdp_utils.h:576.)",
            "Flash attention kernel not used because: (Triggered internally at sdp_utils.cpp:1004.)",
            "Expected query, key and value to all be of dtype: {Half, BFloat16}. Got Query dtype: float. (Triggered at x.h:1.)",
        ):
            warnings.warn(text, stacklevel=1)
        raise RuntimeError("No available kernel. Aborting execution.")

    wanted = r"x cannot use it here \(Expected query, key and value to all be of dtype: \{Half, BFloat16\}\); want auto"
    with pytest.raises(UserError, match=wanted):
        try_attention("flash", model, _tokens(), option="x")


def test_lack_of_memory_is_no_refusal() -> None:
    def model(images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        try_attention("flash", model, _tokens(), option="x")
