"""The service's settings, one YAML file under ``configs/live``."""

from __future__ import annotations

import ipaddress

from pydantic import Field, field_validator

from reid_mtda.centring import Centred
from reid_mtda.live.settings import LiveSettings
from reid_mtda.schema import Strict
from reid_mtda.service.notify.settings import NotifySettings


class ServiceSettings(Strict):
    """Everything about the running service that is not a camera."""

    live: LiveSettings = Field(default_factory=LiveSettings)
    device: str = Field(
        default="cpu",
        description="Where the model runs: cpu; for ONNX also cuda, tensorrt or coreml, for OpenVINO gpu or npu; auto: "
        "the first of these that is there. Cameras' detectors have a device of their own.",
    )
    notify: NotifySettings = Field(default_factory=NotifySettings, description="Who is told of events.")
    false_match_rate: float = Field(
        default=0.001, gt=0, lt=0.5, description="Share of comparisons between different people that may match."
    )
    centred: Centred = Field(
        default="auto",
        description="Whether each camera's mean embedding is subtracted before embeddings are compared; auto: where "
        "the model was adapted to a camera of the site, on: refused where its folder says nothing of cameras.",
    )
    calibrate_every_s: float = Field(default=300.0, gt=0, description="Seconds between two calibrations.")
    overlapping: tuple[tuple[str, str], ...] = Field(
        default=(),
        description="Pairs of cameras that see the same ground, besides those whose files state min_s 0; simultaneous "
        "people prove nothing there.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Hosts that cameras added at run time may stream from."
    )
    allowed_schemes: tuple[str, ...] = Field(
        default=("rtsp", "rtsps", "synthetic"), description="Address schemes of cameras added at run time."
    )
    page_hosts: tuple[str, ...] = Field(
        default=(), description="Names under which the page may be asked for, besides the address served on."
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="IP addresses or networks of reverse proxies before the service: whom they name as client is "
        "believed, so that failed sign-ins count by client and not for everybody together.",
    )
    max_upload_mb: float = Field(default=20.0, gt=0, le=200, description="Largest upload in MB.")
    max_listeners: int = Field(default=50, ge=1, description="Open event streams at most.")
    max_connections: int = Field(
        default=400, ge=10, description="Open connections at most; those that wait longest make room for new ones."
    )
    max_connections_by_address: int = Field(
        default=100,
        ge=10,
        description="Of them by one address, trusted proxies left aside; an IPv6 network of 64 bits counts as one.",
    )
    candidates: str | None = Field(
        default=None,
        description="Folder of model folders, or of runs of 'reid-mtda adapt', that may be put in service; "
        "None: 'candidates' in the state folder.",
    )
    holdout: str | None = Field(
        default=None,
        description="Labelled pictures that the gate ranks, too: a folder in Market-1501's layout, or NAME:FOLDER.",
    )
    holdout_tolerance: float = Field(
        default=0.01, ge=0, le=1, description="By how much mAP of a camera may fall on the check set."
    )
    audit_anchor: str | None = Field(
        default=None,
        description="Where the audit's last number and hash are noted at start and stop, and every hour in which "
        "something was done: a file outside of the state folder, syslog, or syslog://HOST[:PORT].",
    )
    first_token_days: float = Field(default=30.0, gt=0, description="Life of the first admin token, in days.")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        """As networks, IPv4 ones also as a socket of both families shows them (``::ffff:127.0.0.1``)."""
        networks: list[str] = []
        for text in proxies:
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError:
                raise ValueError(
                    f"got {text!r}, expected IP addresses or networks, e.g. 127.0.0.1, 10.0.0.0/24"
                ) from None
            networks.append(str(network))
            if network.version == 4:
                networks.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
        return tuple(networks)
