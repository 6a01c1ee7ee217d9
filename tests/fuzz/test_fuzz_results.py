"""Seeded fuzzing of what runs leave behind: results, records, journals, scores; damage ends in a message."""

import csv
import io
import json
from contextlib import suppress

import numpy as np
from hypothesis import strategies as st
from mutations import ODD, fuzzed, mutated, mutated_json, tried
from results_made import results

from galmorph import registry
from galmorph.classification.provenance import is_record, record_path, recorded, recorded_schema
from galmorph.classification.results import read_results
from galmorph.files.journal import Journal, journal_folder
from galmorph.files.record import read_record, write_record
from galmorph.reports import training as assessments
from galmorph.reports.pictures import Composites
from galmorph.reports.regions import write_regions
from galmorph.reports.rows import packed_rows
from galmorph.reports.selection import select
from galmorph.training.evaluation import figures


def test_results(tmp_path):
    results(tmp_path / "r.csv", n=8, schema="galaxy10_sdss", ood=True)
    with (tmp_path / "r.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    cell = st.tuples(
        st.integers(0, len(lines) - 1), st.integers(0, len(header) - 1), st.sampled_from([*ODD, "nan", "-5"])
    )

    @fuzzed(80, cells=st.lists(cell, min_size=1, max_size=4))
    def damaged(cells):
        changed = [list(line) for line in lines]
        for row, column, text in cells:
            changed[row][column] = text
        out = io.StringIO()
        csv.writer(out).writerows([header, *changed])
        (tmp_path / "r.csv").write_text(out.getvalue())
        found, _ = tried(lambda: read_results(tmp_path / "r.csv"))
        if found is None:
            return
        chosen = select(found)
        json.dumps(packed_rows(found, Composites(), chosen.rows))
        groups = [""] * len(found)
        tried(lambda: write_regions(found, groups, tmp_path / "r.reg"))

    damaged()


def test_scores_and_histories(tmp_path):
    schema = registry.load("schemas", "galaxy10_sdss")
    group = {"median": 1.0, "low": 0.5, "high": 2.0, "n": 4, "accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6}
    scores = {"n": 4, "accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "schema": schema.name, "part": "test"}
    scores |= {"conditions": {"snr": [group]}, "shares": {"a": {"mae": 0.1}}, "data": {"a": "0"}, "model": "m"}
    labels = [f"{kind}_{label}" for kind in ("p", "true") for label in schema.labels]
    rows = [[f"g{i}", *np.eye(10)[i], *np.eye(10)[i]] for i in range(4)]
    table = "\n".join(",".join(map(str, row)) for row in [["galaxy", *labels], *rows]) + "\n"
    history = "epoch,train_loss,val_loss,val_rmse,val_accuracy,seconds\n1,0.5,0.4,0.3,0.2,9\n2,0.4,0.3,0.2,0.3,9\n"
    texts = mutated_json(scores).map(json.dumps) | st.just(json.dumps(scores))

    @fuzzed(80, text=texts, table=st.just(table.encode()) | mutated(table.encode()), lines=mutated(history.encode()))
    def damaged(text, table, lines):
        (tmp_path / "scores.json").write_text(text)
        (tmp_path / "predictions.csv").write_bytes(table)
        (tmp_path / "history.csv").write_bytes(lines)
        tried(lambda: figures.read_history(tmp_path))
        found, _ = tried(lambda: assessments._read(tmp_path))
        if found is None:
            return
        assessments._score_table("", found.scores)
        assessments._tiles(found.scores)
        for row in assessments.worst(found) if len(found.truth) else ():
            assessments._card(found, row, None)

    damaged()


def test_records(tmp_path):
    results(tmp_path / "r.csv", n=3, schema="galaxy10_sdss")
    document = {"prefix": {"voprov": "http://www.ivoa.net/documents/ProvenanceDM/index.html#"}}
    document |= {"entity": {"run:model": {"galmorph:labels": "x"}, "run:input": {"voprov:location": "r.csv"}}}
    record = record_path(tmp_path / "r.csv")
    state = tmp_path / "state.json"
    write_record(state, {"source": {"path": "x", "bytes": 5}, "version": 1})
    written = state.read_bytes()

    @fuzzed(80, changed=mutated_json(document), content=mutated(written))
    def damaged(changed, content):
        record.write_text(json.dumps(changed))
        if is_record(record):
            tried(lambda: recorded_schema(tmp_path / "r.csv"))
            tried(lambda: recorded(tmp_path / "r.csv", "input"))
        state.write_bytes(content)
        found, error = tried(lambda: read_record(state))
        assert error or found == {"source": {"path": "x", "bytes": 5}, "version": 1}

    damaged()


RECORD = np.dtype([("p", "f4", (2,)), ("flag", "i2")])


def test_journals(tmp_path):
    output, whole = tmp_path / "o.csv", np.zeros(12, RECORD)
    whole["p"] = np.arange(24).reshape(12, 2)
    options = {"resume": True, "step": 2, "n_rows": 12}
    with suppress(KeyboardInterrupt), Journal.open(output, RECORD, {"a": 1}, **options) as journal:
        journal.append(whole[:6])
        journal.append(whole[6:10])
        raise KeyboardInterrupt
    folder = journal_folder(output)
    rows, state = (folder / "rows.bin").read_bytes(), (folder / "state.json").read_bytes()
    damage = mutated(rows) | st.integers(0, len(rows)).map(lambda n: rows[:n] + bytes(len(rows) - n))

    @fuzzed(80, rows_damaged=damage, state_damaged=st.just(state) | mutated(state))
    def damaged(rows_damaged, state_damaged):
        folder.mkdir(exist_ok=True)
        (folder / "rows.bin").write_bytes(rows_damaged)
        (folder / "state.json").write_bytes(state_damaged)
        journal, error = tried(lambda: Journal.open(output, RECORD, {"a": 1}, **options))
        if error:
            return
        with journal:
            kept = np.concatenate([*journal.blocks(), np.zeros(0, RECORD)])
            assert np.array_equal(kept, whole[: len(kept)]), "what is kept is what was written"

    damaged()
