"""Converters and runtimes talk a lot on stderr, most of it from C++."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps what is written to stderr inside, and shows it if something fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except Exception:
            log.seek(0)
            os.write(kept, log.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
