"""Procedurally generated video with exact annotation."""

from .sample import render_sample
from .write import write_sample

__all__ = ["render_sample", "write_sample"]
