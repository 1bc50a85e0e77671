"""Which kind of device a run computes on, and whether there are as many as it asks for.

Lightning says the latter in a traceback, when the model has been loaded.
"""

import torch
from lightning.pytorch.accelerators import Accelerator, CUDAAccelerator, MPSAccelerator, XLAAccelerator

from lightning_lora.settings import shown

# In the order in which Lightning looks for them.
KINDS: dict[str, tuple[type[Accelerator], ...]] = {
    "auto": (XLAAccelerator, MPSAccelerator, CUDAAccelerator),
    "gpu": (MPSAccelerator, CUDAAccelerator),
    "cuda": (CUDAAccelerator,),
    "mps": (MPSAccelerator,),
    "tpu": (XLAAccelerator,),
    "cpu": (),
}
_OF_TORCH: dict[type[Accelerator] | None, str] = {
    XLAAccelerator: "xla",
    MPSAccelerator: "mps",
    CUDAAccelerator: "cuda",
    None: "cpu",
}


def device_of(accelerator: str) -> torch.device:
    """The kind of device that a run computes on, without a number.

    Args:
        accelerator: ``trainer.accelerator``.
    """
    return torch.device(_OF_TORCH[_kind(accelerator)])


def _kind(accelerator: str) -> type[Accelerator] | None:
    """None for the CPU, and where there is none of the kind."""
    return next((kind for kind in KINDS[accelerator] if kind.is_available()), None)


def check_devices(accelerator: str, devices: int | str | list[int]) -> None:
    """Check that this machine has the devices of a run.

    Args:
        accelerator: ``trainer.accelerator``.
        devices: ``trainer.devices``.

    Raises:
        ValueError: it has none of the kind, or not so many; or devices of the CPU are numbered.
    """
    there = _kind(accelerator)
    if there is None and accelerator not in ("auto", "cpu"):
        raise ValueError(
            f"trainer.accelerator={accelerator} is not possible here: torch sees no {accelerator.upper()}; "
            "leave it out or use trainer=cpu"
        )
    if there is None and (isinstance(devices, list) or devices == -1):
        raise ValueError(f"trainer.devices={shown(devices)} is not possible on a CPU: it must be a number of processes")
    last = max(devices) + 1 if isinstance(devices, list) else devices
    if there is not None and isinstance(last, int) and last > (count := there.auto_device_count()):
        raise ValueError(f"trainer.devices={shown(devices)} is not possible here: torch sees {count}, numbered from 0")
