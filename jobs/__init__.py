"""Sealift: backs up, replicates and proves very large S3 buckets.

Each subject is a package, and the packages form a list (`pyproject.toml`): each may use those below
it. Entrances: `cli`, `local` and, beside this package, `scheduler`. `container` starts a worker in
an image. Features: `doctor`, `nights`, `reconcile`, and the verbs `replicate`, `verify`, `backup`,
`compact`, `restore`, `expire`, which `registry` lists. Engine: `runs`, `reports`. Formats:
`policy`, `archives`, `ledger`, `manifests`, `inventory`, `checksum_reports`, `tables`. The world:
`s3`, `aws`. What all share: `credentials`, `interrupts`, `config`, `core`, `errors`.
"""

__version__ = "0.1.0"
