"""Annotations of objects: named texts that S3 keeps beside an object version.

Reading order: `lists` lists the annotations of a version, and finds out whether a server keeps any
at all. `carrying` puts them onto a copy that S3 made without them. `comparing` says which ones a
copy lacks, before its original is deleted.

CopyObject copies annotations by itself. Copies in parts, streamed copies and archives lack them.
No HEAD, listing or inventory shows that an object has any. So "none" must come from a list that
succeeded. Never put an annotation onto an object of a server that is not known to keep them: it may
take the request for a PutObject, and replace the object.
"""
