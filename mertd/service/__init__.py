"""Run mertd as a service of the user's session: launchd on macOS, systemd --user on Linux, one interface over both."""
