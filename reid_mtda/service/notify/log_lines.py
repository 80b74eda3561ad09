"""Events as lines of JSON: to a file that is turned over, or to syslog."""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import socket
from collections.abc import Iterator

from reid_mtda.service.notify.delivery import UnreachableError
from reid_mtda.service.notify.messages import Message
from reid_mtda.service.notify.settings import LogSettings

_FILE_BYTES = 10_000_000
_FILES = 5


class _Handler(logging.Handler):
    """Raises what it is told went wrong, in place of printing it."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # called while an error is handled


class _File(_Handler, logging.handlers.RotatingFileHandler):
    pass


class _Syslog(_Handler, logging.handlers.SysLogHandler):
    pass


class LogSink:
    """Writes messages to one log; opened at the first, and again after a fault."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._handler: logging.Handler | None = None

    def send(self, message: Message) -> None:
        """Write one line.

        Raises:
            UnreachableError: the disk or the socket refuses; it may not later.
        """
        line = json.dumps(message.body, separators=(",", ":"))
        with self._translated():
            if self._handler is None:
                self._handler = self._open()
            self._handler.handle(logging.LogRecord("reid_mtda", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        """Let go of the log."""
        if self._handler is not None:
            self._handler.close()
            self._handler = None

    def _open(self) -> logging.Handler:
        if self._settings.file is not None:
            handler: logging.Handler = _File(
                self._settings.file, maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8"
            )
            return handler
        place = self._settings.syslog or ""
        host, _, port = place.rpartition(":")
        address = place if place.startswith("/") else (host.strip("[]"), int(port))
        handler = _Syslog(address, facility=logging.handlers.SysLogHandler.LOG_LOCAL0)
        handler.ident = "reid-mtda: "
        return handler

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, socket.gaierror) as error:
            self.close()
            where = self._settings.file or self._settings.syslog
            raise UnreachableError(f"{where}: cannot be written to ({error.strerror or error})") from None
