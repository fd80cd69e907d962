"""DuckDB or chdb as a process that is asked over its standard input: one JSON object a line, one answer a line.

    engine.py duckdb|chdb THREADS

{"do": "version"} · {"do": "view", "name", "files"} · {"do": "ask", "sql"} · {"do": "convert", "from", "to"}

Times are taken here, around the engine alone: none of what is between the processes counts.
"""

import datetime
import json
import os
import resource
import sys
import time


class DuckDb:
    def __init__(self, threads):
        import duckdb

        self.name = "DuckDB " + duckdb.__version__
        self.connection = duckdb.connect()
        self.connection.execute(f"SET threads={threads}")
        self.connection.execute("SET TimeZone='UTC'")

    def view(self, name, files):
        self.connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({files!r})")

    def ask(self, sql):
        return self.connection.execute(sql).fetchall()

    def convert(self, source, target):
        columns = "{user_id: 'VARCHAR', duration: 'BIGINT', distance: 'BIGINT', timestamp: 'TIMESTAMPTZ'}"
        self.connection.execute(
            f"COPY (SELECT * FROM read_json('{source}', format='newline_delimited', columns={columns})) "
            f"TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 1000000)"
        )


class Chdb:
    def __init__(self, threads):
        from chdb import session

        self.session = session.Session()
        self.name = "chdb, ClickHouse " + self.session.query("SELECT version()", "TSV").bytes().decode().strip()
        self.session.query(f"SET max_threads={threads}")
        self.session.query("SET date_time_output_format='iso'")
        self.session.query("SET output_format_json_quote_64bit_integers=0")
        self.session.query("SET session_timezone='UTC'")
        self.session.query("CREATE DATABASE IF NOT EXISTS lake ENGINE = Atomic")
        self.session.query("USE lake")

    def view(self, name, files):
        folders = {}
        for file in files:
            folder, name_in_it = os.path.split(file)
            folders.setdefault(folder, []).append(name_in_it)
        # Braces and commas name several files of a folder.
        tables = [
            "SELECT * FROM file('" + folder + "/" + (names[0] if len(names) == 1 else "{" + ",".join(names) + "}")
            + "', 'Parquet')"
            for folder, names in folders.items()
        ]
        self.session.query(f"CREATE VIEW {name} AS " + " UNION ALL ".join(tables))

    def ask(self, sql):
        answer = self.session.query(sql, "JSONCompactEachRow").bytes()
        return [json.loads(line) for line in answer.splitlines()]

    def convert(self, source, target):
        columns = "user_id String, duration Int64, distance Int64, timestamp DateTime64(6, ''UTC'')"
        self.session.query(
            f"INSERT INTO FUNCTION file('{target}', 'Parquet') SELECT * FROM file('{source}', 'JSONEachRow', "
            f"'{columns}') SETTINGS date_time_input_format='best_effort', "
            "output_format_parquet_compression_method='zstd', output_format_parquet_row_group_size=1000000"
        )


def plain(value):
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc)
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, (int, float, str)) or value is None:
        return value
    return str(value)


def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def answer(engine, command):
    cpu, begun = used(), time.perf_counter()
    rows = []
    if command["do"] == "view":
        engine.view(command["name"], command["files"])
    elif command["do"] == "ask":
        rows = engine.ask(command["sql"])
    elif command["do"] == "convert":
        engine.convert(command["from"], command["to"])
    seconds, cpu = time.perf_counter() - begun, used() - cpu
    rows = [[plain(value) for value in row] for row in rows]
    return {"name": engine.name, "seconds": seconds, "cpu_seconds": cpu, "rows": rows}


def main():
    engine = {"duckdb": DuckDb, "chdb": Chdb}[sys.argv[1]](int(sys.argv[2]))
    for line in sys.stdin:
        try:
            said = answer(engine, json.loads(line))
        except Exception as error:  # whatever it is, the other side is told
            said = {"error": (str(error).strip().splitlines() or [repr(error)])[0][:500]}
        print(json.dumps(said), flush=True)


main()
