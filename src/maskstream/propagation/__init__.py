"""Temporal propagation: carrying masks from frame to frame."""

from .flow import FlowPropagator, FlowState
from .references import FlowFeatures

__all__ = ["FlowFeatures", "FlowPropagator", "FlowState"]
