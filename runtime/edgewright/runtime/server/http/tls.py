"""TLS of a listener. Imported only where one has it: OpenSSL costs 3 MB (see `lean_imports`)."""

from __future__ import annotations

import ssl

from edgewright.targets.faults import UserFault

from ...serving import TlsSettings


class TlsRefused(UserFault):
    """The certificate, its key or the clients' authority cannot be used."""


def server_context(settings: TlsSettings, protocol: str) -> ssl.SSLContext:
    """Return what a listener needs to speak TLS 1.2 or later; with `client_ca` only to clients that it has signed.

    Args:
        settings: the files.
        protocol: what is spoken then, by its name in ALPN: `http/1.1` or `h2`.

    Raises:
        TlsRefused: a file is missing, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Each renegotiation is a handshake that a client gets for a few bytes, and TLS 1.3 has none.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([protocol])
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(filter(None, (settings.certificate, settings.key, settings.client_ca)))
        raise TlsRefused(f"TLS cannot be set up with {files}: {error}") from error
    return context
