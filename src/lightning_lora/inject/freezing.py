"""What trains: adapters and new parameters for LoRA, and the baselines that LoRA is compared with."""

from collections.abc import Callable, Collection

from torch import nn

from lightning_lora.inject.report import InjectionReport, count_parameters
from lightning_lora.spelling import check_known


def train_only(model: nn.Module, names: Collection[str]) -> None:
    """Make exactly the named parameters trainable; an alias of a tied parameter counts as its name.

    Raises:
        ValueError: a name is not a parameter of the model.
    """
    by_name = dict(model.named_parameters(remove_duplicate=False))
    if unknown := sorted(set(names) - set(by_name)):
        raise ValueError(f"{unknown[0]!r} is not a parameter of {type(model).__name__}")
    wanted = {id(by_name[name]) for name in names}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in wanted)


def _nothing(model: nn.Module) -> set[str]:
    return set()


def _biases(model: nn.Module) -> set[str]:
    names = (name for name, _ in model.named_parameters())
    return {name for name in names if name.rpartition(".")[2] == "bias" or name.endswith("_bias")}


def _everything(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters()}


BASELINES: dict[str, Callable[[nn.Module], set[str]]] = {
    # Linear probing: only what the checkpoint does not hold.
    "head": _nothing,
    # BitFit: every bias term (Ben Zaken et al. 2021, arXiv 2106.10199).
    "bitfit": _biases,
    "full": _everything,
}
"""Baselines by name: which parameters train beside the newly initialised ones."""


def train_baseline(model: nn.Module, method: str, new_parameters: Collection[str] = ()) -> InjectionReport:
    """Freeze and unfreeze ``model`` as a baseline does; no layer is replaced.

    Args:
        model: The model, changed in place.
        method: A name in `BASELINES`.
        new_parameters: Names of the newly initialised parameters; they always train.

    Raises:
        ValueError: there is no such baseline; or nothing would train beside or in place of the new parameters, so it
            has no effect. The model is unchanged then.
    """
    check_known("method", method, BASELINES)
    own = BASELINES[method](model)
    if method != "head" and not own - set(new_parameters):
        raise ValueError(f"lora={method} has no effect: {type(model).__name__} has no such parameters")
    if method == "head" and not new_parameters:
        raise ValueError("lora=head has nothing to train: the checkpoint holds every parameter, the head included")
    train_only(model, own | set(new_parameters))
    return InjectionReport(method, (), count_parameters(model, new_parameters))
