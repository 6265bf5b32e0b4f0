"""sd_notify, as systemd describes it: one datagram to the socket that it named."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Tell systemd, if it started this process and wants to know."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:  # systemd went away; a device that serves does not stop for that
            return
