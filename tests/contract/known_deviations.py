"""Where known servers differ from the protocol, and why we hold that it is they who differ.

A deviation turns its tests into expected failures, printed with the reason at the end of a run. One that a server has
mended turns the run red, so that this table stays true.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Deviation:
    """Tests that a server is known not to pass."""

    tests: tuple[str, ...]
    """Patterns of `file.py::test[parameter]`; `*` stands for anything, brackets for themselves."""
    reason: str
    always: bool = True
    """False where it depends on time or place whether the test fails."""

    def covers(self, node: str) -> bool:
        file, _, test = node.partition("::")
        name = f"{file.rpartition('/')[2]}::{test}".replace("[", "(").replace("]", ")")
        return any(fnmatchcase(name, test.replace("[", "(").replace("]", ")")) for test in self.tests)


_MLSERVER_1_7 = (
    Deviation(
        ("test_v2_core.py::test_a_ready_model_says_so_in_its_body*",),
        "the body of a model's readiness is empty; the specification has {name, ready}",
    ),
    Deviation(
        ("test_v2_core.py::test_an_id_comes_back[beyond ASCII]",),
        "an id beyond ASCII ends in a 500: it is copied into a header field",
    ),
    Deviation(
        (
            "test_v2_errors.py::test_errors_are_spelled_as_the_protocol_has_it[unknown resource]",
            "test_v2_errors.py::test_errors_are_spelled_as_the_protocol_has_it[wrong verb]",
            "test_v2_errors.py::test_errors_are_spelled_as_the_protocol_has_it[no JSON]",
            "test_v2_errors.py::test_errors_are_spelled_as_the_protocol_has_it[no request]",
        ),
        "what the web framework refuses is told as {detail}, of which tritonclient says only that it cannot be decoded",
    ),
    Deviation(
        (
            "test_v2_errors.py::test_requests_that_do_not_fit[text in numbers]",
            "test_v2_errors.py::test_requests_that_do_not_fit[objects in numbers]",
            "test_v2_errors.py::test_requests_that_do_not_fit[data is a number]",
        ),
        "data that is not of its datatype ends in a 500 with a traceback and paths of the server in its body",
    ),
    Deviation(
        ("test_v2_errors.py::test_requests_that_do_not_fit[null in numbers]",),
        "null among numbers is taken for NaN, and answered with null",
    ),
    Deviation(
        ("test_v2_errors.py::test_requests_that_do_not_fit[dimension is text]",),
        "a dimension given as text is taken for a number; the specification has numbers",
    ),
    Deviation(
        ("test_v2_http.py::test_a_compressed_request[deflate*",),
        "a body with Content-Encoding: deflate is parsed as if it were JSON; RFC 9110 has 415 for it",
    ),
)

DEVIATIONS: dict[str, tuple[Deviation, ...]] = {"mlserver": _MLSERVER_1_7}
"""By the `name` in the server's metadata."""
