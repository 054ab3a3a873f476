"""Annotations of objects: named texts that S3 keeps beside an object version.

Reading order: `lists` asks a server which annotations a version has, and whether the server keeps
any at all. `carrying` puts them onto a copy that S3 made without them. `comparing` says which ones
a copy lacks, before its original is deleted.

CopyObject carries annotations by itself. Copies in parts, streams and archives do not, and neither
HEAD nor a listing nor an inventory shows that an object has any. So nothing here may take silence
for "none". An annotation is never put onto an object of a server that is not known to keep them:
such a server takes the request for a PutObject, and replaces the object.
"""
