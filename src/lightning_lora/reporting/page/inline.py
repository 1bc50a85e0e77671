"""Figures as parts of a page: SVG whose ids are its own and whose colours are the page's."""

import re
from xml.etree import ElementTree

from matplotlib.figure import Figure

from lightning_lora.reporting.plots import THEME, rendered

_COLOUR = re.compile("|".join(THEME))
_REFERENCE = re.compile(r"(?<=url\(#)|(?<=^#)")


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `svg` element of an HTML page.

    Args:
        figure: What is drawn.
        name: Begins every id in it; unique in the page.
        description: Read out in place of the picture.
    """
    root = ElementTree.fromstring(rendered(figure, "svg"))
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        attributes = {_local(key): _in_page(key, value, name) for key, value in element.attrib.items()}
        element.tag = _local(element.tag)
        element.attrib.clear()
        element.attrib.update(attributes)
    root.attrib.pop("version")
    root.attrib |= {"role": "img", "aria-label": description}
    return ElementTree.tostring(root, encoding="unicode")


def _in_page(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    value = _REFERENCE.sub(f"{name}-", value)
    return _COLOUR.sub(lambda colour: f"var({THEME[colour[0]]})", value) if key == "style" else value


def _local(tag: str) -> str:
    """A name without its XML namespace, which HTML does not know."""
    return tag.rpartition("}")[2]
