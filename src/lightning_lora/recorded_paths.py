"""Where the files are that a record names by a relative path, when it is read from another working directory."""

from pathlib import Path


def found_from(folder: Path, given: str) -> str:
    """A path as a record names it, as it can be used now.

    A record says what the user said, so that it holds on another machine too. Most runs lie below the directory that
    they were started in; that is why a relative path which leads nowhere from here is followed from ``folder`` and from
    every directory above it.

    Args:
        folder: The run's folder.
        given: A path, or another name for what is wanted (a model on the hub).

    Returns:
        The path that leads somewhere; ``given`` where none does.
    """
    path = Path(given)
    if path.is_absolute() or given.startswith("~") or path.exists():
        return given
    above = folder.resolve()
    found = (start / path for start in (above, *above.parents) if (start / path).exists())
    return str(next(found, given))
