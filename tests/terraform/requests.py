"""What a recorded request asks of IAM: its actions, each with the resource and the condition keys that AWS gives it.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html has the actions of each operation
of S3. A request that is not known here raises, so that nothing passes unseen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from tests.doubles.aws_recorder import Recorded

S3 = "arn:aws:s3:::"
SUBRESOURCES = {
    "lifecycle": "s3:GetLifecycleConfiguration",
    "replication": "s3:GetReplicationConfiguration",
    "versioning": "s3:GetBucketVersioning",
    "location": "s3:GetBucketLocation",
    "object-lock": "s3:GetBucketObjectLockConfiguration",
    "encryption": "s3:GetEncryptionConfiguration",
    "uploads": "s3:ListBucketMultipartUploads",
    "versions": "s3:ListBucketVersions",
}
MULTIPART = "multipart"
"""A key of the context that is ours: SSE-KMS asks those who write parts for kms:Decrypt, too."""


@dataclass(frozen=True)
class Demand:
    """An action that has to be allowed."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)
    is_needed: bool = True
    """False where S3 answers without it, and shows less."""


@dataclass(frozen=True)
class Account:
    """Who asks. `system`: what jobs bear as tag. `own_key`: the key of the topic. `owners`: of buckets elsewhere."""

    id: str
    system: str
    own_key: str
    bucket_keys: Mapping[str, str]
    bucket_regions: Mapping[str, str]
    owners: Mapping[str, str] = field(default_factory=dict)

    def owner(self, resource: str) -> str:
        """The account that a bucket, an object or a key is in."""
        if resource.startswith(S3):
            return self.owners.get(resource.removeprefix(S3).partition("/")[0], self.id)
        return resource.split(":")[4] if resource.startswith("arn:aws:kms:") else self.id

    def demands(self, request: Recorded) -> list[Demand]:
        """All that one request needs."""
        common = {"aws:SecureTransport": "true", "aws:PrincipalAccount": self.id}
        common["aws:PrincipalArn"] = f"arn:aws:iam::{self.id}:role/{request.role}"
        found = list(_s3(request) if request.service == "s3" else self._api(request))
        found += [each for demand in found for each in self._keys(demand)]
        owned = [(each, {"aws:ResourceAccount": self.owner(each.resource)}) for each in found]
        return [replace(each, context={**common, **owner, **each.context}) for each, owner in owned]

    def _keys(self, demand: Demand) -> Iterator[Demand]:
        """S3 uses the bucket's key in the name of who asks.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
        """
        bucket, _, key = demand.resource.removeprefix(S3).partition("/")
        arn = self.bucket_keys.get(bucket)
        if not key or arn is None:
            return
        context = {"kms:ViaService": f"s3.{self.bucket_regions[bucket]}.amazonaws.com"}
        if demand.action in ("s3:GetObject", "s3:GetObjectVersion", "s3:ListMultipartUploadParts"):
            yield Demand("kms:Decrypt", arn, context)
        if demand.action == "s3:PutObject":
            yield Demand("kms:GenerateDataKey", arn, context)
            if MULTIPART in demand.context:
                yield Demand("kms:Decrypt", arn, context)

    def _api(self, request: Recorded) -> Iterator[Demand]:
        """https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html"""
        region = request.region
        if request.service == "batch":
            operation = request.path.rpartition("/")[2]
            asked = json.loads(request.body or b"{}")
            if operation == "submitjob":
                for kind, name in (("job-queue", asked["jobQueue"]), ("job-definition", asked["jobDefinition"])):
                    arn = name if name.startswith("arn:") else f"arn:aws:batch:{region}:{self.id}:{kind}/{name}"
                    yield Demand("batch:SubmitJob", arn)
                if asked.get("tags"):
                    yield Demand("batch:TagResource", f"arn:aws:batch:{region}:{self.id}:job/new")
            elif operation == "terminatejob":
                tags = {"aws:ResourceTag/sealift:system": self.system}
                yield Demand("batch:TerminateJob", f"arn:aws:batch:{region}:{self.id}:job/{asked['jobId']}", tags)
            else:
                names = {"describejobs": "DescribeJobs", "listjobs": "ListJobs"}
                names |= {"describejobqueues": "DescribeJobQueues", "describejobdefinitions": "DescribeJobDefinitions"}
                yield Demand(f"batch:{names[operation]}", "*")
        elif request.service == "lambda":
            name = request.path.split("/")[3]
            yield Demand("lambda:InvokeFunction", f"arn:aws:lambda:{region}:{self.id}:function:{name}")
        elif request.service == "sqs":
            operation = request.headers["x-amz-target"].rpartition(".")[2].removesuffix("Batch")
            queue = json.loads(request.body)["QueueUrl"].rpartition("/")[2]
            yield Demand(f"sqs:{operation}", f"arn:aws:sqs:{region}:{self.id}:{queue}")
        elif request.service == "sns":
            (topic,) = re.findall(rb"TopicArn=([^&]+)", request.body)
            yield Demand("sns:Publish", unquote(topic.decode()))
            own = {"kms:ViaService": f"sns.{region}.amazonaws.com"}
            for action in ("kms:GenerateDataKey", "kms:Decrypt"):
                yield Demand(action, self.own_key, own)
        else:
            raise AssertionError(request)


def _s3(request: Recorded) -> Iterator[Demand]:
    bucket, thing = f"{S3}{request.bucket}", f"{S3}{request.bucket}/{request.key}"
    query, headers, method = request.query, request.headers, request.method
    if not request.key:
        yield from _of_bucket(request, bucket)
        return
    version = "Version" if query.get("versionId") else ""
    if method in ("GET", "HEAD"):
        if "uploadId" in query:
            yield Demand("s3:ListMultipartUploadParts", thing)  # of an encrypted object also with kms:Decrypt
            return
        yield from _read(thing, version, query)
        if request.status == 404:
            yield Demand("s3:ListBucket", bucket)  # without it S3 answers 403
        yield from _shown_locks(thing, request.answer)
    elif method == "DELETE":
        if "uploadId" in query:
            yield Demand("s3:AbortMultipartUpload", thing)
            return
        yield Demand(f"s3:DeleteObject{version}", thing)
        yield from _compared(headers, thing)
    elif "restore" in query:
        yield Demand("s3:RestoreObject", thing)
    elif method == "PUT" and "annotation" in query:
        yield Demand(f"s3:PutObject{version}Annotation", thing)
    elif method == "PUT" and (part := {"tagging", "retention", "legal-hold", "acl"} & query.keys()):
        names = {"tagging": "Tagging", "retention": "Retention", "legal-hold": "LegalHold", "acl": "Acl"}
        yield Demand(f"s3:PutObject{names[part.pop()]}", thing)
    else:
        yield from _write(request, thing)
        if "x-amz-copy-source" in headers:
            yield from _copy(request, thing)


def _of_bucket(request: Recorded, bucket: str) -> Iterator[Demand]:
    query, method = request.query, request.method
    if method == "POST" and "delete" in query:
        for entry in re.findall(rb"<Object>(.*?)</Object>", request.body, re.DOTALL):
            key = re.findall(rb"<Key>(.*?)</Key>", entry)[0].decode()
            version = "Version" if b"<VersionId>" in entry else ""
            yield Demand(f"s3:DeleteObject{version}", f"{bucket}/{key}")
        return
    assert method in ("GET", "HEAD"), request
    named = [action for name, action in SUBRESOURCES.items() if name in query]
    context = {f"s3:{name}": query[name] for name in ("prefix", "delimiter", "max-keys") if name in query}
    yield Demand(named[0] if named else "s3:ListBucket", bucket, context)


def _read(thing: str, version: str, query: Mapping[str, str]) -> Iterator[Demand]:
    if "annotation" in query:
        is_list = "annotationName" not in query
        yield Demand(f"s3:ListObject{version}Annotations" if is_list else f"s3:GetObject{version}Annotation", thing)
        return
    named = {"tagging": "Tagging", "retention": "Retention", "legal-hold": "LegalHold", "acl": "Acl"}
    for name, suffix in named.items():
        if name in query:
            has_versions = suffix in ("Tagging", "Acl")
            yield Demand(f"s3:GetObject{version * has_versions}{suffix}", thing)
            return
    yield Demand(f"s3:GetObject{version}", thing)
    if "attributes" in query:
        yield Demand(f"s3:GetObject{version}Attributes", thing)


def _shown_locks(thing: str, answer: Mapping[str, str]) -> Iterator[Demand]:
    """S3 leaves locks out of its answer for who may not see them."""
    if "x-amz-object-lock-mode" in answer:
        yield Demand("s3:GetObjectRetention", thing, is_needed=False)
    if "x-amz-object-lock-legal-hold" in answer:
        yield Demand("s3:GetObjectLegalHold", thing, is_needed=False)


def _write(request: Recorded, thing: str) -> Iterator[Demand]:
    query, headers = request.query, request.headers
    context = {f"s3:{name}": headers[name] for name in ("if-none-match", "if-match") if name in headers}
    is_part, begins = "partNumber" in query, "uploads" in query
    # parts and beginnings create no object: aws-docs conditional-writes-enforce
    context["s3:ObjectCreationOperation"] = "false" if is_part or begins else "true"
    if is_part or begins or "uploadId" in query:
        context[MULTIPART] = "true"
    yield Demand("s3:PutObject", thing, context)
    yield from _compared(headers, thing)
    if headers.get("x-amz-tagging"):
        yield Demand("s3:PutObjectTagging", thing)
    if "x-amz-object-lock-mode" in headers:
        yield Demand("s3:PutObjectRetention", thing)
    if "x-amz-object-lock-legal-hold" in headers:
        yield Demand("s3:PutObjectLegalHold", thing)
    if "x-amz-acl" in headers:
        yield Demand("s3:PutObjectAcl", thing)


def _compared(headers: Mapping[str, str], thing: str) -> Iterator[Demand]:
    """Who gives an ETag in If-Match learns something of the object, and so has to be allowed to read it.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-delete-enforce.html. Writes are as deletes.
    """
    if headers.get("if-match", "*") != "*":
        yield Demand("s3:GetObject", thing)


def _copy(request: Recorded, thing: str) -> Iterator[Demand]:
    """A copy also reads. Tags and annotations come along unless it says otherwise, each with two actions.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
    """
    where, _, version_id = request.headers["x-amz-copy-source"].partition("?versionId=")
    source = f"{S3}{unquote(where).lstrip('/')}"
    version = "Version" if version_id else ""
    yield Demand(f"s3:GetObject{version}", source)
    if "partNumber" in request.query:
        return
    if request.headers.get("x-amz-tagging-directive", "COPY") == "COPY":
        yield Demand(f"s3:GetObject{version}Tagging", source)
        yield Demand("s3:PutObjectTagging", thing)
    if request.headers.get("x-amz-object-annotation-directive", "COPY") == "COPY":
        yield Demand(f"s3:GetObject{version}Annotation", source)
        yield Demand("s3:PutObjectAnnotation", thing)


def source_bucket(request: Recorded) -> str | None:
    """The bucket that a request copies from."""
    where: Any = request.headers.get("x-amz-copy-source")
    return unquote(where).lstrip("/").partition("/")[0] if where else None
