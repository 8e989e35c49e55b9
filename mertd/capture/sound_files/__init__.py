"""Decoding of sound files: what a file claims about its length is compared with the bytes that are on disk.

libsndfile decodes what it decodes whole. FFmpeg's libraries, through PyAV, decode everything else, and what it leaves out.
"""
