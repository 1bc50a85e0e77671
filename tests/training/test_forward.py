"""However a batch is padded, the logits are those of the model on the batch padded to its longest row."""

import pytest
import torch
from ragged_texts import adapted
from tiny_models import PAD, TINY, VOCABULARY
from torch import Tensor

from lightning_lora.data.collation import Collator, InGroups
from lightning_lora.lengths import PaddingCost
from lightning_lora.lora import adapter_parameters
from lightning_lora.ragged import runs_ragged
from lightning_lora.training.forward import batch_logits

NEED_PADDING = ["deberta", "deberta-v2", "mpnet", "t5", "t5_gated"]
LENGTHS = [4, 12, 3, 11, 7, 12]


def rows() -> list[dict[str, Tensor]]:
    """Each ends with T5's end of text, at which that reads."""
    return [
        {
            "input_ids": torch.cat([torch.randint(3, VOCABULARY, (length - 1,)), torch.tensor([2])]).int(),
            "labels": torch.tensor(0),
            "idx": torch.tensor(number),
        }
        for number, length in enumerate(LENGTHS)
    ]


def test_those_that_run_without_padding_are_all_others() -> None:
    assert sorted(name for name in TINY if not runs_ragged(TINY[name]())) == NEED_PADDING


@pytest.mark.parametrize("architecture", NEED_PADDING)
def test_padding_among_like_lengths_changes_no_logit_and_no_gradient(architecture: str) -> None:
    model = adapted(architecture)
    padding = Collator({"input_ids": PAD}, left=False, attention_mask=True)
    texts = rows()
    whole, grouped = padding(texts), InGroups(padding, PaddingCost(group=30.0, token=0.0))(texts)
    assert [len(group["input_ids"]) for group in grouped["groups"]] == [3, 1, 2]
    factors = [parameter for _, parameter in adapter_parameters(model)]
    expected, found = batch_logits(model, whole), batch_logits(model, grouped)
    torch.testing.assert_close(found, expected[grouped["idx"]], atol=1e-6, rtol=1e-5)
    weights = torch.randn_like(expected)
    for one, two in zip(
        torch.autograd.grad((found * weights[grouped["idx"]]).sum(), factors),
        torch.autograd.grad((expected * weights).sum(), factors),
        strict=True,
    ):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)
