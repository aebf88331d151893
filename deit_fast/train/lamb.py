"""The LAMB optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

_MAX_GRAD_NORM = 1.0


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al., arXiv 1904.00962) as apex's FusedLAMB computes it, with which DeiT III was trained.

    Each step, over all groups together, the gradients are divided by their norm where that is above 1 (apex's max_grad_norm,
    which DeiT III left at its default); `.grad` itself is left alone. Then, with Adam's bias-corrected moments m and v,
        update = m / (sqrt(v) + eps) + weight_decay * weight
        weight -= lr * |weight| / |update| * update
    with the norms of the whole tensor. The trust ratio |weight| / |update| is 1 where either norm is 0, and in groups without
    weight decay (apex: use_nvlamb=False; timm: always_adapt=False).

    Everything is done for a group's parameters at once, and nothing waits for the device. (A gradient scaler does: it reads
    whether to take the step of an optimiser that is not fused.) Weights, gradients and moments are float32. Apex's and timm's
    own default of eps is 1e-6; DeiT's code hands its 1e-8 to every optimiser (--opt-eps).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        """params: parameters, or groups of them; the rest: defaults for groups that do not say otherwise."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "step": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step from the gradients as they are; the closure, where there is one, computes them and the loss anew."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with_gradient = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        gradients = [p.grad for parameters in with_gradient for p in parameters]
        if not gradients:
            return loss
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        divisor = (norm / _MAX_GRAD_NORM).clamp(min=1.0)
        for group, parameters in zip(self.param_groups, with_gradient, strict=True):
            group["step"] += 1
            if parameters:
                self._step_group(group, parameters, divisor)
        return loss

    def _step_group(self, group: dict[str, Any], parameters: list[torch.Tensor], divisor: torch.Tensor) -> None:
        for parameter in parameters:
            if parameter not in self.state:
                self.state[parameter] = {
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        means = [self.state[parameter]["exp_avg"] for parameter in parameters]
        squares = [self.state[parameter]["exp_avg_sq"] for parameter in parameters]
        gradients = torch._foreach_div([p.grad for p in parameters if p.grad is not None], divisor)
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        del gradients  # their memory serves for what follows
        updates = _updates(means, squares, group)
        if group["weight_decay"] == 0:
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])
            return
        torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
        rates = -group["lr"] * _trust_ratios(parameters, updates)
        torch._foreach_addcmul_(parameters, updates, list(rates.unbind()))


def _updates(means: list[torch.Tensor], squares: list[torch.Tensor], group: dict[str, Any]) -> list[torch.Tensor]:
    """(mean / c1) / (sqrt(square / c2) + eps), with c = 1 - beta ** step: both corrections are taken into the divisor."""
    beta1, beta2 = group["betas"]
    correction1 = 1 - beta1 ** group["step"]
    correction2 = 1 - beta2 ** group["step"]
    divisors = torch._foreach_sqrt(squares)
    torch._foreach_mul_(divisors, correction1 / correction2**0.5)
    torch._foreach_add_(divisors, group["eps"] * correction1)
    return list(torch._foreach_div(means, divisors))


def _trust_ratios(weights: list[torch.Tensor], updates: list[torch.Tensor]) -> torch.Tensor:
    """|weight| / |update| of each pair, on the device; 1 where either is 0."""
    weight_norms = torch.stack(torch._foreach_norm(weights))
    update_norms = torch.stack(torch._foreach_norm(updates))
    return torch.where((weight_norms > 0) & (update_norms > 0), weight_norms / update_norms, 1.0)
