"""What raters must not be able to guess: codes, orders, hidden repeats, and the tokens they sign in with."""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
from collections.abc import Mapping, Sequence

_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_DIGITS = "23456789"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TOKEN_GROUPS = 4
_TRIES = 1000


def draw_codes(count: int, draw: random.Random) -> list[str]:
    """Draw different codes: no vowels, so that none is a word, and no character that reads like another."""
    found: dict[str, None] = {}
    while len(found) < count:
        letters = "".join(draw.choices(_LETTERS, k=2))
        found["".join([letters, *draw.choices(_DIGITS, k=2)])] = None
    return list(found)


def draw_order(codes: Sequence[str], originals: Mapping[str, str], draw: random.Random) -> list[str]:
    """Shuffle, with each repeat far behind what it repeats: a quarter of the list, if that can be.

    Parameters
    ----------
    codes
        All codes.
    originals
        Code of a repeat, with the code of what it repeats.
    draw
        Source of randomness.
    """
    best: list[str] = []
    best_distance = -1
    for _ in range(_TRIES):
        order = draw.sample(codes, len(codes))
        place = {code: index for index, code in enumerate(order)}
        distance = min((abs(place[a] - place[b]) for a, b in originals.items()), default=len(codes))
        if distance > best_distance:
            best, best_distance = order, distance
        if distance >= len(codes) // 4:
            break
    for repeat, original in originals.items():
        first, second = sorted((best.index(repeat), best.index(original)))
        best[first], best[second] = original, repeat
    return best


def new_token() -> str:
    """Make a token of 80 random bits that can be read out and typed (Crockford's base 32)."""
    groups = ("".join(secrets.choice(_CROCKFORD) for _ in range(4)) for _ in range(_TOKEN_GROUPS))
    return "-".join(groups)


def token_hash(token: str) -> str:
    """SHA-256 of a token as it was meant: case, blanks and hyphens do not matter."""
    meant = "".join(token.split()).replace("-", "").upper()
    return hashlib.sha256(meant.encode()).hexdigest()


def is_token(token: str, expected_hash: str) -> bool:
    """Whether a token has a hash; takes as long whatever is wrong with it."""
    return hmac.compare_digest(token_hash(token), expected_hash)
