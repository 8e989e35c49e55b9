"""The memory: vectors and events of daemons, kept on disk in SQLite files for years.

`store` writes, `memory` reads, `follower` is the client that fills it, `segment` is one file. Files are the truth: an index
that stands beside them can be thrown away and built again. Sound is never stored.
"""
