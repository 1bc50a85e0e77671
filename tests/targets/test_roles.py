"""The named choices of roles."""

from itertools import combinations

from lightning_lora.targets import ROLE_SETS, Role, adapted_label


def test_role_sets_are_the_documented_ones() -> None:
    assert {name: {str(role) for role in roles} for name, roles in ROLE_SETS.items()} == {
        "qv": {"query", "value"},
        "qkvo": {"query", "key", "value", "output"},
        "all": {"query", "key", "value", "output", "up", "gate", "down"},
        "mlp": {"up", "gate", "down"},
        "q": {"query"},
        "k": {"key"},
        "v": {"value"},
        "o": {"output"},
        "qk": {"query", "key"},
    }


def test_all_leaves_no_role_out() -> None:
    assert ROLE_SETS["all"] == set(Role)
    assert ROLE_SETS["qkvo"].isdisjoint(ROLE_SETS["mlp"])


def test_a_named_choice_is_called_by_its_name_and_no_two_choices_alike() -> None:
    assert {name: adapted_label("lora", roles, None) for name, roles in ROLE_SETS.items()} == {n: n for n in ROLE_SETS}
    choices = [chosen for size in range(1, len(Role) + 1) for chosen in combinations(Role, size)]
    assert len({adapted_label("lora", chosen, None) for chosen in choices}) == len(choices) == 127
    assert adapted_label("lora", ["query", "value", "up", "gate", "down"], None) == "qv+mlp"
    assert adapted_label("lora", ["value", "query", "up"], None) == "qv+up"
    assert adapted_label("lora", ["down", "up"], None) == "up+down"
