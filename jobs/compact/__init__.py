"""Compaction: packs small cold objects into archives.

Reading order: `packing` has the rule by which objects come into archives (pure), `savings` says
whether that pays (pure), `grouping` cuts and weighs groups by both, in columns, `archived` says
what archives hold already, `plan` cuts a manifest into archives, `member_reader` reads the objects,
`job` writes one archive.

Originals stay where they are: only `jobs.expire` deletes them.
"""
