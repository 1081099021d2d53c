"""From one layout of labelled video to another: which there are, what each has a place for, and what is lost.

A conversion reads the source twice: once to see what is in it, so that whatever the target has no place for is named
before anything is written, and once to write it.
"""

from .content import Content, Feature, survey
from .convert import convert, losses
from .formats import FORMATS, Format

__all__ = ["FORMATS", "Content", "Feature", "Format", "convert", "losses", "survey"]
