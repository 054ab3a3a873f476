"""The S3 client, and nothing else. No raw answer of S3 leaves this package.

Reading order: `operations` is the table of what S3 can be asked for, `store` the protocol that all
others use. `rest_store` speaks it, and says what of an answer is believed: `wire`, `list_pages` and
`encoded_words` know how S3 spells things, `transport` sends a request over `http`, mends what a
refusal names (`failures`) and tries again. `sessions` opens one, with credentials that are renewed
(`refreshed_credentials`). `gated_store` wraps one. `retries` repeats requests at a pace, and bounds
how long a person waits. `listing` lists in parallel, where `listing_forks` says that keys branch.
`lookup` looks at one key, `copying` and `multipart_copy` copy, `uploads`, `downloads` and
`byte_ranges` move bytes, `compare_bytes` and `checksums` compare them. `annotations` copies and
compares annotations. `condition_trial` tries the conditions of writes.

No module here knows a feature or the ledger.
"""
