"""The embed process and its model: windows of audio in, pooled hidden states of MERT out."""
