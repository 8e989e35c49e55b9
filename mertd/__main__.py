"""`python -m mertd` is `mertd`."""

from mertd.cli import main

if __name__ == "__main__":
    main()
