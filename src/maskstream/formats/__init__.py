"""Result formats: the only place that knows palettes, PNG encodings and JSON layouts."""

from .palette import colour_of, davis_palette
from .png import read_label_png, write_label_png

__all__ = ["colour_of", "davis_palette", "read_label_png", "write_label_png"]
