# Every bucket of this account that Sealift writes to. Pairs may share one; what belongs to the bucket (encryption, lock, lifecycle) is
# then said the same by each of them, which policy.tf checks. Source buckets are referenced only, see events.tf. What lies
# in another account is made there: other_accounts.tf.

locals {
  # One entry for each reason to have a bucket.
  uses = concat(
    [for pair in local.pairs : {
      bucket          = pair.destination.bucket, region = pair.destination.region, account = pair.destination.account, use = "hot",
      encryption      = pair.destination.encryption, kms_key = pair.destination.kms_key,
      lock            = pair.destination.object_lock, is_locked = pair.destination.object_lock != null,
      noncurrent_days = pair.destination.noncurrent_days, transitions = pair.destination.transitions,
    }],
    # Replicas keep the lock that each version brings; S3 refuses to replicate a locked bucket to one without Object Lock.
    [for pair in local.pairs : {
      bucket          = pair.replica.bucket, region = pair.replica.region, account = pair.replica.account, use = "replica",
      encryption      = pair.replica.kms_key == null ? "AES256" : "aws:kms", kms_key = pair.replica.kms_key,
      lock            = null, is_locked = pair.destination.object_lock != null,
      noncurrent_days = pair.destination.noncurrent_days, transitions = [],
    } if pair.replica != null],
    [for pair in local.pairs : {
      bucket          = pair.archive.bucket, region = pair.archive.region, account = pair.archive.account, use = "archive",
      encryption      = pair.archive.encryption, kms_key = pair.archive.kms_key,
      lock            = pair.archive.object_lock, is_locked = pair.archive.object_lock != null,
      noncurrent_days = null, transitions = [],
    } if pair.archive != null],
    [for region, bucket in local.inventory.buckets : {
      bucket = bucket, region = region, account = local.owner, use = "inventory", encryption = "aws:kms", kms_key = "create",
      lock   = null, is_locked = false, noncurrent_days = null, transitions = [],
    }],
    [{
      bucket = local.ledger.bucket, region = local.region, account = local.owner, use = "ledger", encryption = "aws:kms", kms_key = "create",
      lock   = null, is_locked = false, noncurrent_days = null, transitions = [],
    }],
  )
  uses_of = { for use in local.uses : use.bucket => use... }

  written = { for bucket, uses in local.uses_of : bucket => {
    region          = uses[0].region
    account         = uses[0].account
    uses            = distinct(uses[*].use)
    encryption      = try([for use in uses : use.encryption if use.encryption != "AES256"][0], "AES256")
    kms_key         = try([for use in uses : use.kms_key if use.kms_key != null][0], null)
    lock            = try([for use in uses : use.lock if use.lock != null][0], null)
    is_locked       = anytrue(uses[*].is_locked)
    noncurrent_days = try(max([for use in uses : use.noncurrent_days if use.noncurrent_days != null]...), null)
    transitions     = try([for use in uses : use.transitions if length(use.transitions) > 0][0], [])
  } }
  buckets     = { for bucket, each in local.written : bucket => each if each.account == local.owner }
  bucket_arns = { for bucket in distinct(local.named[*].bucket) : bucket => "arn:${local.partition}:s3:::${bucket}" }
  bucket_keys = { for bucket, each in local.written : bucket => each.kms_key != "create" ? each.kms_key : (
    each.account == local.owner ? local.key_arns[each.region] : try(var.other_accounts[each.account].kms_key_arns[each.region], null)
  ) }
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_19:encrypted, each as the policy says, below; not seen through for_each
  #checkov:skip=CKV_AWS_145:AES256 is the policy's choice for hot buckets and archives; the others have KMS
  for_each = local.buckets

  bucket              = each.key
  region              = each.value.region
  object_lock_enabled = each.value.is_locked
  tags                = merge(local.tags, { Use = join(" ", each.value.uses) })

  # Names are the whole world's: none is taken in an account that the policy does not mean.
  depends_on = [data.aws_caller_identity.current]
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region

  rule {
    # a data key per bucket and hour instead of one per object; S3 does not offer it with DSSE
    bucket_key_enabled = each.value.encryption == "aws:kms"

    apply_server_side_encryption_by_default {
      sse_algorithm     = each.value.encryption
      kms_master_key_id = local.bucket_keys[each.key]
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket                  = aws_s3_bucket.this[each.key].id
  region                  = each.value.region
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "this" {
  for_each = { for bucket, each in local.buckets : bucket => each if each.lock != null }

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region

  rule {
    default_retention {
      mode = each.value.lock.mode
      days = each.value.lock.days
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  #checkov:skip=CKV_AWS_300:the first rule aborts uploads; not seen beside dynamic rules
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  region = each.value.region

  # what a killed worker could not abort itself
  rule {
    id     = "abort-incomplete-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  dynamic "rule" {
    for_each = each.value.noncurrent_days[*]

    content {
      id     = "noncurrent"
      status = "Enabled"

      filter {}

      noncurrent_version_expiration {
        noncurrent_days = rule.value
      }

      # a delete marker under which nothing is left
      expiration {
        expired_object_delete_marker = true
      }
    }
  }

  dynamic "rule" {
    for_each = length(each.value.transitions) > 0 ? ["cool"] : []

    content {
      id     = rule.value
      status = "Enabled"

      filter {}

      dynamic "transition" {
        for_each = each.value.transitions

        content {
          days          = transition.value.days
          storage_class = transition.value.storage_class
        }
      }
    }
  }

  dynamic "rule" {
    for_each = contains(each.value.uses, "inventory") ? [local.inventory.prefix] : []

    content {
      id     = "inventory-reports"
      status = "Enabled"

      filter {
        prefix = rule.value
      }

      expiration {
        days = 90
      }

      noncurrent_version_expiration {
        noncurrent_days = 30
      }
    }
  }

  dynamic "rule" {
    for_each = contains(each.value.uses, "ledger") ? [local.athena_prefix] : []

    content {
      id     = "query-results"
      status = "Enabled"

      filter {
        prefix = rule.value
      }

      expiration {
        days = 30
      }

      noncurrent_version_expiration {
        noncurrent_days = 1
      }
    }
  }

  # Of the ledger only what has been taken over long ago: rows of the backlog that are in a manifest, and files of the state
  # that newer ones hold. Runs and journal stay.
  dynamic "rule" {
    for_each = contains(each.value.uses, "ledger") ? ["backlog/"] : []

    content {
      id     = trimsuffix(rule.value, "/")
      status = "Enabled"

      filter {
        prefix = "${local.ledger.prefix}${rule.value}"
      }

      expiration {
        days = 90
      }

      # the bucket keeps versions: what expires is freed a month later
      noncurrent_version_expiration {
        noncurrent_days = 30
      }
    }
  }

  dynamic "rule" {
    for_each = contains(each.value.uses, "ledger") ? ["state/"] : []

    content {
      id     = trimsuffix(rule.value, "/")
      status = "Enabled"

      filter {
        prefix = "${local.ledger.prefix}${rule.value}"
      }

      # what a fold has deleted, and then the marker above it
      noncurrent_version_expiration {
        noncurrent_days = 30
      }

      expiration {
        expired_object_delete_marker = true
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

# The policy file where functions and workers read it. It lies beside the ledger, and no role may write it.
resource "aws_s3_object" "policy" {
  region       = local.region
  bucket       = aws_s3_bucket.this[local.ledger.bucket].id
  key          = local.policy_key
  source       = var.policy_file
  source_hash  = filemd5(var.policy_file)
  content_type = "application/yaml"
  kms_key_id   = local.key_arns[local.region]

  # S3 takes ten tags of an object. A caller's, with the provider's, may be more, and S3 would refuse the file.
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
  tags = { for name in ["System", "ManagedBy"] : name => local.tags[name] }

  override_provider {
    default_tags {
      tags = {}
    }
  }

  depends_on = [aws_s3_bucket_versioning.this, terraform_data.policy]
}

# The documents of places (jobs/expire/places.py): without them nothing expires. Their age tells that nothing mirrors one place
# to the other, so that they stay as they are, unless what they say of deletes changes.
resource "aws_s3_object" "place" {
  for_each = { for at, place in local.declared : at => place if place.account == local.owner }

  region             = each.value.region
  bucket             = each.value.bucket
  key                = each.value.key
  content            = each.value.document
  content_type       = "application/json"
  checksum_algorithm = "SHA256" # S3 asks for one where versions are locked
  tags               = { for name in ["System", "ManagedBy"] : name => local.tags[name] }

  override_provider {
    default_tags {
      tags = {}
    }
  }

  lifecycle {
    ignore_changes = all
  }

  depends_on = [aws_s3_bucket_versioning.this, terraform_data.policy]
}

locals {
  place_folder = ".sealift/place-"

  # Where the policy lets originals expire, and where their archives are. The originals' place is the folder that holds all
  # prefixes of a pair.
  declared_places = distinct(flatten([for name, pair in local.expiring : [for folder in [try(regex("^(?s:.*/)", local.shared_prefixes[name]), "")] : [
    pair.archive.side == "source" ?
    { account = pair.source.account, bucket = pair.source.bucket, region = pair.source.region, prefix = folder, rank = 0, deletes = "keep" } :
    { account = pair.destination.account, bucket = pair.destination.bucket, region = pair.destination.region,
    prefix = "${pair.destination.prefix}${folder}", rank = 1, deletes = pair.deletes == "mirror" ? "mirror" : "keep" },
    { account = pair.archive.account, bucket = pair.archive.bucket, region = pair.archive.region, prefix = pair.archive.prefix, rank = 2, deletes = "keep" },
  ]]]))
  declared = { for at, place in {
    for each in local.declared_places : "${each.bucket}/${each.prefix} ${each.deletes}" => each
    } : at => merge(place, {
      key      = "${place.prefix}${local.place_folder}${md5("${local.name} ${at}")}.json"
      document = jsonencode({ format = 1, id = md5("${local.name} ${at}"), rank = place.rank, deletes = place.deletes })
  }) }

  policy_key    = "${local.ledger.prefix}policy.yaml"
  athena_prefix = "${local.ledger.prefix}athena/"
  ledger_uri    = trimsuffix("s3://${local.ledger.bucket}/${local.ledger.prefix}", "/")
  policy_uri    = "s3://${local.ledger.bucket}/${local.policy_key}"
}
