"""Where configuration and weights are by default, and the model that settings name."""

from __future__ import annotations

from pathlib import Path

from mertd.config.schema import Settings
from mertd.embed.model_settings import ModelSettings
from mertd.errors import WeightsError
from mertd.user_folders import config_folder, data_folder


def default_config() -> Path:
    """Return the path of the file that `mertd run` reads if it exists and no other is named. Raises `HomeUnknownError`."""
    return config_folder() / "mertd.toml"


def default_weights() -> Path:
    """Return where trained weights are kept: in the user's data directory. Raises `HomeUnknownError`."""
    return data_folder() / "MERT-v1-95M.safetensors"


def weights_spec(settings: Settings) -> str:
    """Return the weights to load. Raises `WeightsError` if none are named and the default file does not exist."""
    if settings.weights is not None:
        return settings.weights
    if (home := default_weights()).is_file():
        return str(home)
    advice = "run `mertd model pull`, name a file with --weights PATH, or try --weights random:0 (untrained)"
    raise WeightsError(f"no weights: {home} does not exist; {advice}")


def model_settings(settings: Settings) -> ModelSettings:
    """Return which model to load, and how. Raises `WeightsError` as `weights_spec` does."""
    return ModelSettings(
        weights_spec(settings),
        settings.layers,
        settings.backend,
        settings.window_samples,
        settings.precision,
        settings.threads,
        settings.check,
    )
