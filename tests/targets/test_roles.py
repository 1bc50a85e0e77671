"""The named choices of roles."""

from lightning_lora.targets import ROLE_SETS, Role


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
