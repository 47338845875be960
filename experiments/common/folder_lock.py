"""A lock on a folder, held by one process at a time and let go of when it ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from rnn_jax.errors import invalid

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What file systems without locks answer, as some of clusters do."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that exists.

    The lock is the operating system's, on a file in the folder, so that a killed process leaves
    none behind. Where the system or the file system has no such locks, nothing is locked.

    Raises:
      BlockingIOError: another process holds it.
    """
    file = folder / ".lock"
    descriptor = None
    while fcntl is not None and descriptor is None:
        descriptor = _acquired(file)
    try:
        yield
    finally:
        if descriptor is not None:
            # Removed while it is held: who opened it meanwhile sees that and opens it again.
            file.unlink(missing_ok=True)
            os.close(descriptor)


def _acquired(file: Path) -> int | None:
    """Return the open and locked file; None where it was removed before it could be locked."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            raise invalid(
                "out",
                f"{file.parent}, which a run is using" + (f" (process {holder})" if holder else ""),
                "a folder that no other run is using",
                "Wait until it ends, or choose another folder.",
                BlockingIOError,
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        if not _is_still(file, descriptor):
            os.close(descriptor)
            return None
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_still(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False
