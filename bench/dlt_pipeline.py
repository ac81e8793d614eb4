"""dlt's side of `cargo xtask bench sync`: the same contacts by its rest_api source, merged into PostgreSQL.

What its documentation recommends for speed is set: COPY by CSV load files, no compression of intermediate files,
large buffers, one process. Nested lists (associations) stay JSON, so that it makes no child tables; properties become
columns, as everywhere else.
"""

import os
import sys

import dlt
from dlt.sources.rest_api import rest_api_source


def main() -> None:
    source = rest_api_source(
        {
            "client": {
                "base_url": os.environ["BENCH_URL"],
                "auth": {"type": "bearer", "token": os.environ["BENCH_TOKEN"]},
                "paginator": {"type": "cursor", "cursor_path": "paging.next.after", "cursor_param": "after"},
            },
            "resources": [
                {
                    "name": "contacts",
                    "primary_key": "id",
                    "write_disposition": {"disposition": "merge", "strategy": "upsert"},
                    "max_table_nesting": 1,
                    "endpoint": {
                        "path": os.environ["BENCH_PATH"].lstrip("/"),
                        "params": {
                            "limit": int(os.environ["BENCH_PAGE"]),
                            "archived": "false",
                            "properties": os.environ["BENCH_PROPERTIES"],
                            "associations": "companies",
                        },
                        "data_selector": "results",
                    },
                }
            ],
        }
    )
    pipeline = dlt.pipeline(
        pipeline_name="bench",
        destination=dlt.destinations.postgres(os.environ["BENCH_DATABASE_URL"]),
        dataset_name="dlt_bench",
        pipelines_dir=os.environ["BENCH_DIRECTORY"],
    )
    pipeline.run(source, loader_file_format="csv").raise_on_failed_jobs()


if __name__ == "__main__":
    # The harness measures what starting alone costs.
    if sys.argv[1:] != ["--start-only"]:
        main()
