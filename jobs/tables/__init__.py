"""Tables: Parquet rows in their schemas, and SQL over local files.

Reading order: `rows` has the Arrow schemas of manifests, shards and outcomes and their codecs,
`ranged_parquet` reads parts of a Parquet file by ranges, `duck` opens DuckDB with bounds and
without a way out of its folder.

pyarrow and duckdb load with these modules, so they are imported where they are used. No module here
knows a feature.
"""
