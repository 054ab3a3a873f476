# S3's own replication of hot buckets to their twins: one configuration a bucket, a rule for each prefix of each pair. A
# twin in another account waits until that account has made it (other_accounts): S3 refuses a rule without its bucket.
# Hot buckets of another account are replicated by their owners: other_accounts.tf.

locals {
  replication_rules = flatten([for name, pair in local.replicas : [
    for number, prefix in local.copy_prefixes[name] : { id = number == 0 ? name : "${name}-${number}", pair = name, prefix = prefix, hot = pair.destination, replica = pair.replica }
  ]])

  own_replicas = { for name, pair in local.replicas : name => pair if pair.destination.account == local.owner }
  twinned = { for name, pair in local.own_replicas : name => pair
  if pair.replica.account == local.owner || contains(keys(var.other_accounts), pair.replica.account) }

  replicated = { for bucket in distinct([for pair in local.twinned : pair.destination.bucket]) : bucket => {
    region = local.buckets[bucket].region
    rules  = [for rule in local.replication_rules : rule if rule.hot.bucket == bucket && contains(keys(local.twinned), rule.pair)]
  } }
}

resource "aws_s3_bucket_replication_configuration" "this" {
  for_each = local.replicated

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region
  role   = aws_iam_role.replication["replication"].arn

  dynamic "rule" {
    for_each = each.value.rules

    content {
      id       = rule.value.id
      status   = "Enabled"
      priority = rule.key + 1

      filter {
        prefix = rule.value.prefix
      }

      delete_marker_replication {
        status = rule.value.replica.delete_markers ? "Enabled" : "Disabled"
      }

      source_selection_criteria {
        sse_kms_encrypted_objects {
          status = rule.value.replica.kms_key == null ? "Disabled" : "Enabled"
        }
      }

      destination {
        bucket        = local.bucket_arns[rule.value.replica.bucket]
        account       = rule.value.replica.account == local.owner ? null : rule.value.replica.account
        storage_class = rule.value.replica.storage_class

        # replicas belong to the owner of their bucket, also where ACLs are on
        dynamic "access_control_translation" {
          for_each = rule.value.replica.account == local.owner ? [] : ["Destination"]

          content {
            owner = access_control_translation.value
          }
        }

        dynamic "encryption_configuration" {
          for_each = rule.value.replica.kms_key == null ? [] : [rule.value.replica.bucket]

          content {
            replica_kms_key_id = local.bucket_keys[encryption_configuration.value]
          }
        }

        # 15 minutes is the only value that S3 takes, for both
        dynamic "replication_time" {
          for_each = rule.value.replica.replication_time_control ? [15] : []

          content {
            status = "Enabled"

            time {
              minutes = replication_time.value
            }
          }
        }

        # what monitoring.tf watches; S3 has metrics without replication time control as well
        metrics {
          status = "Enabled"

          dynamic "event_threshold" {
            for_each = rule.value.replica.replication_time_control ? [15] : []

            content {
              minutes = event_threshold.value
            }
          }
        }
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this, aws_iam_role_policy.replication]
}

resource "aws_iam_role" "replication" {
  for_each = toset([for any in keys(local.replicated) : "replication"])

  name                 = "${local.name}-replication"
  path                 = var.role_path
  permissions_boundary = var.role_permissions_boundary
  description          = "S3 carries hot buckets to their twins"
  # No source account: S3 documents none for replication, and one that it does not send would stop replication without a
  # word. A configuration takes iam:PassRole in this account, and the role reads our hot buckets only.
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/setting-repl-config-perm-overview.html
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "s3.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
  tags = local.tags
}

# What is older than a rule, or failed, waits for a job of S3 Batch Replication, which a person starts: `sealift doctor` says
# when, and has the command. S3 makes the manifest, and the role above copies.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-batch-replication-policies.html
resource "aws_iam_role" "batch_replication" {
  for_each = aws_iam_role.replication

  name                 = "${local.name}-batch-replication"
  path                 = var.role_path
  permissions_boundary = var.role_permissions_boundary
  description          = "S3 Batch Replication of what is older than the rules"
  # No source account, as above: a job takes iam:PassRole in this account.
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "batchoperations.s3.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
  tags = local.tags
}

resource "aws_iam_role_policy" "batch_replication" {
  for_each = aws_iam_role.batch_replication

  name = "start"
  role = each.value.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "StartReplication"
        Effect = "Allow"
        Action = "s3:InitiateReplication"
        Resource = distinct(flatten([for name, pair in local.own_replicas : [
          for prefix in local.copy_prefixes[name] : "${local.bucket_arns[pair.destination.bucket]}/${prefix}*"
        ]]))
      },
      {
        Sid      = "ListByInventory"
        Effect   = "Allow"
        Action   = ["s3:GetReplicationConfiguration", "s3:PutInventoryConfiguration"]
        Resource = [for bucket in keys(local.replicated) : local.bucket_arns[bucket]]
      },
    ]
  })
}

resource "aws_iam_role_policy" "replication" {
  for_each = aws_iam_role.replication

  name = "replicate"
  role = each.value.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "ReadHotBuckets"
          Effect   = "Allow"
          Action   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
          Resource = [for bucket in keys(local.replicated) : local.bucket_arns[bucket]]
        },
        {
          Sid    = "ReadHotObjects"
          Effect = "Allow"
          Action = concat(["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging",
          "s3:GetObjectRetention", "s3:GetObjectLegalHold"], local.s3_replicate_annotations)
          Resource = distinct(flatten([for name, pair in local.own_replicas : [
            for prefix in local.copy_prefixes[name] : "${local.bucket_arns[pair.destination.bucket]}/${prefix}*"
          ]]))
        },
        {
          Sid    = "WriteReplicas"
          Effect = "Allow"
          Action = ["s3:ReplicateObject", "s3:ReplicateTags"]
          Resource = distinct(flatten([for name, pair in local.own_replicas : [
            for prefix in local.copy_prefixes[name] : "${local.bucket_arns[pair.replica.bucket]}/${prefix}*"
          ]]))
        },
      ],
      # https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-change-owner.html
      [for resources in [distinct(flatten([for name, pair in local.own_replicas : [
        for prefix in local.copy_prefixes[name] : "${local.bucket_arns[pair.replica.bucket]}/${prefix}*"
        ] if pair.replica.account != local.owner]))] : {
        Sid      = "GiveReplicasToTheirBucketsOwner"
        Effect   = "Allow"
        Action   = "s3:ObjectOwnerOverrideToBucketOwner"
        Resource = resources
      } if length(resources) > 0],
      # delete markers only: S3 never replicates the deletion of a version
      [for resources in [distinct(flatten([for name, pair in local.own_replicas : [
        for prefix in local.copy_prefixes[name] : "${local.bucket_arns[pair.replica.bucket]}/${prefix}*"
        ] if pair.replica.delete_markers]))] : {
        Sid      = "ReplicateDeleteMarkers"
        Effect   = "Allow"
        Action   = "s3:ReplicateDelete"
        Resource = resources
      } if length(resources) > 0],
      [for region, arns in local.replication_keys.hot : {
        Sid       = "Decrypt${replace(title(region), "-", "")}"
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = distinct(arns)
        Condition = { StringEquals = { "kms:ViaService" = "s3.${region}.${local.dns_suffix}" } }
      }],
      [for region, arns in local.replication_keys.replica : {
        Sid       = "Encrypt${replace(title(region), "-", "")}"
        Effect    = "Allow"
        Action    = "kms:Encrypt"
        Resource  = distinct(arns)
        Condition = { StringEquals = { "kms:ViaService" = "s3.${region}.${local.dns_suffix}" } }
      }],
    )
  })
}

locals {
  replication_keys = {
    hot = { for name, pair in local.own_replicas : pair.destination.region => local.bucket_keys[pair.destination.bucket]...
    if local.buckets[pair.destination.bucket].kms_key != null }
    replica = { for name, pair in local.twinned : pair.replica.region => local.bucket_keys[pair.replica.bucket]...
    if local.written[pair.replica.bucket].kms_key != null }
  }
}
