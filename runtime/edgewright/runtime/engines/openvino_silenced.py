"""OpenVINO without its telemetry: nothing of ours imports it in another way.

`import openvino` gives the machine an identity, writes it to `~/intel/openvino_ga_cid` and reports the import over the
network (openvino/tools/ovc/__init__.py, `telemetry.send_event("ov", "import", …)`), unless the package
`openvino-telemetry`, which its wheel requires, is not there: then it takes a stand-in of its own that does nothing.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402 - the order is the point

__all__ = ["ov"]
