"""The certificate that HTTPS is served with: a given one checked, or one made here."""

from __future__ import annotations

import ipaddress
import logging
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from reid_mtda.errors import ConfigError

log = logging.getLogger(__name__)


_RENEW_S = 30 * 86400.0


def check_pair(certificate: Path, key: Path) -> None:
    """Refuse a certificate and key that TLS cannot use, before anything is made for the service."""
    for path in (certificate, key):
        if not path.is_file():
            raise ConfigError(f"TLS: {path}: no such file; check the path")
    try:
        # A callback in place of a password: a prompt would wait for ever where nobody sits.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"TLS: {certificate} and {key} cannot be used ({getattr(error, 'reason', None) or error}), expected a PEM "
            "certificate and its key without a password"
        ) from None


def self_made_certificate(folder: Path, hosts: Sequence[str]) -> tuple[Path, Path]:
    """A certificate of our own for ``hosts`` and localhost, kept in ``folder``; browsers ask before they trust it.

    It is made anew when it ends within 30 days or was made for other names.

    Raises:
        ConfigError: openssl is missing or fails.
    """
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = {_alternative_name(host) for host in (*hosts, "localhost")}
    if key.is_file() and _names_in(certificate) == names:
        return certificate, key
    new_certificate, new_key = folder / ".certificate.part", folder / ".key.part"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "397", "-subj", "/CN=reid-mtda", "-addext", f"subjectAltName={','.join(sorted(names))}",
        "-keyout", str(new_key), "-out", str(new_certificate),
    ]  # fmt: skip
    try:
        new_key.touch(mode=0o600)
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        certificate.unlink(missing_ok=True)  # killed in between, the next start finds none and makes both
        new_key.replace(key)
        new_certificate.replace(certificate)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"TLS: no certificate could be made ({type(error).__name__}); install openssl, or give certificate and key"
        ) from None
    finally:
        new_key.unlink(missing_ok=True)
        new_certificate.unlink(missing_ok=True)
    log.info("TLS: made a certificate for %s", ", ".join(sorted(names)))
    return certificate, key


def _alternative_name(host: str) -> str:
    """``host`` as a certificate's subjectAltName has it.

    >>> _alternative_name("::1"), _alternative_name("Cam.Example")
    ('IP:::1', 'DNS:cam.example')
    """
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        return f"DNS:{host.lower()}"


def _names_in(certificate: Path) -> set[str]:
    """The names that a self-made certificate holds; none where it ends soon or cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(certificate)
    except OSError:  # ssl.SSLError is one
        return set()
    for held in context.get_ca_certs():
        if ssl.cert_time_to_seconds(str(held["notAfter"])) - time.time() > _RENEW_S:
            return {_alternative_name(str(name[1]).strip()) for name in held.get("subjectAltName", ())}
    return set()
