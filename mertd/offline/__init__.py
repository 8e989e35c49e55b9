"""Vectors of recordings and other sources without a daemon: the same capture, windows and model, in one process."""
