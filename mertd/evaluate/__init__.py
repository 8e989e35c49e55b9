"""Proof of a model's quality that needs no data set: music made by code, whose labels are known because it was made."""
