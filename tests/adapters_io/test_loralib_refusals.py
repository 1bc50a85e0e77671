"""Files that are not what loralib writes, or not for this model: one clear line, and no pickle that runs."""

import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from loralib_peer import HEAD, lora_parameters, plain, save, with_loralib
from peft_peer import Bomb, new_of, randomise, unchanged_after
from tiny_models import TINY
from torch import Tensor

from lightning_lora.adapters_io import load_loralib_file
from lightning_lora.targets import ROLE_SETS

QUERY = "bert.encoder.layer.0.attention.self.query"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file for the tiny BERT that loads as it is."""
    peer = with_loralib(TINY["bert"](), {".query": plain(2, 4)})
    randomise(lora_parameters(peer))
    return save(peer, tmp_path / "adapter.bin", HEAD)


def refused(file: Path, said: str, alpha: Any = 4, **options: Any) -> None:
    model = TINY["bert"]()
    new = options.pop("new_parameters", new_of(model, HEAD))
    unchanged_after(model, said, lambda: load_loralib_file(model, file, alpha=alpha, new_parameters=new, **options))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: {name: v for name, v in t.items() if name != f"{QUERY}.lora_B"},
            "has only one of lora_A and lora_B",
        ),
        (lambda t: {name: v for name, v in t.items() if "lora_" not in name}, "holds no lora_A and lora_B"),
        (lambda t: {name: v for name, v in t.items() if "bias" not in name}, "no values for classifier.bias"),
        (lambda t: {**t, f"{QUERY}.lora_A": t[f"{QUERY}.lora_A"].T}, "16 rows and lora_B 2 columns, so 8 projections"),
        (lambda t: {**t, f"{QUERY}.lora_A": torch.ones(4, 16)}, "so 2 projections are adapted, not 1; say by roles"),
        (lambda t: {**t, f"{QUERY}.lora_A": torch.ones(2, 9)}, r"has shape \[2, 9\]; this model takes \[2, 16\]"),
        (lambda t: {**t, f"{QUERY}.lora_B": torch.ones(16, 0)}, "must be matrices"),
        (lambda t: {**t, f"{QUERY}.lora_B": torch.ones(2)}, "must be matrices"),
        (lambda t: {**t, f"{QUERY}.lora_B": torch.full((16, 2), math.nan)}, "lora_B holds values that are not finite"),
        (lambda t: {**t, "x.lora_A": torch.ones(2, 2), "x.lora_B": torch.ones(2, 2)}, "has no layer named x"),
        (lambda t: {**t, "bert.lora_A": torch.ones(2, 2), "bert.lora_B": torch.ones(2, 2)}, "bert is a BertModel"),
        (lambda t: {**t, f"{QUERY}.weight": torch.ones(16, 16)}, "would replace a weight of the base model"),
        (lambda t: {**t, "../etc/passwd": torch.ones(1)}, "etc/passwd belongs to nothing in this model"),
        (lambda t: {**t, "classifier.weight": torch.ones(3, 16)}, r"takes \[2, 16\] there"),
        (lambda t: list(t.values()), "must hold a mapping from names to tensors"),
        (lambda t: {**t, "epoch": 3}, "must hold a mapping from names to tensors"),
        (lambda t: {**t, "epoch": Bomb()}, "not a file of tensors alone"),
    ],
    ids=range(17),
)
def test_contents_that_do_not_fit_are_refused(change: Callable[[Any], Any], said: str, file: Path) -> None:
    Bomb.target = str(file.parent / "ran")
    torch.save(change(torch.load(file, weights_only=True)), file)
    refused(file, said)
    assert not (file.parent / "ran").exists()


def test_what_is_no_file_of_torch_is_refused_and_never_run(file: Path) -> None:
    whole = file.read_bytes()
    Bomb.target = str(file.parent / "ran")
    for content in (whole[: len(whole) // 2], b"", pickle.dumps(Bomb()), b"\x80"):
        file.write_bytes(content)
        refused(file, "not a file of tensors alone, as torch.save writes it")
    assert not (file.parent / "ran").exists()
    file.unlink()
    refused(file, "there is no such file")


def test_a_damaged_file_gives_its_values_or_one_clear_line(file: Path) -> None:
    """Bytes changed at random, most of them in the pickle, where torch's reader fails in a dozen ways."""
    whole, random = file.read_bytes(), Random(0)
    refusals = []
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(random.choice([1, 2, 5])):
            content[random.randrange(random.choice([1400, len(whole)]))] = random.randrange(256)
        file.write_bytes(content)
        try:
            load_loralib_file(TINY["bert"](), file, alpha=4, new_parameters=("classifier.weight", "classifier.bias"))
        except ValueError as error:
            refusals.append(str(error))
    assert all(line.startswith(f"{file}: ") and "\n" not in line for line in refusals)
    assert 200 < len(refusals) < 400, "the control: some are damaged where it matters, some elsewhere"


@pytest.mark.parametrize(
    "odd",
    [
        torch.ones(16, 16).to_sparse(),
        torch.ones(16, 16, device="meta"),
        torch.ones(16, 16).to(torch.float8_e4m3fn),
        torch.ones(16, 16, dtype=torch.int8),
        torch.ones(1).expand(10**13),
    ],
    ids=["sparse", "meta", "float8", "int8", "of any size"],
)
def test_tensors_whose_values_are_not_all_there_are_refused(odd: Tensor, file: Path) -> None:
    torch.save({**torch.load(file, weights_only=True), "odd": odd}, file)
    refused(file, "tensor odd must be a plain one of type F16, BF16, F32, F64, all of it in the file")


def test_compressed_records_are_refused(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    refused(file, "its records are compressed")


@pytest.mark.parametrize("alpha", [0, -1, math.nan, math.inf])
def test_an_alpha_that_is_none_is_refused(alpha: float, file: Path) -> None:
    refused(file, "alpha=.* must be a positive finite number", alpha=alpha)


def test_roles_must_be_those_of_the_file_and_the_head_must_be_named(file: Path) -> None:
    refused(
        file,
        "the layers with roles query, value are not the file's: .*value is not in the file",
        roles=ROLE_SETS["qv"],
    )
    refused(file, "classifier.weight would replace a weight of the base model", new_parameters=())


def test_parts_that_are_interleaved_are_refused(tmp_path: Path) -> None:
    model = TINY["gpt_neox"]()
    layers = [name for name, _ in model.named_modules() if name.endswith("query_key_value")]
    content: dict[str, Tensor] = {}
    for name in layers:
        content |= {f"{name}.lora_A": torch.ones(4, 16), f"{name}.lora_B": torch.ones(32, 2)}
    torch.save(content, tmp_path / "adapter.bin")
    with pytest.raises(ValueError, match="interleaves its parts head by head"):
        load_loralib_file(model, tmp_path / "adapter.bin", alpha=4, roles=ROLE_SETS["qv"])
