"""The most memory that a run takes: allocated on its GPU, or else resident in its process."""

import platform
import resource
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> None:
    """Let the peak begin with what is taken now, so that a job of a sweep does not report that of an earlier one.

    Off the GPU this takes Linux (proc(5), clear_refs); elsewhere the peak is that of the process from its start.
    """
    if device.type == "cuda":
        torch.cuda.init()  # the allocator of a device that was not used yet knows no peak to reset
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            _CLEAR.write_text("5")


def peak_bytes(device: torch.device) -> int:
    """The peak since `reset_peak`. It never raises: a run that has trained is not lost for a figure of it."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        # Not every kernel that looks like Linux has the line: gVisor has not.
        line = next((line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM")), None)
        if line is not None:
            return 1024 * int(line.split()[1])
    unit = 1 if platform.system() == "Darwin" else 1024  # getrusage counts bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
