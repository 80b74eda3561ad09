"""Starting and stopping the service: model, gallery, cameras and page in one process."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from reid_mtda.camera_means import read_cameras
from reid_mtda.camera_settings import MOTION
from reid_mtda.errors import ConfigError, ReidError, StorageError
from reid_mtda.files import lock_folder, remove_part_files
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.site_means import SiteMeans
from reid_mtda.live.surroundings import Surroundings
from reid_mtda.live.system import LiveSystem
from reid_mtda.schema import load_yaml
from reid_mtda.service.app import create_app
from reid_mtda.service.app_state import AppState, make_app_state, note_head
from reid_mtda.service.audit_chain import head_text
from reid_mtda.service.certificate import check_pair, self_made_certificate
from reid_mtda.service.connections import Connections, Listener, Server
from reid_mtda.service.serving_record import ServingRecord, load_serving
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.service.token_issue import issue_token
from reid_mtda.site import STREET, Site, is_embedded, load_site
from reid_mtda.types import Detect
from reid_mtda.vision.camera_detector import load_camera_detector
from reid_mtda.zoo.folder import resolve_model

log = logging.getLogger(__name__)

STREET_SETTINGS = STREET.with_name("street_settings.yaml")
"""Settings of the embedded street, the same as ``configs/live/street.yaml`` of the repository."""

_DRAIN_S = 3
_STOP_S = 6.0


@dataclass(frozen=True)
class ServeOptions:
    """What a start may ask for.

    Args:
        host: address to serve on.
        port: port to serve on; 0 takes a free one.
        config: ``ServiceSettings`` as YAML, e.g. ``configs/live/street.yaml``.
        state: folder of tokens, audit and reviews; without it, beside the gallery: ``GALLERY-service``.
        certificate: PEM file for TLS, with ``key``.
        key: its private key.
        tls: serve over TLS with a certificate made here when none is given.
        device: where the model runs, in place of the settings' own.
        holdout: labelled pictures for the gate, in place of the settings' own.
        accept_retention: the clock is right, and sightings that are past their retention at this start may go.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    config: Path | None = None
    state: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    tls: bool = False
    device: str | None = None
    holdout: str | None = None
    accept_retention: bool = False


def serve(
    site: Path,
    model: Path,
    gallery: Path,
    options: ServeOptions,
    *,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve a site until SIGTERM or Ctrl-C; everything acknowledged is then on disk.

    Args:
        site: folder of camera files; ``street`` is the embedded one.
        model: exported model folder, or the name of a ready-made network, e.g. ``retail-0287``.
        gallery: gallery folder; made when missing.
        options: where it listens, and what the command line says besides.
        tell: shown to the person who started it, e.g. ``print``; the first-time token passes here and nowhere else.

    Raises:
        ReidError: the site, model, gallery, settings or certificate cannot be used, or the port is taken.
    """
    config, certificate, key = options.config, options.certificate, options.key
    if config is None and is_embedded(site):
        config = STREET_SETTINGS  # its recordings are short, and are to be seen again
    settings = load_yaml(config, ServiceSettings) if config is not None else ServiceSettings()
    told = {"device": options.device, "holdout": options.holdout}
    settings = settings.model_copy(update={name: value for name, value in told.items() if value is not None})
    model = resolve_model(model)
    state = options.state or gallery.with_name(f"{gallery.name}-service")
    if (certificate is None) != (key is None):
        raise ConfigError("TLS: got only one of certificate and key, expected both")
    if certificate is not None and key is not None:
        check_pair(certificate, key)
    if options.host not in ("127.0.0.1", "::1", "localhost") and not options.tls and certificate is None:
        log.warning("serving on %s without TLS: tokens can be read on the network; use --tls", options.host)
    cameras = load_site(site, may_be_empty=True)  # the first is added from the page
    started = running_service(cameras, model, gallery, state, settings, accept_retention=options.accept_retention)
    with _listening(options.host, options.port) as listener, started as parts:
        if certificate is None and options.tls:
            certificate, key = self_made_certificate(state, (options.host, *settings.page_hosts))
        secure = certificate is not None
        app = create_app(parts, host=options.host, secure=secure)
        address = f"{'https' if secure else 'http'}://{_shown(options.host)}:{listener.getsockname()[1]}/"
        tell(f"reid-mtda serves {len(parts.system.pool.states())} cameras at {address}")
        if token := first_token(parts):
            tell(f"sign in with this admin token; it is shown once, and valid {settings.first_token_days:g} days:")
            tell(f"  {token}")
        tell(f"audit head {head_text(parts.audit.head)}; note it elsewhere, 'reid-mtda audit verify --head' takes it")
        for doubt in parts.audit.doubts():
            tell(f"the audit is in doubt: {doubt}")
        for subject in ("clock", "old sightings"):
            if waits := parts.system.alerts.of(subject):
                tell(waits)
        tell("stop with Ctrl-C")
        server = Server(
            uvicorn.Config(
                app,
                log_config=None,  # its own shuts every handler of the process, some of which close their stream
                log_level="warning",
                access_log=False,
                server_header=False,
                # Whoever may name their own address is never throttled: proxies named in the settings alone.
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                timeout_graceful_shutdown=_DRAIN_S,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            ),
            Connections(
                most=settings.max_connections,
                most_by_address=settings.max_connections_by_address,
                exempt=settings.trusted_proxies,
            ),
        )
        _tell_parts_of_the_end(server, parts)
        with _signals_end_the_server_alone():
            server.run(sockets=[listener])


@contextlib.contextmanager
def running_service(
    site: Site,
    model: Path,
    gallery: Path,
    state: Path,
    settings: ServiceSettings | None = None,
    *,
    accept_retention: bool = False,
) -> Iterator[AppState]:
    """A live system with its service, running inside the block.

    Args:
        site: the cameras.
        model: exported model folder.
        gallery: gallery folder; made when missing.
        state: folder of the service's files; made when missing.
        settings: of the service.
        accept_retention: as in ``serve``.

    Raises:
        ReidError: model, gallery or state cannot be used.
    """
    settings = settings or ServiceSettings()
    with contextlib.suppress(OSError):  # what is wrong with it, the lock says
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock_folder(state)
    remove_part_files(state)  # of a kill; not deeper: jobs that make candidates may be at work in theirs
    serving = load_serving(state, model, gallery, settings.device)
    means = SiteMeans(state, settings.centred)
    opened = Gallery.open(serving.now.gallery, serving.model)
    try:
        opened.recentre(means.of(serving.model, {*site.cameras, *opened.cameras()}))
        _lock_galleries(gallery, serving)
    except BaseException:
        opened.close()
        raise
    system = LiveSystem(
        site,
        serving.model,
        opened,
        settings.live,
        adapted=read_cameras(serving.now.model, serving.model.manifest),
        around=Surroundings(crops=state / "crops", references=state),
    )
    try:
        service = make_app_state(system, state, settings, serving=serving, detect=upload_detector(site))
    except BaseException:
        opened.close()
        raise
    try:
        service.models.restore(serving)
        service.cameras.restore()
        service.audit.add(
            "service", "started", model_id=system.model.manifest.model_id, cameras=sorted(system.pool.states())
        )
        service.last_head = service.audit.head
        log.info("started; audit head %s", head_text(service.last_head))
        note_head(service, at_once=True)
        system.expire_sightings(accept=accept_retention)  # what waits for a yes is told from the start
        system.start()
        if service.notifier is not None:
            service.notifier.start()
        yield service
    finally:
        service.closing.set()
        system.stop(_STOP_S)
        with contextlib.suppress(ReidError):
            service.audit.add("service", "stopped")
        with contextlib.suppress(ReidError):
            service.last_head = service.audit.head
        # A warning, so that it is seen: whoever notes the last head elsewhere sees an end that was cut off since.
        log.warning("stopped; audit head %s", head_text(service.last_head))
        with contextlib.suppress(ReidError):
            note_head(service, at_once=True)
        service.close()


def _lock_galleries(gallery: Path, serving: ServingRecord) -> None:
    """One service to a gallery, whatever its state folder: another one's erasures would miss what hangs on sightings.

    Other programs may read it, and 'index' may add to it.
    """
    places = {gallery, serving.now.gallery, *((serving.before.gallery,) if serving.before else ())}
    for place in sorted(place.resolve() for place in places):
        if place.is_dir():
            advice = "another service serves this gallery; stop it, or serve another gallery"
            lock_folder(place, name="service.lock", advice=advice)


def upload_detector(site: Site) -> Detect | None:
    """A detector for uploaded pictures: the site's first that works on single pictures, else none."""
    for camera in site.cameras.values():
        if camera.detector == MOTION:
            continue
        with contextlib.suppress(ReidError):
            name, detect = load_camera_detector(site, camera, threads=1)
            if name != MOTION:
                return detect
    return None


def first_token(service: AppState) -> str | None:
    """A token for the first admin, when there is none; None otherwise."""
    if service.auth.has_admin:
        return None
    days = service.settings.first_token_days
    return issue_token(service.auth, service.audit, "admin", "admin", by="service", days=days)[0]


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[Listener]:
    """The port, taken before anything costly starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with Listener(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)  # whoever reads the address may connect at once, and waits for the first answer
        except OSError as error:
            raise StorageError(
                f"{host}:{port}: cannot be served on ({error.strerror or error}); choose another port, or an address "
                "of this machine"
            ) from None
        except OverflowError:
            raise ConfigError(f"port: got {port}, expected 0 to 65535") from None
        yield listener


def _tell_parts_of_the_end(server: uvicorn.Server, service: AppState) -> None:
    """Event streams and long jobs end when the server is told to stop, not when its patience is over."""
    handle = server.handle_exit

    def handle_exit(sig: int, frame: object) -> None:
        service.closing.set()
        service.system.announce_stop()
        handle(sig, frame)  # type: ignore[arg-type]

    server.handle_exit = handle_exit  # type: ignore[method-assign]


@contextlib.contextmanager
def _signals_end_the_server_alone() -> Iterator[None]:
    """Uvicorn raises the signal that ended it once more, which would end the process before its files are closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
