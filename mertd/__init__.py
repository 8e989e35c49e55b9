"""mertd: listens to a sound card and publishes what the music is like, as MERT-v1-95M embeddings over ZeroMQ."""

__version__ = "0.1.0"
