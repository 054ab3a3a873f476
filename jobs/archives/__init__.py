"""Archives: tar files of many small objects, and the index that finds each member.

Reading order: `model` has the types, `tar_layout` the bytes of a tar entry, `member_names` the names of members,
`member_attributes` what of a member may become a header, `spans` which ranges are read together. `writer` packs an
archive, `files` lists and opens archives, `index` and `index_tables` keep and query the index, `reader` reads members.

A member's bytes are believed only after its hash was compared with the index.
"""
