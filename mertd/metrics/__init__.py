"""What a daemon says of itself, for Prometheus. Needs the extra `view`; the process of `mertd view` serves it.

`Observed` takes in a daemon's messages, `DaemonCollector` turns them into metrics, `metrics_routes` serves them.
"""
