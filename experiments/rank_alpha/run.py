"""Rank, alpha and the rule that scales: the sweeps behind the tables. Each command goes on where it stopped.

    python -m experiments.rank_alpha.run grid --model MINILM --glue GLUE --into DIR
    lightning-lora report DIR/grid --html page.html

Rank 1 to 64, alpha as the rank, twice the rank and 16, divided by the rank or by its root, each at three learning
rates: a larger scale acts much like a larger rate, so at one rate alone the scale would win or lose by that. On 2,000
training rows of two tasks; all is scored on the dev set, and what is read is how scores move, not which is highest.
"""

from experiments.on_glue import Sweeps, run_tables

RATES = "lr=3e-4,1e-3,3e-3"
RANKS = (1, 2, 4, 8, 16, 32, 64)
RULES = ("alpha_over_rank", "alpha_over_sqrt_rank")


def sweeps_of(table: str, task: str) -> Sweeps:
    """One sweep for each rank and rule, over alpha and the rates; an alpha that two ways give is run once."""
    return [
        [f"rank={rank}", f"lora.scaling={rule}", f"alpha={','.join(map(str, sorted({rank, 2 * rank, 16})))}", RATES]
        for rule in RULES
        for rank in RANKS
        if (rank, rule) != (1, RULES[1])  # the root of 1 is 1: the same scale by either rule
    ]


if __name__ == "__main__":
    assert __doc__ is not None
    run_tables(__doc__, sweeps_of, {"grid": ("sst2", "stsb")}, {"sst2": 2000, "stsb": 2000})
