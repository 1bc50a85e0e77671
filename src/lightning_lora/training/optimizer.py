"""AdamW with its parameters in groups: A, B, the new head, the rest; each with and without weight decay."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lightning_lora.lora import adapter_parameters


@dataclass(frozen=True)
class OptimSettings:
    """Settings of the optimizer and its schedule.

    Attributes:
        lr: Peak learning rate, of A and of all that has none of its own.
        weight_decay: Decoupled weight decay on matrices; biases and norm weights have none.
        betas: Decay rates of the two moments.
        eps: AdamW's epsilon.
        warmup_ratio: Share of the steps in which the rate rises.
        schedule: What it does then: a name in `schedule.SCHEDULES`.
        lora_plus_ratio: Learning rate of B over that of A (LoRA+, Hayou et al. 2024, arXiv 2402.12354, section 4).
        head_lr: Learning rate of newly initialised parameters; None for ``lr``.
    """

    lr: float
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    warmup_ratio: float = 0.06
    schedule: str = "linear"
    lora_plus_ratio: float = 1.0
    head_lr: float | None = None


def parameter_groups(
    model: nn.Module, settings: OptimSettings, new_parameters: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Every trainable parameter of ``model``, each in exactly one group.

    A group is a dict as torch's optimizers take it, with a ``name``: "adapter_A", "adapter_B", "head", "other", the
    last two also as "head (no decay)" and "other (no decay)". What has fewer than two dimensions is a bias or a norm's
    weight and is not decayed. Empty groups are left out.

    Args:
        model: The adapted model.
        settings: Learning rates and weight decay.
        new_parameters: Names of the newly initialised parameters, which make up the head.
    """
    factors = {id(parameter): name[-1] for name, parameter in adapter_parameters(model)}
    head = {id(p) for name, p in model.named_parameters(remove_duplicate=False) if name in set(new_parameters)}
    rates = {
        "adapter_A": settings.lr,
        "adapter_B": settings.lr * settings.lora_plus_ratio,
        "head": settings.lr if settings.head_lr is None else settings.head_lr,
        "other": settings.lr,
    }
    groups: dict[str, dict[str, Any]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in factors:
            kind = f"adapter_{factors[id(parameter)]}"
        else:
            kind = "head" if id(parameter) in head else "other"
        decayed = parameter.ndim >= 2
        name = kind if decayed else f"{kind} (no decay)"
        decay = settings.weight_decay if decayed else 0.0
        group = groups.setdefault(name, {"name": name, "params": [], "lr": rates[kind], "weight_decay": decay})
        group["params"].append(parameter)
    return [groups[name] for name in sorted(groups)]


def main_rate(optimizer: Optimizer) -> float:
    """The present rate of what trains at `OptimSettings.lr`; that of the head where nothing else trains."""
    groups = optimizer.param_groups
    return float(next((group for group in groups if not group["name"].startswith("head")), groups[0])["lr"])
