"""Temporal propagation: carrying masks from frame to frame.

What needs no weights is imported at once, the network when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .flow import FlowPropagator, FlowState
from .references import FlowFeatures

if TYPE_CHECKING:
    from .advised import AdvisedPropagator
    from .averaged import AveragedPropagator
    from .memory_policy import MemoryPolicy
    from .network import NetworkConfig, PropagationNetwork
    from .network_propagator import NetworkPropagator, NetworkState

_HOME = {
    "AdvisedPropagator": "advised",
    "AveragedPropagator": "averaged",
    "MemoryPolicy": "memory_policy",
    "NetworkConfig": "network",
    "NetworkPropagator": "network_propagator",
    "NetworkState": "network_propagator",
    "PropagationNetwork": "network",
}

__all__ = [
    "AdvisedPropagator",
    "AveragedPropagator",
    "FlowFeatures",
    "FlowPropagator",
    "FlowState",
    "MemoryPolicy",
    "NetworkConfig",
    "NetworkPropagator",
    "NetworkState",
    "PropagationNetwork",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'maskstream.propagation' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
