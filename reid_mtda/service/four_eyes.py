"""Whether two decisions were made by two people, as far as names and tokens can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reid_mtda.service.roles import Principal
from reid_mtda.service.tokens import Issuer
from reid_mtda.service.user_names import person_key

Issuers = Callable[[str | None], Sequence[Issuer]]
"""Token id -> who made it, who made their token, and so on; as ``Auth.issuers``."""


def why_one_person(first_user: str, first_token: str | None, second: Principal, issuers: Issuers) -> str:
    """Why the second decision may come from whoever made the first, in words; '' when two people stand behind them.

    One person may hold several tokens: by names that look alike, by a token that they made themselves, or by two
    tokens that one admin made. Somebody at the machine itself, who makes tokens by the command line, counts as nobody.

    Args:
        first_user: who made the first decision.
        first_token: id of the token they showed; None where that was not noted.
        second: who wants to make the second.
        issuers: who made which token.
    """
    if person_key(first_user) == person_key(second.user):
        return "you made the first decision, somebody else must make the second"
    of_first, of_second = issuers(first_token), issuers(second.token_id)
    if any(person_key(issuer.user) == person_key(first_user) for issuer in of_second):
        return f"your token goes back to {first_user}, who made the first decision; somebody else must make the second"
    if any(person_key(issuer.user) == person_key(second.user) for issuer in of_first):
        return "the first decision was made with a token that goes back to you; somebody else must make the second"
    makers = [issuer[0] for issuer in (of_first, of_second) if issuer and issuer[0].token_id is not None]
    if len(makers) == 2 and person_key(makers[0].user) == person_key(makers[1].user):
        return (
            f"both tokens were made by {makers[0].user}; somebody whose token another admin made, or "
            "'reid-mtda token' on the machine itself, must make the second decision"
        )
    return ""
