from __future__ import annotations

import pytest

from jobs.fit.plan import how_many_fit
from jobs.stages.spec import RunSpec
from jobs.sweeps.feasible import Group, Pool, groups, require_space
from minimind.config import override
from tests.small import small_spec
from tune_spaces.distribution import Choices, LogUniform, Space

BASE = override(small_spec(), {"loop.batch_size": 4, "loop.accumulation_steps": 2, "data.max_seq_len": 32})
SPACE: Space = {
    "loop.activation_checkpointing": Choices(choices=(False, True)),
    "data.max_seq_len": Choices(choices=(32, 64)),
    "loop.batch_size": Choices(choices=(8, 4, 2, 1, 3)),
}


def fits(spec: RunSpec) -> bool:
    return spec.loop.batch_size * spec.data.max_seq_len <= (256 if spec.loop.activation_checkpointing else 64)


def test_the_border_is_found_with_few_questions() -> None:
    for count in range(12):
        for fitting in range(count + 1):
            asked: list[int] = []

            def small(number: int, fitting: int = fitting, asked: list[int] = asked) -> bool:
                asked.append(number)
                return number < fitting

            assert how_many_fit(range(count), small) == fitting
            assert len(asked) <= 5


def test_the_feasible_points_are_those_that_trying_all_would_give() -> None:
    found = groups(BASE, SPACE, fits)
    points = [point for group in found for point in group.points]
    assert len(found) == 4
    assert len(points) == 4 + 3 + 4 + 3  # 3 rows never divide 256 tokens, 8 rows of 64 are more
    for group in found:
        assert all(fits(override(BASE, point)) for point in group.feasible)
        assert not any(fits(override(BASE, point)) for point in group.refused)
    for point in points:
        spec = override(BASE, point)
        assert spec.loop.batch_size * spec.loop.accumulation_steps * spec.data.max_seq_len == 256


def test_accumulation_that_is_varied_itself_is_left_alone() -> None:
    space: Space = {"loop.accumulation_steps": Choices(choices=(1, 5)), "loop.batch_size": Choices(choices=(1, 7))}
    steps = [point["loop.accumulation_steps"] for group in groups(BASE, space, fits) for point in group.points]
    assert steps == [1, 1, 5, 5]


def test_a_range_is_judged_at_its_upper_end() -> None:
    seen = []

    def note(spec: RunSpec) -> bool:
        seen.append(spec.optim.learning_rate)
        return True

    groups(BASE, {"optim.learning_rate": LogUniform(low=0.001, high=0.5)}, note)
    assert seen == [0.5]


def test_a_space_without_points_says_so() -> None:
    with pytest.raises(ValueError, match="no point.*divides the 256 tokens"):
        groups(BASE, {"loop.batch_size": Choices(choices=(3, 5))}, fits)
    with pytest.raises(ValueError, match=r"loop\.batch_size takes a list"):
        groups(BASE, {"loop.batch_size": LogUniform(low=1, high=8)}, fits)


def test_values_that_would_only_fail_in_a_trial_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loop.batch_size = '8': without quotes, 8") as caught:
        require_space(
            BASE,
            {"loop.batch_size": Choices(choices=("8", 4)), "data.max_seq_len": LogUniform(low=16, high=64)},
        )
    assert "data.max_seq_len: a range holds numbers that are not whole; name the values in a list" in str(caught.value)


def test_paths_and_values_that_a_run_may_not_have_are_refused_together() -> None:
    with pytest.raises(ValueError, match="the space") as caught:
        require_space(
            BASE,
            {
                "loop.batchsize": Choices(choices=(1, 2)),
                "optim.schedule": Choices(choices=("wsd", "sine")),
                "loop.max_steps": Choices(choices=(1,)),
                "scaling.workers": Choices(choices=(1,)),
            },
        )
    text = str(caught.value)
    assert text.count("loop.batchsize: no setting 'batchsize' in 'loop'; names there: batch_size") == 1
    assert "optim.schedule = 'sine'" in text
    assert "loop.max_steps: a sweep cannot vary it" in text
    assert "scaling.workers: a sweep cannot vary it" in text
    require_space(BASE, SPACE)


def test_a_pool_gives_each_point_once_and_the_nearest_to_what_was_drawn() -> None:
    pool = Pool([Group(({"x": 0}, {"x": 1}, {"x": 2}, {"x": 9}), 3)], repeat=False)
    assert [pool.draw(u)["x"] for u in (0.5, 0.5, 0.999)] == [1, 0, 2]
    assert not len(pool)
    with pytest.raises(IndexError, match="every point"):
        pool.draw(0.1)


def test_points_are_drawn_again_beside_a_range() -> None:
    pool = Pool([Group(({"x": 0},), 1)], repeat=True)
    assert [pool.draw(u) for u in (0.0, 0.9)] == [{"x": 0}] * 2


def test_running_out_of_memory_closes_what_needs_no_less() -> None:
    groups_of = [Group(tuple({"y": y, "rows": rows} for rows in (1, 2, 4)), 3) for y in (0, 1)]
    pool = Pool(groups_of, repeat=False)
    taken = pool.draw(0.25)
    assert taken == {"y": 0, "rows": 2}
    assert pool.learn(taken) == [{"y": 0, "rows": 4}]
    assert len(pool) == 4
    pool.close({"y": 1, "rows": 1})
    assert sorted(pool.draw(0)["rows"] for _ in range(len(pool))) == [1, 2, 4]
    assert Pool(groups_of, repeat=True).learn(taken) == [taken, {"y": 0, "rows": 4}]


def test_a_point_and_its_share_belong_together() -> None:
    pool = Pool([Group(({"x": 0}, {"x": 1}, {"x": 2}), 2)], repeat=True)
    for point in pool.points:
        place = pool.place(point)
        assert place is not None
        assert pool.draw(place) == point
    assert pool.place({"x": 2}) is None
