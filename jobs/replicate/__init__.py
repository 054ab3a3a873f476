"""Replication: copies the rows of a manifest, guarded at both ends.

Reading order: `decision` is the truth table of what happens to a row (pure), `plan` plans a run,
`job` looks at both sides, decides, copies and proves.

Never overwrite a newer object, and never call a copy `copied` before S3 has confirmed its bytes.
"""
