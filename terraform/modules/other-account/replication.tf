# Replication of the hot buckets of this account, to buckets of its own or of the system's: only a bucket's owners replicate
# it. The settings are those of replication.tf, two folders above.

locals {
  replicated = { for bucket, each in local.buckets : bucket => each if length(each.replication) > 0 }
  rules = flatten([for bucket, each in local.replicated : [for rule in each.replication : merge(rule, {
    hot     = bucket
    hot_key = each.kms_key == "create" ? aws_kms_key.this[each.region].arn : each.kms_key
    key     = rule.kms_key == "create" ? aws_kms_key.this[rule.region].arn : rule.kms_key
    from    = each.region
  })]])
}

resource "aws_s3_bucket_replication_configuration" "this" {
  for_each = local.replicated

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region
  role   = aws_iam_role.replication["replication"].arn

  dynamic "rule" {
    for_each = each.value.replication

    content {
      id       = rule.value.id
      status   = "Enabled"
      priority = rule.key + 1

      filter {
        prefix = rule.value.prefix
      }

      delete_marker_replication {
        status = rule.value.delete_markers ? "Enabled" : "Disabled"
      }

      source_selection_criteria {
        sse_kms_encrypted_objects {
          status = rule.value.kms_key == null ? "Disabled" : "Enabled"
        }
      }

      destination {
        bucket        = "arn:${local.partition}:s3:::${rule.value.bucket}"
        account       = rule.value.account
        storage_class = rule.value.storage_class

        dynamic "access_control_translation" {
          for_each = rule.value.account == null ? [] : ["Destination"]

          content {
            owner = access_control_translation.value
          }
        }

        dynamic "encryption_configuration" {
          for_each = rule.value.kms_key[*]

          content {
            replica_kms_key_id = encryption_configuration.value == "create" ? aws_kms_key.this[rule.value.region].arn : encryption_configuration.value
          }
        }

        dynamic "replication_time" {
          for_each = rule.value.replication_time_control ? [15] : []

          content {
            status = "Enabled"

            time {
              minutes = replication_time.value
            }
          }
        }

        metrics {
          status = "Enabled"

          dynamic "event_threshold" {
            for_each = rule.value.replication_time_control ? [15] : []

            content {
              minutes = event_threshold.value
            }
          }
        }
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this, aws_s3_bucket_policy.this, aws_iam_role_policy.replication]
}

resource "aws_iam_role" "replication" {
  for_each = toset([for any in slice(["replication"], 0, min(1, length(local.replicated))) : any])

  name                 = "${var.asked.name}-replication"
  path                 = var.role_path
  permissions_boundary = var.role_permissions_boundary
  description          = "S3 carries hot buckets to their twins"
  # No source account: S3 documents none for replication.
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "s3.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
  tags = local.tags
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
          Resource = [for bucket in keys(local.replicated) : "arn:${local.partition}:s3:::${bucket}"]
        },
        {
          Sid    = "ReadHotObjects"
          Effect = "Allow"
          Action = concat(["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging",
          "s3:GetObjectRetention", "s3:GetObjectLegalHold"], anytrue(local.rules[*].annotations) ? ["s3:GetObjectVersionAnnotationForReplication"] : [])
          Resource = distinct([for rule in local.rules : "arn:${local.partition}:s3:::${rule.hot}/${rule.prefix}*"])
        },
        {
          Sid      = "WriteReplicas"
          Effect   = "Allow"
          Action   = ["s3:ReplicateObject", "s3:ReplicateTags"]
          Resource = distinct([for rule in local.rules : "arn:${local.partition}:s3:::${rule.bucket}/${rule.prefix}*"])
        },
      ],
      [for resources in [distinct([for rule in local.rules : "arn:${local.partition}:s3:::${rule.bucket}/${rule.prefix}*" if rule.account != null])] : {
        Sid      = "GiveReplicasToTheirBucketsOwner"
        Effect   = "Allow"
        Action   = "s3:ObjectOwnerOverrideToBucketOwner"
        Resource = resources
      } if length(resources) > 0],
      [for resources in [distinct([for rule in local.rules : "arn:${local.partition}:s3:::${rule.bucket}/${rule.prefix}*" if rule.delete_markers])] : {
        Sid      = "ReplicateDeleteMarkers"
        Effect   = "Allow"
        Action   = "s3:ReplicateDelete"
        Resource = resources
      } if length(resources) > 0],
      [for region in distinct([for rule in local.rules : rule.from if rule.hot_key != null]) : {
        Sid       = "Decrypt${replace(title(region), "-", "")}"
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = distinct([for rule in local.rules : rule.hot_key if rule.from == region && rule.hot_key != null])
        Condition = { StringEquals = { "kms:ViaService" = "s3.${region}.${data.aws_partition.current.dns_suffix}" } }
      }],
      [for region in distinct([for rule in local.rules : rule.region if rule.key != null]) : {
        Sid       = "Encrypt${replace(title(region), "-", "")}"
        Effect    = "Allow"
        Action    = "kms:Encrypt"
        Resource  = distinct([for rule in local.rules : rule.key if rule.region == region && rule.key != null])
        Condition = { StringEquals = { "kms:ViaService" = "s3.${region}.${data.aws_partition.current.dns_suffix}" } }
      }],
    )
  })
}

# For what is older than a rule, or failed: a person of this account starts a job with it. `sealift doctor` has the command.
resource "aws_iam_role" "batch_replication" {
  for_each = aws_iam_role.replication

  name                 = "${var.asked.name}-batch-replication"
  path                 = var.role_path
  permissions_boundary = var.role_permissions_boundary
  description          = "S3 Batch Replication of what is older than the rules"
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
        Sid      = "StartReplication"
        Effect   = "Allow"
        Action   = "s3:InitiateReplication"
        Resource = distinct([for rule in local.rules : "arn:${local.partition}:s3:::${rule.hot}/${rule.prefix}*"])
      },
      {
        Sid      = "ListByInventory"
        Effect   = "Allow"
        Action   = ["s3:GetReplicationConfiguration", "s3:PutInventoryConfiguration"]
        Resource = [for bucket in keys(local.replicated) : "arn:${local.partition}:s3:::${bucket}"]
      },
    ]
  })
}
