"""What can go wrong that a user can mend. Every message is one line: what is wrong, where, and what to do."""

from __future__ import annotations


class MaskstreamError(Exception):
    """Something a user can mend; the command line prints the message alone, without a traceback."""


class InputError(MaskstreamError, ValueError):
    """A prompt, mask, option or file that does not fit."""


class StalePromptError(InputError):
    """A prompt for a frame whose result has already left the session."""


class VideoError(MaskstreamError):
    """A video that cannot be opened, or holds no frame that can be decoded."""


class OutputError(MaskstreamError):
    """An output folder that belongs to something else, cannot be written, or is full."""


class MaskstreamWarning(UserWarning):
    """Something odd that does not stop the work, such as a video that ends early."""
