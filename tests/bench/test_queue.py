from bench.queue import CLAIM, DRAWING, FLUXSITE, HELD, STOCK, WANTED, median_and_p95, table


def test_a_figure_holds_when_each_of_its_numbers_is_within_its_limit() -> None:
    claimed = next(iter(WANTED.values()))
    assert claimed.holds((15, 40))
    assert not claimed.holds((14, 41))
    assert WANTED[DRAWING].holds((95.0,))
    assert not WANTED[DRAWING].holds((94.9,))


def test_a_limit_for_the_median_alone_leaves_the_95th_percentile_free() -> None:
    assert WANTED[CLAIM].holds((20, 100))


def test_the_median_and_95th_percentile_are_in_ms() -> None:
    assert median_and_p95([number / 1000 for number in range(101)]) == (50.0, 95.0)


def test_the_table_says_what_does_not_hold_and_what_stock_does() -> None:
    text = table({("sqlite", FLUXSITE): {HELD: (1,)}, ("sqlite", STOCK): {HELD: (2,)}})
    row = "| held beyond the running job | sqlite | ≤ 0 jobs | 1 jobs | **no** | 2 jobs |  |"
    assert text.splitlines()[2:] == [row]
