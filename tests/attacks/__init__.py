"""Attacks on a running daemon, and on the client library: `PYTHONPATH=tests python tests/attacks/run.py`."""
