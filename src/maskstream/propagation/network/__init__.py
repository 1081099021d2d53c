"""The learned propagation network: DEVA's, and XMem's from which it comes. Memory is elsewhere."""

from .backbones import BackboneConfig
from .checkpoints import from_authors, from_pretrained, load_checkpoint, save_pretrained
from .network import ImageFeatures, NetworkConfig, PropagationNetwork, aggregate

__all__ = [
    "BackboneConfig",
    "ImageFeatures",
    "NetworkConfig",
    "PropagationNetwork",
    "aggregate",
    "from_authors",
    "from_pretrained",
    "load_checkpoint",
    "save_pretrained",
]
