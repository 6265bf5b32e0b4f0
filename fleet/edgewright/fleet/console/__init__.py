"""The console: one server-rendered page that shows the whole fleet, live. No Node, no script from anywhere else."""
