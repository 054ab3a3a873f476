"""The S3 client, and nothing else. No raw answer of S3 leaves this package.

Reading order: `store` is the protocol that all others use, `rest_store` speaks it over HTTP
(`http`, `wire`, `list_pages`), `sessions` opens one. `botocore_store` speaks it with AWS's own
client. `listing` lists in parallel, `lookup` looks at one key, `copying` and `multipart_copy` copy,
`uploads`, `downloads` and `byte_ranges` move bytes, `compare_bytes` and `checksums` compare them.
`annotations` copies and compares annotations. `conditional_writes` and `fenced_store` wrap a store.
`retries` repeats a request, and bounds how long a person waits.

No module here knows a feature or the ledger.
"""
