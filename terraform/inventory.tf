# Daily S3 Inventory of sources, hot buckets and replicas, delivered to the bucket of their region.

locals {
  # Who delivers to our buckets: other accounts' hot buckets, replicas and their inventories are made there.
  delivering_accounts = distinct(concat([local.account], compact(values(local.inventoried)[*].account)))

  inventoried = { for each in distinct(concat(
    [for pair in local.pairs : { bucket = pair.source.bucket, region = pair.source.region, account = pair.source.account } if pair.source.inventory],
    [for pair in local.pairs : { bucket = pair.destination.bucket, region = pair.destination.region, account = pair.destination.account }],
    [for pair in local.pairs : { bucket = pair.replica.bucket, region = pair.replica.region, account = pair.replica.account } if pair.replica != null],
  )) : each.bucket => each if contains(keys(local.inventory.buckets), each.region) }

  # What reconciliation compares by, and what decides whether an ETag can be an MD5.
  inventory_fields = ["Size", "LastModifiedDate", "ETag", "StorageClass", "IsMultipartUploaded", "ReplicationStatus",
  "EncryptionStatus", "ChecksumAlgorithm", "ObjectLockMode", "ObjectLockRetainUntilDate"]
}

resource "aws_s3_bucket_inventory" "this" {
  for_each = { for bucket, each in local.inventoried : bucket => each if each.account == local.owner }

  bucket                   = each.key
  region                   = each.value.region
  name                     = local.name
  included_object_versions = "All"

  optional_fields = local.inventory_fields

  schedule {
    frequency = "Daily"
  }

  destination {
    bucket {
      bucket_arn = aws_s3_bucket.this[local.inventory.buckets[each.value.region]].arn
      account_id = local.account
      format     = local.inventory.format
      prefix     = trimsuffix(local.inventory.prefix, "/")

      encryption {
        sse_kms {
          key_id = local.key_arns[each.value.region]
        }
      }
    }
  }

  depends_on = [aws_s3_bucket.this, aws_s3_bucket_policy.this]
}
