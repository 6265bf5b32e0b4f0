"""The tables. Times are seconds since 1970 (UTC); digests are `sha256:…`; blobs are MessagePack unless said otherwise.

Counters are kept as they came, cumulative per key, in `windows`; `totals` are changed in the same transaction by what
is new in a record. That is why a duplicate or a late record can be written again without harm.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

SCHEMA_VERSION = 4
"""1 never left the workshop: it kept no totals. migrations.py brings 2 and 3 to it."""

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", Text, nullable=False))

tokens = Table(
    "tokens",
    metadata,
    Column("digest", String, primary_key=True),  # of the token; the token itself is shown once and never stored
    Column("label", String, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("used_s", Float),
    Column("used_by", String),
    Column("site", String, nullable=False, server_default=""),  # the device takes over what its token says
    Column("time_zone", String, nullable=False, server_default="UTC"),
    Column("labels", Text, nullable=False, server_default="{}"),  # JSON object of strings
)

devices = Table(
    "devices",
    metadata,
    Column("device", String, primary_key=True),
    Column("secret", LargeBinary, nullable=False),  # HMAC needs it as it is; the data directory is 0700
    Column("target", String, nullable=False),
    Column("target_digest", String, nullable=False),
    Column("emulated", Boolean, nullable=False),
    Column("software", String, nullable=False),
    Column("isa", Text, nullable=False),  # JSON list
    Column("enrolled_s", Float, nullable=False),
    Column("last_seen_s", Float),
    Column("boot", String),
    Column("spool", String),
    Column("spool_next_seq", BigInteger),
    Column("spool_backlog", BigInteger),
    Column("server_running", Boolean),
    Column("models", LargeBinary),  # tuple[ModelState, …] as last reported
    Column("models_s", Float),  # when it was
    Column("desired_epoch", BigInteger, nullable=False),  # only ever grows
    Column("epoch_seen", BigInteger, nullable=False),  # what the device said at its last hello
    Column("removed_s", Float),  # the secret is void; the row stays for the history and for the epoch
    Column("site", String, nullable=False, server_default=""),
    Column("time_zone", String, nullable=False, server_default="UTC"),
    Column("labels", Text, nullable=False, server_default="{}"),  # JSON object of strings
    Column("changed", BigInteger, nullable=False, server_default="0"),  # see TRIGGERS
    Index("devices_by_changed", "changed"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("digest", String, primary_key=True),  # of the archive
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("target", String, nullable=False),
    Column("target_digest", String, nullable=False),
    Column("security_epoch", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("manifest", LargeBinary, nullable=False),  # manifest.json, as it stands in the archive
    Column("reference_digest", String, nullable=False),
    Column("reference", LargeBinary, nullable=False),  # reference.cbor, as it stands in the archive
    Column("uploaded_s", Float, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("model", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("created_s", Float, nullable=False),
)

release_bundles = Table(
    "release_bundles",
    metadata,
    Column("model", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("target", String, primary_key=True),
    Column("digest", String, ForeignKey("bundles.digest"), nullable=False),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("rollout", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("state", String, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("row", LargeBinary, nullable=False),  # core.rows.Rollout, whole
    Column("gates", LargeBinary, nullable=False),  # tuple[core.gates.status.GateStatus, …] at the last tick
    Column("memory", LargeBinary, nullable=False, server_default=text("x''")),  # core.observations.GateMemory, or empty
    Index("rollouts_by_state", "state"),
)

assignments = Table(
    "assignments",
    metadata,
    Column("rollout", String, ForeignKey("rollouts.rollout"), primary_key=True),
    Column("device", String, ForeignKey("devices.device"), primary_key=True),
    Column("target", String, nullable=False),
    Column("wave", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("version", String, nullable=False),
    Column("bundle", String, nullable=False),
    Column("previous_version", String),
    Column("previous_bundle", String),
    Column("command", String, nullable=False, unique=True),
    Column("dispatched_s", Float, nullable=False),
    Column("rollback_command", String, unique=True),
    Column("rolled_back_s", Float),
    Column("withdrawn_s", Float),
    Column("arm", String, nullable=False, server_default="treated"),
    Column("block", BigInteger, nullable=False, server_default="-1"),
    Column("site", String, nullable=False, server_default=""),
    Column("drawn_s", Float),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("rollback_version", String),
    Column("rollback_bundle", String),
    Column("changed", BigInteger, nullable=False, server_default="0"),  # see TRIGGERS
    Index("assignments_by_device", "device"),
    Index("assignments_by_changed", "changed"),
)

orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String, nullable=False),
    Column("model", String, nullable=False),
    Column("at_s", Float, nullable=False),
    Index("orders_by_time", "at_s"),
    sqlite_autoincrement=True,  # an id is never used twice: readers go on from the last one that they saw
)

floors = Table(
    "floors",
    metadata,
    Column("model", String, primary_key=True),
    Column("security_epoch", BigInteger, nullable=False),  # only ever raised
    Column("raised_s", Float, nullable=False),
)

desired = Table(
    "desired",
    metadata,
    Column("device", String, ForeignKey("devices.device"), primary_key=True),
    Column("model", String, primary_key=True),
    Column("version", String, nullable=False),
    Column("bundle", String, nullable=False),
    Column("command", String, nullable=False),
    Column("probation_s", Float, nullable=False),
    Column("rollback", Boolean, nullable=False),
    Column("rollout", String),
    Column("set_s", Float, nullable=False),
    Column("settled", Boolean, nullable=False, server_default="0"),  # the device reported on `command`; see TRIGGERS
    Index("desired_unsettled", "device", sqlite_where=text("settled = 0")),
)

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String, nullable=False),
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("bundle", String, nullable=False),
    Column("boot", String, nullable=False),
    Column("incarnation", String, nullable=False),
    Column("window_s", BigInteger, nullable=False),
    Column("reference", String, nullable=False),
    Column("last_start_s", BigInteger, nullable=False),
    Column("folded", LargeBinary, nullable=False),  # core.sums.ranges.Ranges of window_start_s // window_s
    Column("site", String, nullable=False, server_default=""),  # the device's when the series began: sums stay exact
    UniqueConstraint("device", "incarnation", "model", "version", "bundle", "boot", "window_s"),
    Index("series_by_bundle", "bundle", "last_start_s"),
)

windows = Table(
    "windows",
    metadata,
    Column("window_start_s", BigInteger, primary_key=True),  # first, so that new rows stand at the end of the index
    Column("series", Integer, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("counts", LargeBinary, nullable=False),  # core.sums.windows.Totals
    Column("received_s", Float, nullable=False),
)

totals = Table(
    "totals",
    metadata,
    Column("cohort", String, primary_key=True),  # the columns are those of core.sums.slots.SlotKey
    Column("bundle", String, primary_key=True),
    Column("start_s", BigInteger, primary_key=True),
    Column("length_s", BigInteger, primary_key=True),
    Column("shape", String, primary_key=True),
    Column("counts", LargeBinary, nullable=False),  # core.sums.windows.Totals
)

updates = Table(
    "updates",
    metadata,
    Column("device", String, primary_key=True),
    Column("spool", String, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("command", String, nullable=False),
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("bundle", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("boot", String, nullable=False),
    Column("received_s", Float, nullable=False),
    Index("updates_by_command", "command"),
)

gaps = Table(
    "gaps",
    metadata,
    Column("device", String, primary_key=True),
    Column("spool", String, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("at_s", Float, nullable=False),
)

spools = Table(
    "spools",
    metadata,
    Column("device", String, primary_key=True),
    Column("spool", String, primary_key=True),
    Column("mark", BigInteger, nullable=False),  # every record up to here is stored or known to be lost
    Column("ahead", LargeBinary, nullable=False),  # ranges beyond the mark that came early
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at_s", Float, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("detail", LargeBinary, nullable=False),  # canonical JSON
    Column("previous", String, nullable=False),
    Column("digest", String, nullable=False),
    UniqueConstraint("digest"),
    Index("audit_by_subject", "subject"),
)

alert_rules = Table(
    "alert_rules",
    metadata,
    Column("name", String, primary_key=True),
    Column("rule", LargeBinary, nullable=False),  # JSON, core.drift.alert_rules.AlertRule
    Column("secret", LargeBinary, nullable=False),  # signs webhooks: HMAC needs it as it is
    Column("created_s", Float, nullable=False),
    Column("next_s", BigInteger, nullable=False),
)

alert_states = Table(
    "alert_states",
    metadata,
    Column("rule", String, primary_key=True),
    Column("board", String, primary_key=True),  # the columns are those of core.drift.monitor.Group
    Column("site", String, primary_key=True),
    Column("release", String, primary_key=True),
    Column("state", LargeBinary, nullable=False),  # core.drift.monitor.AlertState
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert", String, primary_key=True),
    Column("rule", String, nullable=False),
    Column("model", String, nullable=False),
    Column("metric", String, nullable=False),
    Column("board", String, nullable=False),
    Column("site", String, nullable=False),
    Column("release", String, nullable=False),
    Column("raised_s", Float, nullable=False),
    Column("cleared_s", Float),
    Column("silenced", Boolean, nullable=False),
    Column("value", Float, nullable=False),
    Column("message", Text, nullable=False),
    Index("alerts_by_time", "raised_s"),
)

hook_calls = Table(
    "hook_calls",
    metadata,
    Column("call", String, primary_key=True),
    Column("rule", String, nullable=False),
    Column("alert", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("event", String, nullable=False),
    Column("body", LargeBinary, nullable=False),  # JSON
    Column("attempts", Integer, nullable=False),
    Column("due_s", Float, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("ended_s", Float),
    Column("is_done", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Index("hook_calls_by_due", "due_s", sqlite_where=text("ended_s IS NULL")),
    Index("hook_calls_by_alert", "alert"),
)

experiments = Table(
    "experiments",
    metadata,
    Column("experiment", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("state", String, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("row", LargeBinary, nullable=False),  # JSON, core.experiment.Experiment
    Column("memory", LargeBinary, nullable=False),  # JSON, core.experiment.Memory
)

experiment_units = Table(
    "experiment_units",
    metadata,
    Column("experiment", String, primary_key=True),
    Column("device", String, primary_key=True),
    Column("row", LargeBinary, nullable=False),  # JSON, core.rows.Assignment
)

TRIGGERS = (
    *(
        f"""CREATE TRIGGER {table}_{when.lower()}_changed AFTER {when} ON {table} {condition}BEGIN
        UPDATE {table} SET changed = (SELECT coalesce(max(changed), 0) + 1 FROM {table}) WHERE rowid = NEW.rowid;
        END"""  # noqa: S608  (constants)
        for table in ("devices", "assignments")
        for when, condition in (
            ("INSERT", "WHEN NEW.changed = 0 "),
            ("UPDATE", "WHEN NEW.changed = OLD.changed "),
        )
    ),
    """CREATE TRIGGER updates_settle AFTER INSERT ON updates BEGIN
        UPDATE desired SET settled = 1 WHERE device = NEW.device AND command = NEW.command;
        END""",
)
"""`changed` numbers the changes of a table, so that a reader asks for what is new since it last looked (roster.py).
Nothing is ever deleted from these tables, so the highest number never falls. Who writes many rows gives them the number
itself (changes.py), which spares a second write of each row."""
