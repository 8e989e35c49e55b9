"""The capture process: reads one audio source and writes 24 kHz mono samples into the ring.

It also reports when each sample was captured and which samples are missing.
"""
