"""Process 1: an audio source in, 24 kHz mono samples in the ring out, with an account of their time and their faults."""
