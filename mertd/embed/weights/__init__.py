"""MERT's weights: read from a file, downloaded, or made from a seed; always checked, always the same tensors."""
