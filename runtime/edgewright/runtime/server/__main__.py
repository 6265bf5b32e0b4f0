"""`python -m edgewright.runtime.server`; the agent starts it. See `process` for what it does."""

from __future__ import annotations

from .lean_imports import import_without_openssl

import_without_openssl()

from .entry import main  # noqa: E402 - what it imports must find the above done

if __name__ == "__main__":
    main()
