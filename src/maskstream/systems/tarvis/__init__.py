"""TarViS: targets as queries (Athar et al., CVPR 2023)."""

from .model import TarViS, load_tarvis
from .network import TarViSConfig, TarViSNetwork, read_tarvis, save_tarvis
from .settings import TarViSSettings

__all__ = ["TarViS", "TarViSConfig", "TarViSNetwork", "TarViSSettings", "load_tarvis", "read_tarvis", "save_tarvis"]
