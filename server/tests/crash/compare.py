"""Compares a Delta table, or what a database has, with the ledgers of the clients that filled it (see ../crash.rs)."""

import pathlib
import sys

import deltalake

ledgers, table, counted, *parts = sys.argv[1:]
# On several partitions a batch that was not acknowledged may be there in part.
in_parts = parts == ["parts"]
sent, acknowledged = {}, set()
for ledger in pathlib.Path(ledgers).glob("ledger-*"):
    for line in ledger.read_text().splitlines():
        word, client, batch, lines = line.split()
        key = (int(client), int(batch))
        if word == "send":
            assert key not in sent, f"the ledger names {key} twice"
            sent[key] = int(lines)
        elif word == "acknowledged":
            acknowledged.add(key)
            assert sent[key] == int(lines), f"accepted {lines} of {sent[key]} lines of {key}"

stored = {}
if table.endswith(".tsv"):
    # What a database's own client printed: client, batch, count, distinct, smallest and largest line.
    for line in pathlib.Path(table).read_text().splitlines():
        client, batch, *found = map(int, line.split("\t"))
        stored[client, batch] = tuple(found)
    rows = sum(found[0] for found in stored.values())
else:
    lines = deltalake.DeltaTable(table).to_pyarrow_table(columns=["client", "batch", "line"])
    groups = lines.group_by(["client", "batch"]).aggregate(
        [("line", "count"), ("line", "count_distinct"), ("line", "min"), ("line", "max")]
    )
    for row in groups.to_pylist():
        found = (row["line_count"], row["line_count_distinct"], row["line_min"], row["line_max"])
        stored[row["client"], row["batch"]] = found
    rows = len(lines)

problems = []
if rows != int(counted):
    problems.append(f"our SQL counted {counted} rows, this place has {rows}")
unknown_stored = 0
for key, lines in sent.items():
    found = stored.pop(key, None)
    if found is None:
        if key in acknowledged:
            problems.append(f"LOST: batch {key} of {lines} lines was acknowledged and is not there")
        continue
    unknown_stored += key not in acknowledged
    count, distinct, smallest, largest = found
    if in_parts and key not in acknowledged and count == distinct and 0 <= smallest <= largest < lines:
        continue
    if found != (lines, lines, 0, lines - 1):
        problems.append(
            f"batch {key} of {lines} lines, acknowledged: {key in acknowledged}, "
            f"stored (count, distinct, min, max): {found}"
        )
problems += [f"batch {key} was never sent" for key in stored]
unknown = len(sent) - len(acknowledged)
print(
    f"{len(sent)} batches sent, {len(acknowledged)} acknowledged, {unknown} unknown "
    f"({unknown_stored} of them stored), {rows} rows stored, {len(problems)} problems"
)
print("\n".join(problems[:20]))
sys.exit(bool(problems))
