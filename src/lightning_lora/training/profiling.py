"""Lightning's profilers, so that what they measure is what trains."""

from lightning.pytorch.profilers import Profiler, PyTorchProfiler


def profiler_for(name: str | None) -> Profiler | str | None:
    """What the Trainer takes for a profiler that Lightning knows by name; None for none.

    torch's does without the names of modules: Lightning sets them by hooks, and with a hook on its low-rank term an
    adapted layer is composed of torch's operations, which is not the step that trains otherwise.
    """
    return PyTorchProfiler(record_module_names=False) if name == "pytorch" else name
