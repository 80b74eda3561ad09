"""One sink's loop: what waits for it is sent in order, again and again until it is taken or refused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection

from reid_mtda.errors import ConfigError, ReidError
from reid_mtda.service.notify.messages import Message, told_in_brief
from reid_mtda.service.notify.outbox import Outbox

log = logging.getLogger(__name__)

POLL_S = 0.2
_BATCH = 100
_LONGEST_WAIT_S = 60.0

Tell = Callable[[str], None]
"""What is wrong with a sink, '' when nothing is."""


class UnreachableError(ReidError):
    """The receiver did not take a message now; it may later."""


class RefusedError(ReidError):
    """The receiver does not want this message, and will not later."""


def deliver(
    outbox: Outbox,
    sink: str,
    send: Callable[[Message], None],
    *,
    kinds: Collection[str],
    stop: threading.Event,
    tell: Tell,
    first_wait_s: float = 1.0,
) -> None:
    """Send what waits for ``sink`` until ``stop``; the body of its thread.

    Args:
        outbox: where messages wait.
        sink: its name there.
        send: takes one message; raises UnreachableError or RefusedError.
        kinds: of messages that it is told of.
        stop: ends it, also while it waits.
        tell: shown to people.
        first_wait_s: seconds before the second try; doubles up to a minute, with chance in it.
    """
    import tenacity

    def wait_and_tell(state: tenacity.RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome is not None else None
        tell(f"{sink}: {failure}; events wait and are sent again")

    retried = tenacity.Retrying(
        wait=tenacity.wait_random_exponential(multiplier=first_wait_s, max=_LONGEST_WAIT_S),
        stop=tenacity.stop_when_event_set(stop),
        sleep=tenacity.sleep_using_event(stop),
        retry=tenacity.retry_if_exception_type((UnreachableError, ConfigError)),
        before_sleep=wait_and_tell,
        reraise=True,
    )

    def next_one() -> bool:
        # Asked for at each try: what was erased or dropped since the last one is not sent any more.
        return send_next(outbox, sink, send, kinds=kinds, tell=tell)

    while not stop.is_set():
        try:
            if not retried(next_one):
                stop.wait(POLL_S)
        except ReidError as error:  # of the disk; or it was stopped while the receiver was away
            if not stop.is_set():
                log.error("events for %s: %s", sink, error)
                stop.wait(5.0)


def send_next(
    outbox: Outbox, sink: str, send: Callable[[Message], None], *, kinds: Collection[str], tell: Tell
) -> bool:
    """Send what comes next, after a word about what was dropped before it; False when nothing waits.

    Args:
        outbox: messages that wait.
        sink: where messages go, by name.
        send: sends one; raises where it cannot.
        kinds: of messages that may go now.
        tell: told of what went wrong, and of what goes again.
    """
    waiting = outbox.pending(sink, _BATCH)
    if not waiting:
        return False
    wanted = next((message for message in waiting if message.kind in kinds), None)
    if wanted is None:
        outbox.told(sink, waiting[-1].number)
        return True
    if count := outbox.untold_drops(sink):
        send(dropped_message(count))
        outbox.told_drops(sink, count)
    try:
        send(wanted)
    except RefusedError as error:
        log.warning("events for %s: %s", sink, error)
        tell(f"{sink}: {error}; that event is left out")
        outbox.told(sink, wanted.number, refused=True)
        return True
    outbox.told(sink, wanted.number)
    tell("")
    return True


def dropped_message(count: int) -> Message:
    """A word to a sink about events that it will never be told of."""
    return Message("alert", None, told_in_brief("alert", type="dropped", count=count))
