"""Child processes: how they start and end, and what replaces them.

`child`    in the child: start, and the pipe to the parent
`parent`   in the parent: one run of a child process
`framing`  messages from bytes, without waiting for the rest of one
`runs`     what a run must offer
`health`   the policy: is it doing well, must it be killed, when does the next one start
`managed`  one process over all its runs
"""
