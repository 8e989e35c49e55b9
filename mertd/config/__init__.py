"""Settings: their schema, where they are read from, and where the files are by default."""

from mertd.config.paths import default_config, default_weights, model_settings, weights_spec
from mertd.config.reading import RawSettings, collect, load, validate
from mertd.config.relay_settings import RelaySettings
from mertd.config.schema import LIVE_SETTINGS, Settings, as_toml, changes, template

__all__ = [
    "LIVE_SETTINGS",
    "RawSettings",
    "RelaySettings",
    "Settings",
    "as_toml",
    "changes",
    "collect",
    "default_config",
    "default_weights",
    "load",
    "model_settings",
    "template",
    "validate",
    "weights_spec",
]
