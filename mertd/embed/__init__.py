"""Process 2: windows of audio in, pooled hidden states of MERT out."""
