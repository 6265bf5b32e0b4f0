"""`python -m edgewright.runtime.server`; the agent starts it. See `process` for what it does."""

from __future__ import annotations

import sys

from .lean_imports import import_without_openssl

if (
    '"tls":{' not in sys.argv[-1]
):  # in the settings: a listener that speaks TLS needs OpenSSL, in asyncio and uvloop too
    import_without_openssl()

from .entry import main  # what it imports must find the above done

if __name__ == "__main__":
    main()
