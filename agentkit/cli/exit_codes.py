"""What the exit code of a command says."""

from __future__ import annotations

from typing import Final

EXIT_OK: Final = 0
EXIT_FINDING: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells report it
EXIT_CLOSED_OUTPUT: Final = 141  # 128 + SIGPIPE: whoever read the output went away before its end
