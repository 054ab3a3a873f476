"""Sealift: backs up, replicates and proves very large S3 buckets.

Each subject is a package, and the packages form a list (`pyproject.toml`): each may use those below
it. Entrances: `cli` and `local`. Features: `replicate`, `verify`, `backup`, `compact`, `restore`,
`expire`, `reconcile`, `nights`. Engine: `runs`, `reports`, `ledger`. Formats: `policy`, `archives`,
`manifests`, `inventory`, `checksum_reports`, `tables`. The world: `s3`, `aws`. Words that all
share: `core`, `errors`, `config`.
"""

__version__ = "0.1.0"
