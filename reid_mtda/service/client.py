"""A small client of the API, for scripts and for ``reid-mtda search --server``."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from reid_mtda.errors import ConfigError, ImageError, ReidError, StorageError
from reid_mtda.gallery.filter import EVERYTHING, Filter
from reid_mtda.types import SearchAnswer, SearchHit, Sighting


class ServerError(ReidError):
    """The service refused or could not be reached; ``status`` is HTTP's, 0 when nothing answered."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Asks a service; use it as a context, or ``close`` it.

    Args:
        server: its address, e.g. ``http://127.0.0.1:8080``.
        token: an access token.
        certificate: PEM file to trust, for a service with a certificate of its own.
        timeout_s: seconds one request may take.

    Raises:
        ServerError: an address, token or certificate that cannot be one.
    """

    def __init__(self, server: str, token: str, *, certificate: Path | None = None, timeout_s: float = 30.0) -> None:
        self._server = server.rstrip("/")
        if not self._server.startswith(("http://", "https://")):
            raise ServerError(f"{server}: not an address of a service, expected e.g. http://127.0.0.1:8080")
        if not (token.isascii() and token.isprintable()):
            raise ServerError("token: holds letters that no token has, expected e.g. rmt_...; copy it again")
        try:
            trusted = True if certificate is None else ssl.create_default_context(cafile=certificate)
        except OSError as error:
            raise ServerError(
                f"{certificate}: cannot be used ({error.strerror or error}), expected a PEM file"
            ) from None
        try:
            self._http = httpx.Client(
                base_url=f"{self._server}/api/v1",
                headers={"Authorization": f"Bearer {token}"},
                timeout=timeout_s,
                verify=trusted,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise ServerError(f"{server}: not an address of a service ({error}); check it") from None

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def search_picture(
        self,
        picture: Path,
        *,
        purpose: str,
        case_reference: str,
        k: int = 20,
        where: Filter = EVERYTHING,
        keep_unreachable: bool = False,
        seen_camera: str | None = None,
        seen_s: float | None = None,
        whole_picture: bool = False,
        rerank: bool = False,
    ) -> dict[str, Any]:
        """Where else was the person in the file ``picture`` seen? The answer as the API gives it.

        Where ``seen_camera`` and ``seen_s`` (POSIX seconds) say where and when it was taken, sightings that nobody
        could have reached are left out, unless ``keep_unreachable``. A picture in which no person is found is refused,
        unless the ``whole_picture`` is to be searched for. Where the service centres embeddings by camera,
        ``is_centred`` of the answer, ``seen_camera`` may come alone.

        Args:
            picture: the file.
            purpose: what the search is for.
            case_reference: the case that the search belongs to.
            k: how many at most.
            where: only those that pass.
            keep_unreachable: show those whom nobody could have been in time, too.
            seen_camera: that which took the picture; None: not known.
            seen_s: POSIX seconds when it was taken; None: not known.
            whole_picture: the whole picture is the person; nobody is looked for in it.
            rerank: order the nearest by the neighbours that they share with the picture.

        Raises:
            ImageError: the file cannot be read.
            ServerError: the service refused.
        """
        try:
            data = picture.read_bytes()
        except OSError as error:
            raise ImageError(f"{picture}: cannot be read ({error.strerror}); check the path") from None
        if where.cameras == ():  # a form that names no camera asks for all
            raise ConfigError("filter, cameras: got no names, expected one or more; leave it out for all cameras")
        fields: dict[str, Any] = {"purpose": purpose, "case_reference": case_reference, "k": k, **vars(where)}
        fields |= {"keep_unreachable": keep_unreachable, "seen_camera": seen_camera, "seen_s": seen_s}
        fields |= {"whole_picture": whole_picture, "rerank": rerank}
        form = {name: value for name, value in fields.items() if value is not None}
        files = {"picture": (picture.name, data, "application/octet-stream")}
        return dict(self._ask("POST", "/search/picture", data=form, files=files))

    def search_sighting(
        self,
        sighting_id: int,
        *,
        purpose: str,
        case_reference: str,
        k: int = 20,
        where: Filter = EVERYTHING,
        keep_unreachable: bool = False,
        rerank: bool = False,
    ) -> dict[str, Any]:
        """Where else was the person of a sighting seen? Arguments as in ``search_picture``.

        Args:
            sighting_id: its number.
            purpose: what the search is for.
            case_reference: the case that the search belongs to.
            k: how many at most.
            where: only those that pass.
            keep_unreachable: show those whom nobody could have been in time, too.
            rerank: order the nearest by the neighbours that they share with the picture.
        """
        body = {"sighting_id": sighting_id, "purpose": purpose, "case_reference": case_reference, "k": k}
        body |= {**vars(where), "keep_unreachable": keep_unreachable, "rerank": rerank}
        return dict(self._ask("POST", "/search", json=body))

    def model(self) -> dict[str, Any]:
        """The model that answers, its thresholds, and what its embeddings are centred with."""
        return dict(self._ask("GET", "/model"))

    def cameras(self) -> list[dict[str, Any]]:
        """All cameras that the token may see."""
        return list(self._ask("GET", "/cameras"))

    def sightings(self, where: Filter = EVERYTHING) -> Iterator[dict[str, Any]]:
        """The sightings that pass, newest first, page after page; a score means nothing here."""
        if where.cameras == ():
            return
        asked = {"camera": where.cameras, "start_s": where.start_s, "end_s": where.end_s}
        filters = {name: value for name, value in asked.items() if value is not None}
        before: int | None = None
        while True:
            page = self._ask("GET", "/sightings", params=filters | ({"before": before} if before else {}))
            yield from page["sightings"]
            before = page["next"]
            if before is None:
                return

    def thumbnail(self, sighting_id: int) -> bytes:
        """A sighting's picture, JPEG; the service audits that it was opened."""
        return self._send("GET", f"/sightings/{sighting_id}/thumbnail").content

    def with_pictures(self, answer: dict[str, Any], folder: Path) -> SearchAnswer:
        """An ``answer`` of the API with its thumbnails as files in ``folder``; that they were opened is audited.

        Raises:
            ServerError: the service refused.
            StorageError: a file cannot be written.
        """
        hits = []
        for hit in answer["hits"]:
            number = int(hit["sighting_id"])
            path = folder / f"{number}.jpg"
            try:
                path.write_bytes(self.thumbnail(number))
            except OSError as error:
                raise StorageError(f"{path}: cannot be written ({error.strerror}); free space") from None
            except ServerError as error:
                if error.status != 404:  # one that is gone is drawn as an empty box
                    raise
            sighting = Sighting(hit["camera"], hit["track_id"], hit["start_s"], hit["end_s"], path)
            hits.append(SearchHit(hit["score"], number, sighting))
        return SearchAnswer(answer["model_id"], answer["gallery_size"], tuple(hits))

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self._send(method, path, **arguments)
        try:
            return answer.json()
        except ValueError:
            raise ServerError(f"{self._server}: does not answer like this service; check the address") from None

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise ServerError(f"{self._server}: cannot be reached ({error}); is the service running there?") from None
        if answer.is_success:
            return answer
        try:
            message = str(answer.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = f"answered {answer.status_code}"
        raise ServerError(f"{self._server}: {message}", answer.status_code)
