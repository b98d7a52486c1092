"""What a worker orders from its fork server, and how both count; see `workers.runner.fork_server`."""

import struct

ORDER = struct.Struct("!ci")
"""Kind and pid; the pid only with KILL."""
I32 = struct.Struct("!i")
FORK, KILL = b"f", b"k"
