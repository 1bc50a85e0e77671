"""What a run trains in, which `trainer.precision=auto` leaves to the method and the device."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from lightning_lora.config import FROZEN_BASE_PRECISIONS, WITH_FROZEN_BASE, RunConfig
from lightning_lora.training.devices import device_of

BF16_FROZEN, FP32 = "bf16-frozen", "32-true"


def precision_of(config: RunConfig) -> str:
    """As Lightning names it, or "bf16-frozen": the frozen base in bf16, where the device has instructions for it.

    Baselines that train parameters of the base have their gradients in fp32.
    """
    asked = config.trainer.precision
    if asked not in FROZEN_BASE_PRECISIONS:
        return asked
    if config.lora.method not in WITH_FROZEN_BASE:
        return FP32
    return BF16_FROZEN if asked == BF16_FROZEN or native_bf16(device_of(config.trainer.accelerator)) else FP32


def going_on_in(config: RunConfig, begun_in: str) -> RunConfig:
    """The configuration of a run that goes on, in what "auto" came to where it began, whatever it would come to here.

    Args:
        config: Of the run.
        begun_in: What its record says; "" where it says nothing.
    """
    if config.trainer.precision != "auto" or begun_in in ("", precision_of(config)):
        return config
    return replace(config, trainer=replace(config.trainer, precision=begun_in))


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices with instructions of its own."""
    if device.type == "cpu":
        # Older versions of torch cannot tell.
        features: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
