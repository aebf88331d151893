"""Creates the frozen teacher of a distillation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from deit_fast.config import DistilConfig, ModelConfig, Triple, UserError
from deit_fast.model.attention_kernel import attention_kernel
from deit_fast.model.create import create_model
from deit_fast.model.memory_format import to_channels_last
from deit_fast.model.names import stated
from deit_fast.model.weights import fit_weights, num_classes_of, weights_of
from deit_fast.train.checkpoint import load_any


class Teacher:
    """A frozen model in evaluation mode. Not a module, so that its parameters enter no state dict, optimiser or average.

    `model`: the network. `adapted`: one line for each change made when its weights were loaded. `digest`: of the weights in
    their file, and of how they are used.
    """

    def __init__(
        self,
        model: nn.Module,
        adapted: list[str],
        rescale: tuple[torch.Tensor, torch.Tensor] | None,
        compile_mode: str,
        attention: str,
        digest: str,
    ) -> None:
        self.digest = digest
        self._attention = attention
        self.model = model.requires_grad_(False).eval()
        self.adapted = adapted
        self._rescale = rescale
        self._is_compiled = compile_mode != "off"
        self._forward: Callable[[torch.Tensor], torch.Tensor] = self._logits
        if self._is_compiled:
            self._forward = torch.compile(self._logits, mode=compile_mode)

    @torch.no_grad()  # not inference_mode: the student's loss keeps these logits for its backward pass
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, 3, H, W), on the device and normalised as the student sees them.

        Computed under the caller's autocast, without gradient."""
        if self._rescale is not None:
            scale, shift = self._rescale
            images = torch.addcmul(shift, images.to(scale.dtype), scale)
        logits = self._forward(images)
        # with CUDA graphs the next compiled pass, the student's, may overwrite what this one gave
        return logits.clone() if self._is_compiled else logits

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        with attention_kernel(self._attention):
            logits: torch.Tensor = self.model(images)
        return logits


def create_teacher(
    config: DistilConfig,
    *,
    num_classes: int,
    resolution: int,
    mean: Triple,
    std: Triple,
    device: torch.device,
    channels_last: bool,
    compile_mode: str,
    attention: str = "auto",
    has_other_sides: bool = False,
) -> Teacher:
    """The teacher of a run, with the weights of distil.teacher_weights, on a device.

    mean, std: normalisation of the student's images, in units of 255 grey levels. If the teacher was trained with others (those
    in a checkpoint of deit_fast, else those that timm states for the architecture), images are converted. A teacher with
    position embeddings is built for resolution; has_other_sides: it may see images of other sides too. compile_mode:
    train.compile; off unless distil.teacher_compile. attention: train.attention. The state of the random generator is restored,
    so the student starts with the same weights with and without a teacher.

    Raises UserError if weights are missing or do not fit, e.g. if they are for another number of classes.
    """
    path = config.teacher_weights
    if not path:
        raise UserError("distil.teacher_weights is not set: want the file of the teacher's weights, or distil.kind=off")
    if config.teacher_compile and compile_mode == "off":
        raise UserError("distil.teacher_compile=true: train.compile is off; want a mode there, or distil.teacher_compile=false")
    content = load_any(path)
    if _is_ours(content):
        _check_architecture(config, content["architecture"])
    options = ModelConfig(
        name=config.teacher,
        options=config.teacher_options,
        drop_path=0.0,
        blurpool=_usage(config, content)["blurpool"],
    )
    with torch.random.fork_rng(devices=[]):
        model = create_model(
            options,
            num_classes=num_classes,
            resolution=resolution,
            option="distil.teacher",
            has_other_sides=has_other_sides,
        )
    weights = weights_of(content, "auto", path=path)
    theirs = num_classes_of(model, weights, path=path)
    if theirs != num_classes:
        held = "no classes" if theirs is None else f"{theirs} classes"
        raise UserError(
            f"distil.teacher_weights={path}: a teacher of {held}, the data have {num_classes}; want one of {num_classes}"
        )
    adapted = fit_weights(model, weights, path=path)
    model = model.to(device)
    if channels_last:
        model = to_channels_last(model)
    usage = _usage(config, content)
    rescale = _rescale(mean, std, tuple(usage["mean"]), tuple(usage["std"]), device)
    digest = _digest(weights, usage)
    return Teacher(model, adapted, rescale, compile_mode if config.teacher_compile else "off", attention, digest)


def digest_of_teacher(config: DistilConfig) -> str:
    """The `digest` that a teacher would have, whose network is not needed."""
    content = load_any(config.teacher_weights)
    return _digest(weights_of(content, "auto", path=config.teacher_weights), _usage(config, content))


def _is_ours(content: Mapping[str, Any]) -> bool:
    """Whether a file of weights is a checkpoint of deit_fast."""
    return isinstance(content.get("architecture"), Mapping)


def _usage(config: DistilConfig, content: Mapping[str, Any]) -> dict[str, Any]:
    """What no name and no shape of the weights tells of, and changes what a teacher answers: of its checkpoint, or timm's."""
    if _is_ours(content):
        return {"blurpool": content["architecture"]["blurpool"], **{name: content["view"][name] for name in ("mean", "std")}}
    facts = stated(config.teacher, "distil.teacher")
    return {"blurpool": False, "mean": facts.mean, "std": facts.std}


def _digest(weights: Mapping[str, torch.Tensor], usage: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of tensors with their names, types and shapes, and of how they are used."""
    digest = hashlib.sha256(json.dumps(usage, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_architecture(config: DistilConfig, architecture: Mapping[str, Any]) -> None:
    """Raises UserError if a checkpoint of deit_fast is of another architecture than the configuration's teacher."""
    for option, name in (("teacher", "name"), ("teacher_options", "options")):
        ours = getattr(config, option)
        if architecture[name] != ours:
            raise UserError(
                f"distil.{option}={ours}: distil.teacher_weights={config.teacher_weights} was trained with {architecture[name]}"
            )


def _rescale(
    mean: Triple, std: Triple, own_mean: Triple, own_std: Triple, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """scale and shift (1, 3, 1, 1) with which (x - mean) / std becomes (x - own_mean) / own_std; None if they agree."""
    if (own_mean, own_std) == (mean, std):
        return None
    scale = [theirs / ours for theirs, ours in zip(std, own_std, strict=True)]
    shift = [(theirs - ours) / divisor for theirs, ours, divisor in zip(mean, own_mean, own_std, strict=True)]
    return tuple(torch.tensor(line, device=device).view(1, 3, 1, 1) for line in (scale, shift))  # type: ignore[return-value]
