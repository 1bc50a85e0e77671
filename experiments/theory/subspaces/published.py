"""Microsoft's adapter of RoBERTa-base on MNLI: which directions its modules share."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_lora.analysis import random_similarity, similarities

# Directions whose likeness is called more than chance lie this many deviations of chance above it.
FAR = 5


def compare(file: Path) -> dict[str, Any]:
    """Microsoft's adapter of RoBERTa-base on MNLI, without its base: φ between its modules, and their spectra."""
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    names = sorted(
        (key.removesuffix(".lora_A") for key in state if key.endswith(".lora_A")),
        key=lambda name: ("query" not in name, int(name.split(".layer.")[1].split(".")[0])),
    )
    factors = [(state[f"{name}.lora_A"].double(), state[f"{name}.lora_B"].double()) for name in names]
    rank, features = factors[0][0].shape
    # All eight directions of A span what all eight of ΔW do.
    grid = np.array([[float(similarities(a, b)[-1, -1]) for b, _ in factors] for a, _ in factors])
    values = torch.stack([torch.linalg.svdvals(B @ A)[:rank] for A, B in factors])
    half = len(names) // 2
    same_block = [grid[block, half + block] for block in range(half)]
    others = grid[~np.eye(len(names), dtype=bool)]
    return {
        "grid": grid.tolist(),
        "chance": random_similarity(rank, rank, features),
        "same_block": same_block,
        "mean": float(others.mean()),
        "far": float(np.mean((others - rank / features) / random_similarity(rank, rank, features)[1] > FAR)),
        "first_share": (values[:, 0].square() / values.square().sum(1)).tolist(),
    }


def told(row: dict[str, Any]) -> str:
    """What `compare` found, in words."""
    return (
        f"Microsoft's adapter of RoBERTa-base on MNLI (24 modules of rank 8): φ of all eight directions is "
        f"{row['mean']:.3f} between two modules on average, {np.mean(row['same_block']):.3f} between query and value "
        f"of a block, {row['chance'][0]:.3f} ± {row['chance'][1]:.3f} by chance; {100 * row['far']:.0f} % of pairs are "
        f"far above chance. The first direction holds {100 * min(row['first_share']):.0f} to "
        f"{100 * max(row['first_share']):.0f} % of a ΔW's energy."
    )
