"""Ctrl-C between two steps, not within one."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any


class Interrupts:
    """Handler of SIGINT that holds the first one back until `check`; a second one acts at once.

    Only in the main thread, and where nobody else handles SIGINT; elsewhere it does nothing.
    """

    def __init__(self, *, hold: bool):
        """Take whether to hold anything back at all."""
        self._hold = hold
        self._pending = False
        self._installed = False

    def __enter__(self):
        is_main = threading.current_thread() is threading.main_thread()
        if self._hold and is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(self, *errors: Any):
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        # A signal that was held back must not get lost, nor hide the error that ended the loop.
        if not errors[0]:
            self.check()

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was a SIGINT."""
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _handle(self, *_: Any):
        if self._pending:
            raise KeyboardInterrupt
        self._pending = True
        # Not `print`: a handler may run in the middle of another write to the same buffer.
        os.write(2, b"\ninterrupted: this step is finished and kept; once more to stop at once\n")
