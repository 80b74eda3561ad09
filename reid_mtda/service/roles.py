"""Who is signed in, and what they may do and see."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from reid_mtda.errors import ReidError


class AccessError(ReidError):
    """Not signed in, or not allowed; ``status`` is what HTTP calls it."""

    def __init__(self, message: str, status: int, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


class Role(IntEnum):
    """What somebody may do; each may do all that those before it may."""

    VIEWER = 1  # live pictures and camera health
    OPERATOR = 2  # search, mark matches, pause cameras
    REVIEWER = 3  # second pair of eyes
    ADMIN = 4  # cameras, tokens, erasure, audit, models

    @property
    def label(self) -> str:
        """Its name in words and JSON."""
        return self.name.lower()

    @classmethod
    def of(cls, label: str) -> Role:
        """The role of that name.

        Raises:
            AccessError: there is none.
        """
        try:
            return cls[label.upper()]
        except KeyError:
            known = ", ".join(role.label for role in cls)
            raise AccessError(f"role: got {label!r}, expected one of {known}", 422) from None


@dataclass(frozen=True)
class Principal:
    """Somebody who showed a valid token. ``cameras`` None: all of them, also those still to come."""

    user: str
    role: Role
    cameras: frozenset[str] | None
    token_id: str
    session: str | None = None

    def need(self, role: Role) -> None:
        """Refuse somebody of a lesser role.

        Raises:
            AccessError: 403.
        """
        if self.role < role:
            raise AccessError(f"this needs the role {role.label}, you have {self.role.label}; ask an admin", 403)

    def sees(self, camera: str) -> bool:
        """Whether objects of ``camera`` exist for this person."""
        return self.cameras is None or camera in self.cameras

    def need_all_cameras(self) -> None:
        """Refuse somebody whose rights are limited to some cameras.

        Raises:
            AccessError: 403.
        """
        if self.cameras is not None:
            raise AccessError("this shows all cameras, your token is limited to some; ask an admin", 403)

    def scope(self, wanted: Iterable[str] | None) -> tuple[str, ...] | None:
        """The cameras of a request narrowed to those this person sees; None: all.

        Cameras they do not see are left out silently, as if they did not exist.
        """
        if wanted is None:
            return None if self.cameras is None else tuple(sorted(self.cameras))
        return tuple(sorted(camera for camera in set(wanted) if self.sees(camera)))

    @property
    def csrf(self) -> str:
        """What forms of this session carry; a page of another origin cannot know it."""
        if self.session is None:
            return ""
        return hmac.new(self.session.encode(), b"csrf", hashlib.sha256).hexdigest()
