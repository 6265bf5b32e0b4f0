"""A small fleet in virtual time whose every misfortune is drawn from one seed (chaos.py)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from edgewright.runtime.telemetry import wire

from ..store.roster import Roster
from .device import Behaviour, Identity, Installed, VirtualDevice
from .drawn_behaviour import draw_behaviour
from .drawn_policy import draw_weather
from .events import Events
from .history import History, look_on
from .life import Life
from .log import look_at_the_log
from .operators import Operators, put_hook
from .servers import Killed, Moment, Servers
from .starting import BOARDS, MODEL, STARTED_S, VERSIONS, bundle_of, enrol, upload
from .weather import DAY_S, FAIR, StormyNetwork

DEVICES, JOINERS = 8, 2
PRESSES = (3, 5, 9, 14)
"""Of buttons, in one life: rollouts that are left alone come to their end, others to none."""
BEATS = 14
"""Of each device, before the fleet is left to settle."""
SETTLING_ROUNDS = 12
KILL, INTERFERE, LOOK_ON = 0.006, 0.2, 0.1
"""Chance of each at one of the moments where it can happen."""

DeviceKind = Callable[..., VirtualDevice]


class World:
    """The fleet, its network, and what is done to both. `live` runs it once."""

    def __init__(self, seed: int, directory: Path, device_kind: DeviceKind, say: Callable[[str], None]) -> None:
        self._seed = seed
        self._say = say
        self._chance = random.Random(f"chaos {seed}")  # noqa: S311  (a simulation is to be repeatable)
        self.events = Events(STARTED_S)
        self._network = StormyNetwork(self.events, weather=FAIR, seed=seed)
        self._network.on_up, self._network.on_down = self._arrived_up, self._arrived_down
        self._servers = Servers(directory, self._network, self.events, chance=random.Random(f"ids {seed}"))  # noqa: S311
        self._inbox: list[tuple[str, bytes]] = []
        self._calm = True
        self._nested = False
        self._kills = self._interferences = self._decisions = 0
        self._beats_left = DEVICES * BEATS
        self._ahead_s: dict[str, float] = {}
        self._connected: set[str] = set()
        self._away: set[str] = set()
        self._failing = {version: self._chance.choice((0.0, 0.0, 0.0, 0.2, 0.7)) for version in VERSIONS[1:]}
        self.devices: dict[str, VirtualDevice] = {}
        self._device_kind = device_kind
        self._names: list[str] = []
        self.history = History(self.devices)
        self._onlooker = Roster()
        self._operators = Operators(self._servers, chance=self._chance, devices=self._names, say=say)
        upload(self._servers.fleet)
        put_hook(directory)
        for number in range(DEVICES):
            self._enrol(number)
        self._watch()

    def close(self) -> None:
        if self._servers.is_up:
            self._servers.kill()

    def live(self) -> Life:
        """Enrolled devices greet, then chaos, then calm, in which everything has to come right."""
        chance = self._chance
        self._network.weather = draw_weather(chance)
        self._calm = False
        for name in self.devices:
            self.events.after(chance.random() * 10, lambda name=name: self._beat(name, BEATS))  # type: ignore[misc]
        for number in range(2):
            self.events.after(5 + 3 * number, lambda number=number: self._reconcile(number))  # type: ignore[misc]
        self.events.after(12, lambda: self._operate(chance.choice(PRESSES)))
        self.events.after(120, self._tidy)
        self.events.after(20, self._watch_drift)
        for number in range(DEVICES, DEVICES + chance.randrange(JOINERS + 1)):
            self.events.after(chance.uniform(30, 250), lambda number=number: self._join(number))  # type: ignore[misc]
        if chance.random() < 0.3:
            self.events.after(chance.uniform(60, 400), self._weeks_pass)
        while self._beats_left and self.events.run_next():
            pass
        self._settle()
        return self._told()

    # What the world does to the server.

    def _watch(self) -> None:
        self._servers.database.at = self._at

    def _at(self, moment: Moment, connection: Connection | None) -> None:
        if not self._calm and self._chance.random() < KILL:
            self._say(f"killed {moment} a commit")
            raise Killed
        if connection is not None:
            self.history.look(connection)
            if self._chance.random() < LOOK_ON:
                look_on(self._onlooker, connection, now_s=self.events.now_s)
        elif moment == "before" and not self._calm and not self._nested and self._chance.random() < INTERFERE:
            self._nested = True
            try:
                self._interferences += 1
                self._interfere()
            finally:
                self._nested = False

    def _interfere(self) -> None:
        if self._chance.random() < 0.8:
            self._chance.choice(self._servers.reconcilers).step(self.events.now_s)
        else:
            self._operators.press()

    def _guarded(self, do: Callable[[], object]) -> None:
        """Do something in the server's process, which may be killed by it."""
        if not self._servers.is_up:
            return
        try:
            do()
        except Killed:
            self._kills += 1
            self._nested = False
            self._inbox.clear()
            self._servers.kill()
            self.events.after(self._chance.uniform(1, 40), self._start)

    def _start(self) -> None:
        self._servers.start()
        self._watch()

    def _reconcile(self, number: int) -> None:
        self._guarded(lambda: self._servers.reconcilers[number].step(self.events.now_s))
        if not self._calm:
            self.events.after(self._chance.uniform(4, 20), lambda: self._reconcile(number))

    def _tidy(self) -> None:
        self._guarded(lambda: self._servers.housekeeper.step(self.events.now_s))
        if not self._calm:
            self.events.after(150, self._tidy)

    def _watch_drift(self) -> None:
        """Judge windows, make one hook's call, have experiments learn; each is a thread of its own in a server."""
        servers, now_s = self._servers, self.events.now_s
        for do in (lambda: servers.monitor.step(now_s), lambda: servers.hooks.step(now_s), servers.experimenting.step):
            self._guarded(do)
        if not self._calm:
            self.events.after(self._chance.uniform(10, 40), self._watch_drift)

    def _join(self, number: int) -> None:
        """A device is enrolled while others are in the middle of things."""
        if not self._servers.is_up:
            self.events.after(20, lambda: self._join(number))
            return
        self._calm, calm = True, self._calm  # nobody is killed in the middle of it: enrolment is not what this tries
        self._enrol(number)
        self._calm = calm
        self._beats_left += BEATS
        self._say(f"cam-{number} joins")
        self._beat(f"cam-{number}", BEATS)

    def _weeks_pass(self) -> None:
        self._say("three weeks pass in which nobody is heard")
        self.events.leap(21 * DAY_S)
        self._connected.clear()

    def _operate(self, left: int) -> None:
        self._guarded(self._operators.press)
        if left and not self._calm:
            self.events.after(self._chance.uniform(4, 40), lambda: self._operate(left - 1))

    # What the devices do.

    def _enrol(self, number: int) -> None:
        board = BOARDS[number % len(BOARDS)]
        name, chance = f"cam-{number}", self._chance
        enrolled = enrol(self._servers.fleet, name, board, site=f"site-{number % 3}")
        identity = Identity(
            tenant=enrolled.tenant,
            device=name,
            secret=enrolled.secret,
            target=board,
            target_digest=bundle_of("", board),
        )
        device = self._device_kind(identity, behaviour_of=lambda bundle: self._behaviour(name, bundle), seed=number)
        device.model = MODEL
        if chance.random() < 0.9:
            device.active = Installed(version=VERSIONS[0], bundle=bundle_of(VERSIONS[0], board))
        self.devices[name] = device
        self._names.append(name)
        self._ahead_s[name] = chance.choice((0.0, 0.0, 0.0, -30.0, 45.0, 3600.0, -40 * DAY_S))

    def _behaviour(self, device: str, bundle: str) -> Behaviour:
        version = next((one for one in VERSIONS for board in BOARDS if bundle_of(one, board) == bundle), "")
        chance = random.Random(f"{self._seed} {device} {bundle}")  # noqa: S311
        return draw_behaviour(chance, failing=self._failing.get(version, 0.0), is_idle=self._calm)

    def _beat(self, name: str, left: int) -> None:
        self._beats_left -= 1
        device, chance = self.devices[name], self._chance
        self._suffer(name, device)
        local_s = max(self.events.now_s + self._ahead_s[name], 0.0)
        if name in self._away:
            sent = []
        elif name not in self._connected:
            sent = device.connect()
            self._connected.add(name)
        else:
            for _ in range(chance.randrange(1, 5)):
                sent = device.step(local_s)
        for message in sent:
            self._network.send(message)
        if left > 1:
            self.events.after(chance.uniform(5, 40), lambda: self._beat(name, left - 1))

    def _suffer(self, name: str, device: VirtualDevice) -> None:
        """Power cuts, clocks that jump, and long absences."""
        draw = self._chance.random()
        if draw < 0.04:
            self._say(f"{name} loses power")
            device.restart()
            self._connected.discard(name)
        elif draw < 0.08:
            self._ahead_s[name] = self._chance.choice((0.0, 0.0, 120.0, -120.0, 9000.0))
            self._say(f"the clock of {name} is now {self._ahead_s[name]:g} s ahead")
        elif draw < 0.12:
            self._away ^= {name}
            self._connected.discard(name)
        elif draw < 0.14:
            self._say("everybody comes back at once")
            self._away.clear()
            self._connected.clear()

    # Messages.

    def _arrived_up(self, message: tuple[str, bytes]) -> None:
        if not self._servers.is_up:
            return
        if not self._inbox:
            self.events.after(self._chance.uniform(0, 5), lambda: self._guarded(self._drain))
        self._inbox.append(message)

    def _drain(self) -> None:
        batch, self._inbox = self._inbox, []
        if batch:
            self._servers.record(batch)

    def _arrived_down(self, message: tuple[str, bytes]) -> None:
        _, name, _, _ = wire.parse_topic(message[0])
        if name not in self._away:
            self.devices[name].receive(message[1], now_s=max(self.events.now_s + self._ahead_s[name], 0.0))

    # The end.

    def _settle(self) -> None:
        self._calm, self._network.weather = True, FAIR
        self._away.clear()
        self._ahead_s = dict.fromkeys(self.devices, 0.0)
        self.events.run_until(self.events.now_s + 60)  # what was sent before arrives, and a killed server is up again
        for number in range(SETTLING_ROUNDS):
            if number < SETTLING_ROUNDS - 4:  # at the end, no new orders
                for reconciler in self._servers.reconcilers:
                    reconciler.step(self.events.now_s)
            for device in self.devices.values():
                greeting = device.connect()
                device.step(self.events.now_s)
                for message in (*greeting, *device.step(self.events.now_s)):
                    self._network.send(message)
            self.events.run_until(self.events.now_s + 10)
        with self._servers.database.read() as connection:
            self.history.look_at_the_end(connection)
        while self._servers.hooks.step(self.events.now_s):
            pass
        self._decisions = look_at_the_log(self._servers)

    def _told(self) -> Life:
        alerts = self._servers.alerting.alerts(limit=1000)
        return Life(
            seed=self._seed,
            events=self.events.run_so_far,
            transactions=self.history.transactions,
            kills=self._kills,
            interferences=self._interferences,
            orders=sum(len(device.applied) for device in self.devices.values()),
            requests=sum(device.requests for device in self.devices.values()),
            alerts=len(alerts),
            hooks=sum(len(one.calls) for one in alerts),
            experiments=len(self._servers.experimenting.every()),
            decisions=self._decisions,
            states=tuple(sorted(rollout.state for rollout in self._servers.fleet.rollouts())),
        )
