"""The S3 client, and nothing else. No raw answer of S3 leaves this package.

Reading order: `store` is the protocol that all others use, `rest_store` speaks it over HTTP
(`http`, `wire`, `list_pages`), believes an answer within bounds (`read_checks`, `xml_bounds`) and
sends many small requests at a pace (`paced_gate`). `sessions` opens one, with credentials that are
renewed (`refreshed_credentials`).
`listing` lists in parallel, where `listing_forks` says that keys branch. `lookup` looks at one key,
`copying` and `multipart_copy` copy, `uploads`, `downloads`, `object_files` and `byte_ranges` move
bytes, `compare_bytes`, `checksums` and `stored_checksums` compare them. `annotations` copies and
compares annotations. `condition_trial` tries the conditions of writes. `unguarded_writes` and
`gated_store` wrap a store. `retries` repeats a request, and bounds how long a person waits.

No module here knows a feature or the ledger.
"""
