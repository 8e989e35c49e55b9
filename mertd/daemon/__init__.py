"""The supervisor: owns the processes, moves windows, publishes, answers control."""
