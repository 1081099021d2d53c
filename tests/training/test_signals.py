"""The first signal asks, a later one interrupts."""

import os
import signal

import pytest

from maskstream.training import signals
from maskstream.training.signals import StopSignals


def test_nothing_is_asked_until_there_is_a_signal():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        asked = [stop.asked]
        os.kill(os.getpid(), signal.SIGTERM)
        asked.append(stop.asked)
    assert asked == [False, True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_signals_that_a_launcher_passes_on_are_one():
    with StopSignals() as stop:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.asked


def test_who_asks_again_later_is_obeyed_at_once(monkeypatch):
    monkeypatch.setattr(signals, "_PATIENCE", -1.0)
    with StopSignals(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
