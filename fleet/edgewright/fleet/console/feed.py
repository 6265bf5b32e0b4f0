"""The live page: sections are rendered at most once a second for all viewers, and sent only when they changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import jinja2
import msgspec

from ..service import Fleet
from ..store.order_pages import Wanted
from .order_table import ON_A_PAGE, order_table
from .readings import SHOWN_ROLLOUTS, read
from .view import Page, build_page

SECTIONS = ("tiles", "rollouts", "alerts", "drift", "experiments", "devices", "releases", "audit")
REFRESH_S = 1.0

Sections = dict[str, str]


class Feed:
    """Renders the page's sections; thread-safe."""

    def __init__(
        self, fleet: Fleet, *, broker_connected: Callable[[], bool], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fleet = fleet
        self._broker_connected = broker_connected
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._rendered_s = float("-inf")
        self._sections: Sections = {}
        self._tenant = ""
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,  # names of devices, models and tensors come from outside
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def sections(self) -> Sections:
        """Return the HTML of every section, not older than a second."""
        with self._lock:
            if self._monotonic() - self._rendered_s >= REFRESH_S:
                page = build_page(read(self._fleet, broker_connected=self._broker_connected()))
                self._sections = {name: self._render(f"_{name}.html", page) for name in SECTIONS}
                self._tenant = page.tenant
                self._rendered_s = self._monotonic()
            return self._sections

    def page(self) -> str:
        """Return the whole page."""
        sections = self.sections()
        return self._templates.get_template("page.html").render(sections=sections, tenant=self._tenant)

    def orders(self, rollout: str, of: Wanted, *, after: int) -> str:
        """Return a page of a rollout's devices: the first one with its filters, a later one as rows only.

        Raises:
            NotFoundError: there is no such rollout. Without a name, that of the newest is taken.
        """
        shown = self._fleet.rollouts()[:SHOWN_ROLLOUTS]
        name = rollout or next((one.id for one in shown), None)
        table = None
        if name is not None:
            view = self._fleet.rollout_page(name, limit=ON_A_PAGE, after=after, of=of)
            offered = shown if any(one.id == name for one in shown) else [*shown, view.rollout]
            table = order_table(view, of, offered)
        template = "_orders.html" if after < 0 else "_order_rows.html"
        return self._templates.get_template(template).render(table=table)

    def _render(self, template: str, page: Page) -> str:
        return self._templates.get_template(template).render(
            {name: getattr(page, name) for name in msgspec.structs.asdict(page)}
        )


def changes(before: Sections, after: Sections) -> str:
    """Return server-sent events for the sections that differ."""
    return "".join(event(name, html) for name, html in after.items() if before.get(name) != html)


def event(name: str, html: str) -> str:
    """Return one server-sent event; a line break inside the data starts a new data line."""
    return f"event: {name}\n" + "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
