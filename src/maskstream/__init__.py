"""Video segmentation: one package, one command, every task."""

from ._version import __version__

__all__ = ["__version__"]
