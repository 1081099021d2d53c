"""TarViS: targets as queries (Athar et al., CVPR 2023)."""

from .network import TarViSConfig, TarViSNetwork, read_tarvis, save_tarvis

__all__ = ["TarViSConfig", "TarViSNetwork", "read_tarvis", "save_tarvis"]
