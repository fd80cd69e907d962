"""Compares a table, as the packages `deltalake` and `polars` read it, with the rows that it must have."""

import os
import sys

import deltalake
import polars
import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet

directory, expected_path = sys.argv[1:]
ORDER = ["_partition", "_offset", "_row"]
expected = pyarrow.parquet.read_table(expected_path)


def rows(table):
    """Sorted rows with the expected columns and types."""
    missing = set(expected.column_names) - set(table.column_names)
    assert not missing, f"columns {missing} are missing"
    table = table.select(expected.column_names).cast(expected.schema)
    return table.sort_by([(name, "ascending") for name in ORDER]).combine_chunks()


def same(reader, found):
    assert found.num_rows == expected.num_rows, f"{reader}: {found.num_rows} rows, {expected.num_rows} expected"
    for name in expected.column_names:
        ours, theirs = expected[name], found[name]
        assert ours.null_count == theirs.null_count, f"{reader}: nulls of {name}"
        kind = ours.type
        if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
            assert compute.sum(ours) == compute.sum(theirs), f"{reader}: sum of {name}"
        if not pyarrow.types.is_boolean(kind):
            assert compute.min_max(ours) == compute.min_max(theirs), f"{reader}: extremes of {name}"
    expected_rows = rows(expected)
    for name in expected.column_names:
        if not found[name].equals(expected_rows[name]):
            pairs = zip(expected_rows[name].to_pylist(), found[name].to_pylist())
            row = next(row for row, (a, b) in enumerate(pairs) if a != b)
            raise AssertionError(f"{reader}: {name} of row {row} is {found[name][row]}, not {expected_rows[name][row]}")


table = deltalake.DeltaTable(directory)
same("deltalake", rows(table.to_pyarrow_table()))
same("polars", rows(polars.read_delta(directory).to_arrow()))

# What readers skip by statistics holds nothing that they look for.
lazy = polars.scan_delta(directory)
dataset = table.to_pyarrow_dataset()
step = max(1, expected.num_rows // 10)
for row in range(0, expected.num_rows, step):
    for name in ["flag", "count", "ratio", "note", "detail", "colour", "user_id", "at", "_received_at", "_trace_id", "_offset"]:
        value = expected[name][row]
        if not value.is_valid:
            continue
        here = compute.sum(compute.equal(expected[name], value)).as_py()
        if name in ("at", "_received_at"):
            literal = polars.Series([value.value]).cast(polars.Int64).cast(polars.Datetime("us", "UTC"))[0]
        else:
            literal = value.as_py()
        found = lazy.filter(polars.col(name) == literal).select(polars.len()).collect().item()
        assert found == here, f"polars finds {found} rows with {name} = {value}, not {here}"
        found = dataset.count_rows(filter=compute.field(name) == value)
        assert found == here, f"deltalake finds {found} rows with {name} = {value}, not {here}"

print(f"{expected.num_rows} rows in {len(table.file_uris())} files, version {table.version()}: the same", flush=True)
# The packages' threads together abort now and then when the interpreter ends; all is said by then.
os._exit(0)
