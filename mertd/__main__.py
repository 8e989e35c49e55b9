"""`python -m mertd` is `mertd`."""

if __name__ == "__main__":
    from mertd.safe_path import leave_out_working_directory

    leave_out_working_directory()  # before anything else is imported

    from mertd.cli import main

    main()
