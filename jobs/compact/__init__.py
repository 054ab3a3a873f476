"""Compaction: packs small cold objects into archives.

Reading order: `packing` groups objects into archives (pure), `savings` computes what that saves,
and whether it pays (pure), `grouping` does both for all rows of a manifest in columns, `archived`
says what archives hold already, `plan` cuts a manifest into archives, `member_reader` reads the
objects, `job` writes one archive.

Originals stay where they are: only `jobs.expire` deletes them.
"""
