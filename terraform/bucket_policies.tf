# Who may not, whatever their role says: the policies of the buckets of storage.tf.

locals {
  # What the policies of all buckets say.
  bucket_denies = { for bucket, each in local.written : bucket => [
    {
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.bucket_arns[bucket], "${local.bucket_arns[bucket]}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    },
    {
      # Not even an administrator shortens a lock by accident: this statement has to go first.
      Sid       = "NobodyBypassesObjectLock"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:BypassGovernanceRetention"
      Resource  = ["${local.bucket_arns[bucket]}/*"]
    },
  ] }

  # S3 may deliver reports on the buckets of this region that the policy names, and on no others.
  inventory_grants = { for region, bucket in local.inventory.buckets : bucket => [{
    Sid       = "InventoryReports"
    Effect    = "Allow"
    Principal = { Service = "s3.amazonaws.com" }
    Action    = "s3:PutObject"
    Resource  = ["${local.bucket_arns[bucket]}/${local.inventory.prefix}*"]
    Condition = {
      ArnLike      = { "aws:SourceArn" = [for each in local.inventoried : local.bucket_arns[each.bucket] if each.region == region] }
      StringEquals = { "aws:SourceAccount" = local.delivering_accounts, "s3:x-amz-acl" = "bucket-owner-full-control" }
    }
  }] }

  # Owners of hot buckets in other accounts replicate to buckets of ours. Replicas are ours then.
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-change-owner.html
  replica_grants = { for bucket, accounts in local.replicator_accounts : bucket => flatten([for account in accounts : [
    {
      Sid       = "ReplicateFrom${account}"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::${account}:root" }
      Action = concat(["s3:ReplicateObject", "s3:ReplicateTags", "s3:ObjectOwnerOverrideToBucketOwner"],
      anytrue([for rule in local.replication_rules : rule.replica.delete_markers if rule.replica.bucket == bucket && rule.hot.account == account]) ? ["s3:ReplicateDelete"] : [])
      Resource  = distinct([for rule in local.replication_rules : "${local.bucket_arns[bucket]}/${rule.prefix}*" if rule.replica.bucket == bucket && rule.hot.account == account])
      Condition = { ArnLike = { "aws:PrincipalArn" = local.replicators[account] } }
    },
    {
      Sid       = "SeeVersioningFrom${account}"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::${account}:root" }
      Action    = ["s3:GetBucketVersioning", "s3:ListBucket"]
      Resource  = [local.bucket_arns[bucket]]
      Condition = { ArnLike = { "aws:PrincipalArn" = local.replicators[account] } }
    },
  ]]) }

  # What lies in the ledger is written once; whoever writes says so (If-None-Match: *), or is refused. A damaged index of an
  # archive may be replaced by who names the one that it replaces (If-Match). The table is jobs/ledger/files.py's.
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
  ledger_denies = { (local.ledger.bucket) = [
    {
      Sid       = "LedgerIsWrittenOnce"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource = [for folder in [
        "runs", "tombstones", "state", "nights", "journal", "backlog", "manifests", "starts", "told", "removed", "thawing", "drills",
      ] : "${local.bucket_arns[local.ledger.bucket]}/${local.ledger.prefix}${folder}/*"]
      Condition = {
        Null = { "s3:if-none-match" = "true" }
        Bool = { "s3:ObjectCreationOperation" = "true" }
      }
    },
    {
      Sid       = "IndexesAreReplacedKnowingly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = ["${local.bucket_arns[local.ledger.bucket]}/${local.ledger.prefix}archives/*.parquet"]
      Condition = {
        Null = { "s3:if-none-match" = "true", "s3:if-match" = "true" }
        Bool = { "s3:ObjectCreationOperation" = "true" }
      }
    },
  ] }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      local.bucket_denies[each.key],
      lookup(local.inventory_grants, each.key, []),
      lookup(local.ledger_denies, each.key, []),
      local.replica_grants[each.key],
    )
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}
