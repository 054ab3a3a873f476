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
  role   = aws_iam_role.this["replication"].arn

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

  depends_on = [aws_s3_bucket_versioning.this, aws_iam_role_policy.this]
}

locals {
  # Objects by the prefixes of rules: what hot buckets give, what replicas take, and of these what is another account's or gets
  # delete markers.
  hot_objects = distinct([for rule in local.own_rules : "${local.bucket_arns[rule.hot.bucket]}/${rule.prefix}*"])
  replica_objects = { for name, rules in { all = local.own_rules, given = [for rule in local.own_rules : rule if rule.replica.account != local.owner],
  marked = [for rule in local.own_rules : rule if rule.replica.delete_markers] } : name => distinct([for rule in rules : "${local.bucket_arns[rule.replica.bucket]}/${rule.prefix}*"]) }
  own_rules = [for rule in local.replication_rules : rule if rule.hot.account == local.owner]
  hot_arns  = [for bucket in keys(local.replicated) : local.bucket_arns[bucket]]
  replication_keys = {
    Decrypt = { for name, pair in local.own_replicas : pair.destination.region => local.bucket_keys[pair.destination.bucket]...
    if local.buckets[pair.destination.bucket].kms_key != null }
    Encrypt = { for name, pair in local.twinned : pair.replica.region => local.bucket_keys[pair.replica.bucket]...
    if local.written[pair.replica.bucket].kms_key != null }
  }

  replication_roles = {
    replication = { by = "s3", statements = concat(
      [
        { Sid = "ReadHotBuckets", Effect = "Allow", Action = ["s3:GetReplicationConfiguration", "s3:ListBucket"], Resource = local.hot_arns },
        {
          Sid    = "ReadHotObjects"
          Effect = "Allow"
          Action = concat(["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging",
          "s3:GetObjectRetention", "s3:GetObjectLegalHold"], local.s3_replicate_annotations)
          Resource = local.hot_objects
        },
      ],
      # Delete markers only: S3 never replicates the deletion of a version.
      # https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-change-owner.html
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

    # What is older than a rule, or failed, waits for a job of S3 Batch Replication, which a person starts when a night
    # finds it (docs/events-and-nights.md). S3 makes the manifest, and the role above copies.
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-batch-replication-policies.html
    batch-replication = { by = "batchoperations.s3", statements = [
      { Sid = "StartReplication", Effect = "Allow", Action = "s3:InitiateReplication", Resource = local.hot_objects },
      { Sid = "ListByInventory", Effect = "Allow", Action = ["s3:GetReplicationConfiguration", "s3:PutInventoryConfiguration"], Resource = local.hot_arns },
    ] }
  }
}
