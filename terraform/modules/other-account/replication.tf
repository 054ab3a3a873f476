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
  role   = aws_iam_role.this["replication"].arn

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
        bucket        = "arn:aws:s3:::${rule.value.bucket}"
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

  depends_on = [aws_s3_bucket_versioning.this, aws_s3_bucket_policy.this, aws_iam_role_policy.this]
}

locals {
  hot_arns    = [for bucket in keys(local.replicated) : "arn:aws:s3:::${bucket}"]
  hot_objects = distinct([for rule in local.rules : "arn:aws:s3:::${rule.hot}/${rule.prefix}*"])
  replica_objects = { for name, rules in { all = local.rules, given = [for rule in local.rules : rule if rule.account != null],
  marked = [for rule in local.rules : rule if rule.delete_markers] } : name => distinct([for rule in rules : "arn:aws:s3:::${rule.bucket}/${rule.prefix}*"]) }
  replication_keys = {
    Decrypt = { for rule in local.rules : rule.from => rule.hot_key... if rule.hot_key != null }
    Encrypt = { for rule in local.rules : rule.region => rule.key... if rule.key != null }
  }

  replication_roles = {
    # No source account: S3 documents none for replication.
    replication = { trust = { Principal = { Service = "s3.amazonaws.com" } }, statements = concat(
      [
        { Sid = "ReadHotBuckets", Effect = "Allow", Action = ["s3:GetReplicationConfiguration", "s3:ListBucket"], Resource = local.hot_arns },
        {
          Sid    = "ReadHotObjects"
          Effect = "Allow"
          Action = concat(["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging",
          "s3:GetObjectRetention", "s3:GetObjectLegalHold"], anytrue(local.rules[*].annotations) ? ["s3:GetObjectVersionAnnotationForReplication"] : [])
          Resource = local.hot_objects
        },
      ],
      [for sid, each in {
        WriteReplicas                   = { actions = ["s3:ReplicateObject", "s3:ReplicateTags"], objects = local.replica_objects.all }
        GiveReplicasToTheirBucketsOwner = { actions = ["s3:ObjectOwnerOverrideToBucketOwner"], objects = local.replica_objects.given }
        ReplicateDeleteMarkers          = { actions = ["s3:ReplicateDelete"], objects = local.replica_objects.marked }
      } : { Sid = sid, Effect = "Allow", Action = each.actions, Resource = each.objects } if length(each.objects) > 0],
      flatten([for action, regions in local.replication_keys : [for region, arns in regions : {
        Sid       = "${action}${replace(title(region), "-", "")}"
        Effect    = "Allow"
        Action    = "kms:${action}"
        Resource  = distinct(arns)
        Condition = { StringEquals = { "kms:ViaService" = "s3.${region}.amazonaws.com" } }
      }]]),
    ) }

    # For what is older than a rule, or failed: a person of this account starts a job with it (docs/events-and-nights.md).
    batch-replication = { trust = { Principal = { Service = "batchoperations.s3.amazonaws.com" } }, statements = [
      { Sid = "StartReplication", Effect = "Allow", Action = "s3:InitiateReplication", Resource = local.hot_objects },
      { Sid = "ListByInventory", Effect = "Allow", Action = ["s3:GetReplicationConfiguration", "s3:PutInventoryConfiguration"], Resource = local.hot_arns },
    ] }
  }
}
