"""Whether the devices asked for are there; Lightning says it in a traceback, when the model has been loaded."""

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


def check_devices(accelerator: str, devices: int | str | list[int]) -> None:
    """Check that this machine has the devices of a run.

    Args:
        accelerator: ``trainer.accelerator``.
        devices: ``trainer.devices``.

    Raises:
        ValueError: it has none of the kind, or not so many; or devices of the CPU are numbered.
    """
    there = next((kind for kind in KINDS[accelerator] if kind.is_available()), None)
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
