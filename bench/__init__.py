"""Measurements: each module answers the question in its first line."""

import os

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled already
