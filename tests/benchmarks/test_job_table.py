"""The table of times: ratios within a round, medians over the rounds, and the table that the page shows."""

import json
from pathlib import Path
from typing import Any

import pytest
from job_sides import SIDES
from job_table import COMPARED, HEADINGS, line, main, table

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# In each round: seconds, peak and rise of the sides in the order of COMPARED.
ROUNDS = [
    ([10, 20, 60, 12], [100, 150, 400, 300], [10, 40, 200, 90]),
    ([20, 40, 60, 30], [120, 150, 300, 300], [30, 60, 120, 90]),
    ([12, 30, 48, 15], [110, 200, 440, 300], [30, 50, 150, 90]),
]


def record(**changes: Any) -> dict[str, Any]:
    rows = [
        {"task": "rte", "round": n, "side": side, "seconds": s, "peak_mib": p, "rise_mib": r, "score": 0.5 + n / 100}
        for n, columns in enumerate(ROUNDS)
        for side, s, p, r in zip(COMPARED, *columns, strict=True)
    ]
    settings = {"lora": "qv", "dropout": 0.1, "train_rows": None}
    return {"settings": settings, "machine": "m", "versions": {"torch": "2"}, "rows": rows} | changes


def test_medians_and_ratios_worked_out_by_hand() -> None:
    found = dict(zip(HEADINGS, line(record()), strict=True))
    assert found == {
        "task, training rows": "rte, all",
        "adapted, dropout": "qv, 0.1",
        "rounds": "3",
        "seconds: here": "12.0",
        "seconds: here, fp32": "30.0",
        "seconds: PEFT": "60.0",
        "seconds: PEFT at its best": "15.0",
        "times PEFT: fp32": "1.60",  # of 3, 1.5 and 1.6; the ratio of the medians is 2
        "times PEFT: here": "4.00",  # of 6, 3 and 4
        "times PEFT at its best: here": "1.25",  # of 1.2, 1.5 and 1.25
        "peak memory: fp32": "0.45",  # of 0.375, 0.5 and 0.4545
        "peak memory: here": "0.25",  # of 0.25, 0.4 and 0.25
        "its rise: fp32": "0.33",  # of 0.2, 0.5 and 0.333
        "its rise: here": "0.20",  # of 0.05, 0.25 and 0.2
        "dev scores, in the order of the seconds": ", ".join(["51.0 (50.0 to 52.0)"] * 4),
    }


def test_a_round_without_the_peer_has_no_ratio() -> None:
    rows = [row for row in record()["rows"] if (row["side"], row["round"]) != (COMPARED[2], 1)]
    found = dict(zip(HEADINGS, line(record(rows=rows)), strict=True))
    assert (found["rounds"], found["seconds: PEFT"], found["times PEFT: here"]) == ("2 to 3", "54.0", "5.00")
    alone = [row for row in rows if row["side"] == "here"]
    cells = line(record(rows=alone))
    assert cells[3:10] == ["12.0", "–", "–", "–", "–", "–", "–"]


def test_a_column_that_no_record_fills_is_left_out() -> None:
    alone = record(rows=[row for row in record()["rows"] if row["side"] in ("here, fp32", "PEFT + Trainer")])
    headings, _, cells = (text.strip("| ").split(" | ") for text in table([alone]).splitlines()[:3])
    seconds = {name: cell for name, cell in zip(headings, cells, strict=True) if name.startswith("seconds")}
    assert seconds == {"seconds: here, fp32": "30.0", "seconds: PEFT": "60.0"}
    assert cells[-1] == ", ".join(["51.0 (50.0 to 52.0)"] * 2)
    both = table([alone, record()]).splitlines()
    assert both[0] == f"| {' | '.join(HEADINGS)} |", "one record has it"


def test_the_lines_are_in_order_and_say_where_they_are_from() -> None:
    other = record(settings={"lora": "all", "dropout": 0.0, "train_rows": 2048}, machine="n")
    lines = table([other, record()]).splitlines()
    assert [text.split("|")[2].strip() for text in lines[2:4]] == ["qv, 0.1", "all, 0"]
    assert lines[4:] == ["", "rte qv 0.1: m, torch 2", "rte all 0: n, torch 2"]


def test_a_record_of_other_sides_is_left_out_and_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row | {"side": "PEFT in our loop"} for row in record()["rows"] if row["side"] == "here"]
    for name, made in (("compared", record()), ("others", record(rows=rows))):
        (tmp_path / f"{name}.json").write_text(json.dumps(made))
    monkeypatch.setattr("sys.argv", ["job_table.py", *(str(file) for file in sorted(tmp_path.iterdir()))])
    main()
    printed, told = capsys.readouterr()
    assert printed.rstrip("\n") == table([record()])
    assert told.startswith(f"{tmp_path / 'others.json'}: left out")


def test_the_sides_of_the_table_are_sides() -> None:
    assert set(COMPARED) < set(SIDES)


@pytest.mark.parametrize("folder", ["results", "results/without_bf16"])
def test_the_page_shows_the_table_of_the_records(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [
        str(BENCHMARKS / folder / f"single_job_{task}_{of}.json")
        for task in ("cola", "rte", "mrpc", "sst2", "stsb")
        for of in ("qv_dropout0", "all_dropout0.1")
    ]
    monkeypatch.setattr("sys.argv", ["job_table.py", *files])
    main()
    printed = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert len(printed) == 12
    page = (BENCHMARKS / "README.md").read_text().splitlines()
    assert [text for text in printed if text not in page] == []
