"""A full disk, for tests."""

import contextlib
import resource


@contextlib.contextmanager
def files_of_at_most(count):
    """Writes beyond so many bytes of a file fail as the system lets them fail; torch's own writer would end the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
