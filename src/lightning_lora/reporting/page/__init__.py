"""A comparison as one HTML file. Importing this imports jinja2 and matplotlib."""

from lightning_lora.reporting.page.document import page_of as page_of
from lightning_lora.reporting.page.document import write_page as write_page
