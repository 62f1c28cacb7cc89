from hypothesis import given
from hypothesis import strategies as st

from cloakwork_functions.runtime.lru import LeastRecentlyUsed

MOST = 100


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 150))))
def test_it_holds_what_was_used_last_and_fits(uses):
    kept = LeastRecentlyUsed(MOST)
    order: dict[str, int] = {}
    for name, size in uses:
        if name in kept:
            assert kept.get(name) == name
            order[name] = order.pop(name)
        else:
            kept.add(name, name, size)
            order.pop(name, None)
            order[name] = size
        fits, room = [], MOST
        for held in reversed(order):
            if fits and order[held] > room:
                break
            fits.append(held)
            room -= order[held]
        assert [name for name in order if name in kept] == fits[::-1]
        order = {name: order[name] for name in fits[::-1]}
