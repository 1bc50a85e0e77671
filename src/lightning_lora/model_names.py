"""What a model's name means: the embedded encoder, a folder, or an id on the hub. Standard library only."""

from pathlib import Path

EMBEDDED = "tiny"
EMBEDDED_FOLDER = Path(__file__).parent / "tiny_encoder"


def is_path(name: str) -> bool:
    """Whether a name can only be a folder's; an id on the hub is a word, or two with a slash between."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def folder_of(name: str) -> Path:
    """Where the model lies if it is on this machine; nothing need be there."""
    return EMBEDDED_FOLDER if name == EMBEDDED else Path(name).expanduser()


def is_saved_model(folder: Path) -> bool:
    """Whether a folder is one that transformers has saved a model in."""
    return (folder / "config.json").is_file()
