"""Commands as processes that may be interrupted."""

import os
import signal
from subprocess import PIPE, Popen
from typing import Any


def _heed() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(words: list[str], **options: Any) -> Popen[str]:
    """It heeds Ctrl-C: jobs that a script runs in the background ignore it, and so would what they start."""
    heed = _heed if os.name == "posix" else None
    return Popen(words, stdout=PIPE, stderr=PIPE, text=True, preexec_fn=heed, **options)  # noqa: PLW1509
