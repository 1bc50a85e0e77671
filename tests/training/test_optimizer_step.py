"""Four steps of a real run against AdamW as it is written in its paper, by hand and in fp64."""

from pathlib import Path

import pytest
import torch
from tiny_models import SETTINGS, build
from tiny_task import HEAD, TinyData, tiny_module, tiny_trainer
from torch import Tensor, nn

from lightning_lora.inject import inject_adapter, train_baseline
from lightning_lora.lora import LoraSpec

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:GPU available"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]

RATE, RATE_OF_B, RATE_OF_HEAD = 0.01, 0.04, 0.005
DECAY, BETAS = 0.1, (0.8, 0.95)
# Far above the rounding of a gradient, which an element whose gradient is zero would be divided by otherwise.
EPS = 1e-3
# Of four steps, two of warm-up: 0/2, 1/2, then (4 - 2)/2, (4 - 3)/2.
FACTORS = (0.0, 0.5, 1.0, 0.5)
CLOSE = 5e-6


def model_of(method: str) -> nn.Module:
    """The same one at every call, without dropout; nothing that trains is zero, as B and biases are at first."""
    torch.manual_seed(0)
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = build("bert", SETTINGS["bert"][1] | without)
    if method == "lora":
        inject_adapter(model, LoraSpec(rank=2), new_parameters=HEAD)
    else:
        train_baseline(model, method, HEAD)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def rate_of(name: str) -> float:
    if name.startswith("classifier."):
        return RATE_OF_HEAD
    return RATE_OF_B if name.endswith(".B") else RATE


def decay_of(name: str) -> float:
    return 0.0 if name.endswith("bias") or "LayerNorm" in name else DECAY


def by_hand(method: str, decays: float = 1.0, coupled: bool = False) -> dict[str, Tensor]:
    """What trains after four steps of algorithm 2 of Loshchilov and Hutter (2019), whose decay is times the rate.

    Args:
        method: What is trained.
        decays: A factor on the decay.
        coupled: Whether the decay is a part of the gradient instead, as in Adam with L2 regularisation.
    """
    model = model_of(method).double()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    m = {name: torch.zeros_like(parameter) for name, parameter in trained.items()}
    v = {name: torch.zeros_like(parameter) for name, parameter in trained.items()}
    for t, (batch, factor) in enumerate(zip(TinyData().train_dataloader(), FACTORS, strict=True), start=1):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        right = logits.log_softmax(1).gather(1, batch["labels"][:, None])
        gradients = torch.autograd.grad(-right.mean(), list(trained.values()))
        with torch.no_grad():
            for (name, theta), gradient in zip(trained.items(), gradients, strict=True):
                decay = decays * decay_of(name) * theta
                g = gradient + decay if coupled else gradient
                m[name] = BETAS[0] * m[name] + (1 - BETAS[0]) * g
                v[name] = BETAS[1] * v[name] + (1 - BETAS[1]) * g**2
                m_hat, v_hat = m[name] / (1 - BETAS[0] ** t), v[name] / (1 - BETAS[1] ** t)
                step = m_hat / (v_hat.sqrt() + EPS)
                theta -= factor * rate_of(name) * (step if coupled else step + decay)
    return {name: parameter.detach() for name, parameter in trained.items()}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_takes_the_steps_of_adamw(method: str, tmp_path: Path) -> None:
    module = tiny_module(
        model_of(method),
        lr=RATE,
        lora_plus_ratio=RATE_OF_B / RATE,
        head_lr=RATE_OF_HEAD,
        weight_decay=DECAY,
        betas=BETAS,
        eps=EPS,
        warmup_ratio=0.5,
    )
    tiny_trainer(tmp_path, limit_val_batches=0).fit(module, datamodule=TinyData())
    found = {name: p.detach().double() for name, p in module.model.named_parameters() if p.requires_grad}

    def furthest(expected: dict[str, Tensor]) -> float:
        assert found.keys() == expected.keys()
        return max(float((found[name] - value).abs().max()) for name, value in expected.items())

    assert furthest(by_hand(method)) < CLOSE
    assert furthest(by_hand(method, decays=0.0)) > 50 * CLOSE, "the control: without decay"
    assert furthest(by_hand(method, coupled=True)) > 50 * CLOSE, "the control: Adam with its decay in the gradient"
