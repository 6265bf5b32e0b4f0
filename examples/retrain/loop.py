"""The loop, step by step: each waits for what it says, and shows the figure that proves it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from examples.demo import digits
from examples.demo.processes import StoryError, edgewright, run_json, wait_until
from examples.demo.traffic import Client, Traffic
from examples.demo.world import World

from .program import ROOT

MODEL = "digits"
DEVICES = 3
COLLECTED = 800
POLICY = {
    "waves": [1, "rest"],
    "horizonSeconds": 60,
    "soakSeconds": 6,
    "offlineAfterSeconds": 30,
    "probationSeconds": 3,
    "control": {"fractions": [0.0]},
    "driftGate": {"minSamples": 2000},
}
"""Three devices are too few to keep one back: the gates compare with devices that wait for their wave. A retrained
model is meant to answer differently; whether as its own reference says is not known after a few hundred samples."""
PROGRAM = """#!{python}
import sys
sys.path.insert(0, {root!r})
from examples.retrain.program import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass
class Loop:
    """One telling."""

    console: Console
    folder: Path
    world: World
    begin_s: float = field(default_factory=time.monotonic)

    def tell(self) -> None:
        """Tell the whole story.

        Raises:
            StoryError: something did not go as it must.
        """
        self.start()
        traffic = self.clients()
        try:
            self.first_release()
            self.add_rule()
            healthy = self.accuracy(traffic)
            drifted = self.drift(traffic)
            version = self.proposal()
            self.take(version)
            self.rest()
            better = self.accuracy(traffic)
        finally:
            traffic.stop()
        self.say(f"right answers: {healthy:.0%} before, {drifted:.0%} with the dirty lens, {better:.0%} after the loop")
        if better < drifted + 0.1:
            raise StoryError("the new release is no better than the old one on what is asked now")
        self.head("The loop is closed")

    def head(self, text: str) -> None:
        self.console.print(f"\n[bold]{escape(text)}[/bold] [dim]at {time.monotonic() - self.begin_s:.0f} s[/dim]")

    def say(self, text: str) -> None:
        self.console.print(f"  {escape(text)}")

    def start(self) -> None:
        self.head("1. A model, a fleet, three devices")
        self.folder.mkdir(parents=True, exist_ok=True)
        accuracy = digits.train(self.weights)
        digits.write_dataset(self.folder / "digits.npz")
        self.say(f"trained: {accuracy:.1%}")
        run_json(
            edgewright(
                *("compile", "--model", "examples.demo.digits:build", "--weights", str(self.weights)),
                *("--data", str(self.folder / "digits.npz"), "--metric", "top1", "--scale", "0.0625", "--tune", "0"),
                *("--name", MODEL, "--release-version", "1", "--out", str(self.folder / "v1"), "--target", "host"),
            )
        )
        self.world.broker.start()
        self.world.start_fleet()
        for number in range(1, DEVICES + 1):
            self.world.start_device(self.world.add_device(f"device-{number}", "host"))
        wait_until(lambda: self.world.online() == DEVICES, timeout_s=240, what="the devices to say hello", interval_s=1)

    @property
    def weights(self) -> Path:
        return self.folder / "w.safetensors"

    @property
    def collected(self) -> Path:
        return self.folder / "collected.npz"

    def clients(self) -> Traffic:
        _, _, pixels, labels = digits.load()
        clients = [Client(one.port, MODEL, pixels, labels, seed=place) for place, one in enumerate(self.world.devices)]
        traffic = Traffic(clients)
        traffic.start()
        return traffic

    def first_release(self) -> None:
        self.head("2. Roll out the first release")
        self.world.release(self.folder / "v1" / "host.bundle")
        policy = self.folder / "policy.json"
        policy.write_text(json.dumps(POLICY), encoding="utf-8")
        made = self.world.ask("rollout", "create", MODEL, "1", "--policy", str(policy))
        self.completed(str(made["id"]))

    def add_rule(self) -> None:
        self.head("3. A rule: when the inputs leave the reference, retrain and propose")
        program = self.world.data / "hooks" / "retrain"
        program.write_text(PROGRAM.format(python=sys.executable, root=str(ROOT)), encoding="utf-8")
        program.chmod(0o700)
        rule = {
            "name": "lens",
            "model": MODEL,
            "metric": "inputs",
            "by": ["board"],
            "windowSeconds": 10,
            "graceSeconds": 5,
            "raiseAfter": 2,
            "clearAfter": 2,
            "onDrift": {
                "argv": ["retrain", str(self.collected), str(self.weights)],
                "timeoutSeconds": 240,
                "policy": POLICY,
            },
        }
        path = self.folder / "rule.json"
        path.write_text(json.dumps(rule, indent=2), encoding="utf-8")
        self.world.ask("alert", "rule", "add", str(path))
        time.sleep(30)
        if self.alerts():
            raise StoryError(f"an alert without drift: {self.alerts()}")
        self.say("half a minute of healthy traffic: no alert")

    def drift(self, traffic: Traffic) -> float:
        self.head("4. The lens gets dirty")
        _, _, pixels, labels = digits.load()
        faded = digits.fade(pixels)
        traffic.show(faded)
        # What an application does that keeps some of what it asks, with the truth that it learns later.
        chosen = np.random.default_rng(3).permutation(len(labels))[:COLLECTED]
        np.savez(self.collected, x=faded[chosen], y=labels[chosen])
        accuracy = self.accuracy(traffic)
        wait_until(lambda: len(self.alerts("--open")) == 1, timeout_s=240, what="the alert", interval_s=1)
        self.say(f"alert: {self.alerts()[0]['alert']['message']}")
        return accuracy

    def proposal(self) -> str:
        self.head("5. The rule's program retrains on what was collected, compiles, and its release is proposed")
        wait_until(self.proposed, timeout_s=400, what="the proposal", interval_s=1)
        self.say(self.alerts()[0]["calls"][0]["reason"])
        rollout = self.newest()
        wait_until(lambda: self.newest()["state"] == "awaiting_approval", timeout_s=240, what="the question")
        self.say(f"rollout {rollout['id']} of {MODEL} {rollout['version']} waits for a person's yes")
        return str(rollout["id"])

    def proposed(self) -> bool:
        (call,) = self.alerts()[0]["calls"]
        if call["ended_s"] is not None and not call["is_done"]:
            raise StoryError(f"the program failed: {call['reason']}")
        return bool(call["is_done"])

    def take(self, rollout: str) -> None:
        self.head("6. A person says yes, and the gates watch it go out")
        self.world.ask("rollout", "approve", rollout, "--reason", "looks right")
        self.completed(rollout)

    def rest(self) -> None:
        self.head("7. The drift is gone: the new release was calibrated on what is asked now")
        wait_until(lambda: self.alerts("--open") == [], timeout_s=240, what="the alert to be cleared", interval_s=1)
        self.say("the alert is over, by itself")

    def completed(self, rollout: str) -> None:
        def ended() -> bool:
            return self.world.rollout_state(rollout)[0] in {"completed", "rolled_back", "aborted", "paused"}

        wait_until(ended, timeout_s=300, what=f"rollout {rollout}", interval_s=1)
        state, reason = self.world.rollout_state(rollout)
        if state != "completed":
            raise StoryError(f"rollout {rollout} is {state} ({reason})")
        self.say(f"rollout {rollout} completed")

    def newest(self) -> dict[str, Any]:
        rollouts: list[dict[str, Any]] = self.world.ask("rollout", "status")["rollouts"]
        return rollouts[0]

    def alerts(self, *options: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.world.ask("alert", "list", *options)["alerts"]
        return found

    def accuracy(self, traffic: Traffic) -> float:
        shares = traffic.accuracy_over(3)
        return sum(shares.values()) / len(shares)
