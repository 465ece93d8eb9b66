"""tidestore.toml: read, checked, and turned into the settings of each process."""

from tidestore.config.model import Config, ConfigError, ReplicaConfig
from tidestore.config.read import read_config

__all__ = ["Config", "ConfigError", "ReplicaConfig", "read_config"]
