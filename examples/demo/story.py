"""The story that `make demo` tells. Each step says what happens, waits until it has, and shows the evidence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgewright.bundle.archive import read_manifest

from . import digits
from .processes import Stage, StoryError, edgewright, run_json, wait_until
from .traffic import Client, Traffic
from .world import World

MODEL = "digits"
TARGETS = ("host", "raspberry-pi-5")
DEVICES = (("host", False),) * 4 + (("raspberry-pi-5", True),) * 2
"""Six devices; the Raspberry Pis are rehearsal devices: they claim the board and compute with its exact arithmetic."""

ENGINES = {"native": "as machine code of its own", "onnxruntime": "for ONNX Runtime"}

RIGHT_SCALE = "0.0625"
WRONG_SCALE = "0.00390625"
"""1/256 instead of 1/16: the classic mistake of the export script. Everything compiles, every self-test passes."""


@dataclass
class Story:
    """One telling: what it runs on, and what it has found out so far for the closing table."""

    console: Console
    stage: Stage
    folder: Path
    world: World
    findings: list[tuple[str, str, str]] = field(default_factory=list)
    begin_s: float = field(default_factory=time.monotonic)

    @contextmanager
    def step(self, title: str, doing: str) -> Iterator[None]:
        """Announce a step, show that something goes on, and say how long it took."""
        self.console.print(f"\n[bold]{title}[/bold]")
        begin = time.monotonic()
        with self.console.status(doing):
            yield
        self.console.print(f"  [dim]{time.monotonic() - begin:.1f} s[/dim]")

    def say(self, text: str) -> None:
        self.console.print(f"  {escape(text)}")

    def finding(self, what: str, value: str, verdict: str = "ok") -> None:
        self.findings.append((what, value, verdict))

    def tell(self) -> None:
        """Tell the whole story.

        Raises:
            StoryError: something did not go as it must.
        """
        self.train_and_compile()
        self.start_everything()
        traffic = self.start_clients()
        try:
            self.first_rollout()
            self.broker_outage()
            self.drift(traffic)
            self.bad_build(traffic)
        finally:
            traffic.stop()
        self.balance(traffic)
        self.summary()

    def compile(self, version: str, scale: str) -> list[Path]:
        out = self.folder / "bundles" / f"v{version}"
        targets = [argument for target in TARGETS for argument in ("--target", target)]
        run_json(
            edgewright(
                *("compile", "--model", "examples.demo.digits:build", "--weights", str(self.folder / "w.safetensors")),
                *("--data", str(self.folder / "digits.npz"), "--metric", "top1", "--max-drop", "1%"),
                *("--scale", scale, "--name", MODEL, "--release-version", version, "--out", str(out), *targets),
                *("--tune", "0"),  # best guesses are good enough for a net of this size
            )
        )
        return [out / f"{target}.bundle" for target in TARGETS]

    def train_and_compile(self) -> None:
        with self.step("1. Train and compile", "training a small CNN on handwritten digits"):
            self.folder.mkdir(parents=True, exist_ok=True)
            accuracy = digits.train(self.folder / "w.safetensors")
            digits.write_dataset(self.folder / "digits.npz")
            self.say(f"trained: {accuracy:.1%} on the held-out half of scikit-learn's digits")
            bundles = self.compile("1", RIGHT_SCALE)
            for bundle in bundles:
                manifest = read_manifest(bundle)
                self.say(
                    f"compiled {bundle.name}: {bundle.stat().st_size / 1000:.0f} kB, {manifest.precision} "
                    f"{ENGINES[manifest.engine.name]}, {manifest.latency.p50_ms:.2g} ms {manifest.latency.kind}"
                )
        self.finding("top-1 of the trained model", f"{accuracy:.1%}")

    def start_everything(self) -> None:
        with self.step("2. Start broker, fleet and six devices", "enrolling devices with one-time tokens"):
            self.world.broker.start()
            self.world.start_fleet()
            self.say(f"broker: {self.world.broker.kind}; console: {self.world.console_link()}")
            for number, (target, emulated) in enumerate(DEVICES, start=1):
                device = self.world.add_device(f"device-{number}", target, emulated=emulated)
                self.world.start_device(device)
            wait_until(
                lambda: self.world.online() == len(DEVICES),
                timeout_s=120,
                what="all six devices to say hello",
                interval_s=0.5,
            )
            self.say("six devices are online; four are this machine, two rehearse a Raspberry Pi 5")

    def start_clients(self) -> Traffic:
        _, _, pixels, labels = digits.load()
        traffic = Traffic(
            [
                Client(device.port, MODEL, pixels, labels, seed=number)
                for number, device in enumerate(self.world.devices)
            ]
        )
        traffic.start()
        return traffic

    def first_rollout(self) -> None:
        with self.step("3. Roll out 1 → 2 → rest", "installing, trying, activating, watching"):
            self.world.release(*(self.folder / "bundles" / "v1" / f"{target}.bundle" for target in TARGETS))
            rollout = self.world.roll_out(MODEL, "1")
            self.expect(rollout, "completed", timeout_s=120)
            wait_until(lambda: self.serving("1") == len(DEVICES), timeout_s=120, what="every device to serve version 1")
            self.say("all six devices serve digits 1; each passed its golden self-test first")
        self.finding("first rollout, waves of 1, 2 and the rest", "completed")

    def serving(self, version: str) -> int:
        """Return how many devices serve a version, asked over the inference protocol."""
        models = [device.model(MODEL) for device in self.world.devices]
        return sum(model is not None and model.get("versions") == [version] for model in models)

    def expect(self, rollout: str, wanted: str, *, timeout_s: float) -> str:
        """Wait until the rollout ends, narrating its states; return its reason."""
        seen = ""

        def ended() -> bool:
            nonlocal seen
            state, reason = self.world.rollout_state(rollout)
            if reason and f"{state}: {reason}" != seen:
                seen = f"{state}: {reason}"
                self.say(f"rollout {seen}")
            return state in {"completed", "rolled_back", "aborted", "paused"}

        wait_until(ended, timeout_s=timeout_s, what=f"the rollout to be {wanted}", interval_s=1.0)
        state, reason = self.world.rollout_state(rollout)
        if state != wanted:
            raise StoryError(f"rollout {rollout} is {state} ({reason}), expected {wanted}")
        return reason

    def broker_outage(self) -> None:
        with self.step("4. Turn the broker off and on", "devices serve and spool without a network"):
            before = self.world.counted(MODEL)
            self.world.broker.stop(kill=True)
            time.sleep(6)
            self.world.broker.start()
            wait_until(
                lambda: self.world.counted(MODEL) > before + 50,
                timeout_s=120,
                what="the spools to be delivered",
                interval_s=1,
            )
            self.say(
                f"off for 6 s; the devices served on, and the fleet now counts {self.world.counted(MODEL)} requests"
            )

    def drift(self, traffic: Traffic) -> None:
        with self.step("5. The inputs drift", "a dirty lens: half the contrast, everything lighter"):
            _, _, pixels, _ = digits.load()
            traffic.show(digits.fade(pixels))
            wait_until(lambda: self.world.drifting(MODEL), timeout_s=120, what="the drift to be raised", interval_s=1.0)
            accuracy = traffic.accuracy_over(3)
            self.say("raised. `edgewright fleet drift show digits`, calibration over live:")
            self.console.print(self.world.drift_picture(MODEL), markup=False)
            right = sum(accuracy.values()) / len(accuracy)
            self.say(f"the clients know the labels: {right:.0%} right while the lens is dirty")
            traffic.show(pixels)
        self.finding("input drift", "raised, version 1 kept (the data changed, not the build)")

    def bad_build(self, traffic: Traffic) -> None:
        with self.step("6. Ship a bad build", "the export script lost the input scale: 1/256 instead of 1/16"):
            bundles = self.compile("2", WRONG_SCALE)
            self.say("it compiles and its golden test passes: it does exactly what it was built to do")
            self.world.release(*bundles)
            rollout = self.world.roll_out(MODEL, "2")
            worst = len(DEVICES)
            reason = self.expect(rollout, "rolled_back", timeout_s=120)
            reached = self.world.devices_reached(rollout)
            if reached > worst // 2:  # each board stops by itself, in the first wave that has a device of it
                raise StoryError(f"the bad build reached {reached} devices; each board must stop in its first wave")
            wait_until(lambda: self.serving("1") == len(DEVICES), timeout_s=120, what="every device back on version 1")
            shares = traffic.accuracy_over(3)
            self.say(f"every device serves version 1 again; the worst of them is {min(shares.values()):.0%} right")
            self.explain(rollout)
        self.finding(
            "bad build",
            f"each board stopped in its first wave, {reached} of {worst} devices reached, rolled back by itself",
        )
        self.finding("why", reason)

    def explain(self, rollout: str) -> None:
        """Show the decisions that stopped a rollout, and that the audit log alone gives the same numbers again."""
        found = self.world.explain(rollout)
        stops = [step for step in found["steps"] if step["action"] == "board_halted"]
        numbers = [figure for step in found["steps"] for check in step["checks"] for figure in check["figures"]]
        if not stops or not found["agrees"]:
            raise StoryError(f"`edgewright fleet explain {rollout}` does not agree: {found['problems']}")
        self.say(f"`edgewright fleet explain {rollout}` says why:")
        for step in stops:
            self.say(f"  stopped: {step['reason']}")
        self.say(
            f"  {len(numbers)} numbers of {len(found['steps'])} decisions, computed again from "
            f"{found['entries']} audit entries: all the same"
        )

    def balance(self, traffic: Traffic) -> None:
        """Compare what the clients know with what the fleet has counted."""
        with self.step("7. Count", "waiting for the last telemetry"):
            tally = traffic.total()
            counted = self.world.settled_count(MODEL, at_least=tally.acknowledged)
            if not tally.acknowledged <= counted <= tally.attempted:
                raise StoryError(
                    f"acknowledged {tally.acknowledged} ≤ counted {counted} ≤ attempted {tally.attempted} does not hold"
                )
            self.say(f"acknowledged {tally.acknowledged} ≤ counted {counted} ≤ attempted {tally.attempted}")
        self.finding("acknowledged ≤ counted ≤ attempted", f"{tally.acknowledged} ≤ {counted} ≤ {tally.attempted}")

    def summary(self) -> None:
        table = Table(title="Edgewright, the main job", title_justify="left", show_header=False)
        for what, value, verdict in self.findings:
            table.add_row(what, value, f"[green]{verdict}[/green]")
        table.add_row("took", f"{time.monotonic() - self.begin_s:.0f} s", "")
        self.console.print()
        self.console.print(table)
