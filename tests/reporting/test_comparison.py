"""What a comparison says of its options, by hand."""

from dataclasses import replace

from comparisons import layer_choice, option, task_of

from lightning_lora.reporting.comparison import Interval


def test_options_that_share_a_letter_tie() -> None:
    task = layer_choice()
    best, second, *_, last = task.options
    letters = {best.label: "a", second.label: "ab", last.label: "b"}
    task = replace(task, groups=dict.fromkeys(task.groups, "b") | letters)
    assert task.ties_with_best(best)
    assert task.ties_with_best(second)
    assert not task.ties_with_best(last)


def test_the_interval_is_over_examples_where_no_option_has_a_second_seed() -> None:
    over_examples = Interval(0.6, 0.55, 0.65)
    single = replace(option({"lora": "qv"}, 0.6, seeds=1), over_examples=over_examples)
    several = replace(option({"lora": "all"}, 0.7, seeds=3), over_examples=Interval(0.7, 0.66, 0.74))
    alone, mixed = task_of([single]), task_of([single, several])
    assert alone.has_single_seeds
    assert alone.estimate_of(single) == over_examples
    assert not mixed.has_single_seeds
    assert mixed.estimate_of(single) == single.mean
    assert mixed.estimate_of(several) == several.mean
