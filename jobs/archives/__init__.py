"""Archives: tar files of many small objects, and the index that finds each member.

Reading order: `model` has the types, `tar_layout` the bytes of a tar entry, `member_names` the
names of members, `member_attributes` which of a member's attributes may become headers, `spans`
which ranges are read together. `writer` packs an archive, `files` lists and opens archives, `index`
and `index_tables` keep and query the index, `unindexed` finds archives that it does not have,
`reader` reads members.

No member is used before its bytes are proven against the index.
"""
