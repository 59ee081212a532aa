"""Codes, orders and tokens: properties that hold whatever is drawn."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.grading.blinding import draw_codes, draw_order, is_token, new_token, token_hash


@given(st.integers(1, 300), st.integers())
def test_codes_are_different_and_say_nothing(count, seed):
    codes = draw_codes(count, random.Random(seed))
    assert len(set(codes)) == count
    assert all(re.fullmatch("[BCDFGHJKLMNPQRSTVWXZ]{2}[2-9]{2}", code) for code in codes)
    assert codes == draw_codes(count, random.Random(seed))


@given(st.integers(4, 60), st.integers(0, 4), st.integers())
def test_an_order_has_every_code_once_and_keeps_repeats_apart(count, repeats, seed):
    codes = draw_codes(count, random.Random(seed))
    repeats = min(repeats, count // 2)
    originals = dict(zip(codes[:repeats], codes[-repeats or count :], strict=False))
    order = draw_order(codes, originals, random.Random(seed))
    assert sorted(order) == sorted(codes)
    distances = [order.index(repeat) - order.index(original) for repeat, original in originals.items()]
    assert all(distance > 0 for distance in distances)
    assert all(distance >= count // 4 for distance in distances) or count < 12


def test_orders_are_shuffled_without_preference():
    """Over many raters, every item is as often in the first half of the list: a binomial count within 5 SD."""
    codes = draw_codes(20, random.Random(0))
    draw = random.Random(1)
    orders = [draw_order(codes, {codes[0]: codes[1]}, draw) for _ in range(2000)]
    for code in codes[2:]:
        early = sum(order.index(code) < 10 for order in orders)
        assert abs(early - 1000) < 5 * (2000 * 0.25) ** 0.5
    follows = sum((codes[4], codes[5]) in pairwise(order) for order in orders)
    assert abs(follows - 100) < 5 * 100**0.5


def test_tokens_are_long_and_different():
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    # 16 characters of 32 are 80 bits.
    assert all(re.fullmatch("[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}", token) for token in tokens)


@pytest.mark.parametrize("typed", ["{}", " {} ", "{}\n"])
def test_a_token_is_known_however_it_is_typed(typed):
    token = new_token()
    expected = token_hash(token)
    for variant in (token, token.lower(), token.replace("-", ""), token.replace("-", " ")):
        assert is_token(typed.format(variant), expected)
    assert not is_token(token[:-1], expected)
    assert not is_token("", expected)
    assert not is_token(token + "0", expected)
