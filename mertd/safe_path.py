"""No Python file of the working directory is ever imported: in /tmp, a `json.py` there may be anyone's.

Rules of this file: it imports nothing that Python has not loaded already, not even `__future__`, since it runs first.
"""

import os
import sys


def leave_out_working_directory() -> None:
    """Take the working directory out of `sys.path`, here and in every Python process that is started from here.

    `python -m` and `python -c` put it first, and an empty entry of PYTHONPATH, as in `:/opt/lib`, stands for it.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        here = os.getcwd()
    except OSError:  # it was deleted
        here = ""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if "" in entries and len(entries) > 1:
        named = [entry for entry in entries if entry]
        os.environ["PYTHONPATH"] = os.pathsep.join(named)
        if here not in named:
            sys.path[:] = [entry for entry in sys.path if entry != here]
    elif not sys.flags.safe_path and sys.path[:1] == [here]:
        del sys.path[0]
    sys.path[:] = [entry for entry in sys.path if entry]
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if package not in sys.path:  # mertd itself lies in the working directory; behind all others, that hides none of them
        sys.path.append(package)
