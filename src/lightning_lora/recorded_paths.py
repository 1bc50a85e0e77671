"""Where the files are that a record names by a relative path, when it is read from another working directory."""

from collections.abc import Callable
from pathlib import Path

from lightning_lora.model_names import EMBEDDED, is_saved_model


def found_from(folder: Path, given: str, is_it: Callable[[Path], bool] = Path.exists) -> str:
    """A path as a record names it, as it can be used now.

    A record says what the user said, so that it holds on another machine too. Most runs lie below the directory that
    they were started in; that is why a relative path which leads nowhere from here is followed from ``folder`` and from
    every directory above it.

    Args:
        folder: The run's folder.
        given: A path.
        is_it: Whether what lies at a path is what is looked for.

    Returns:
        The path that leads somewhere; ``given`` where none does.
    """
    path = Path(given)
    if path.is_absolute() or given.startswith("~") or is_it(path):
        return given
    above = folder.resolve()
    found = (start / path for start in (above, *above.parents) if is_it(start / path))
    return str(next(found, given))


def model_from(folder: Path, name: str) -> str:
    """`found_from` for a model: a folder that is merely called like one of the hub, or the embedded one, is not it."""
    return name if name == EMBEDDED else found_from(folder, name, is_saved_model)
