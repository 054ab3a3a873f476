# Every bucket of this account that Sealift writes to. Pairs may share one; what belongs to the bucket (encryption, lock,
# lifecycle) is then said the same by each of them. Source buckets are referenced only, see events.tf. What lies in another
# account is made there: other_accounts.tf.
#
# S3 gives new buckets BucketOwnerEnforced and encryption by AES256, so that neither is set here.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/create-bucket-faq.html

locals {
  unlocked = { object_lock = null, noncurrent_days = null, transitions = [], encryption = "aws:kms", kms_key = "create" }

  # One entry for each reason to have a bucket.
  uses = concat(
    [for pair in local.policy.pairs : merge(pair.destination, { use = "hot", is_locked = pair.destination.object_lock != null })],
    # Replicas keep the lock that each version brings; S3 refuses to replicate a locked bucket to one without Object Lock.
    [for pair in local.policy.pairs : merge(local.unlocked, pair.replica, {
      use = "replica", is_locked = pair.destination.object_lock != null, noncurrent_days = pair.destination.noncurrent_days
    encryption = pair.replica.kms_key == null ? "AES256" : "aws:kms" }) if pair.replica != null],
    [for pair in local.policy.pairs : merge(local.unlocked, pair.archive, { use = "archive", is_locked = pair.archive.object_lock != null })
    if pair.archive != null],
    [for region, bucket in local.inventory.buckets : merge(local.unlocked, {
    use = "inventory", is_locked = false, bucket = bucket, region = region, account = local.owner })],
    [merge(local.unlocked, { use = "ledger", is_locked = false, bucket = local.ledger.bucket, region = local.region, account = local.owner })],
    [for drill in local.drill : merge(local.unlocked, { use = "drill", is_locked = false, bucket = drill.bucket, region = drill.region, account = local.owner })],
  )
  uses_of = { for use in local.uses : use.bucket => use... }

  written = { for bucket, uses in local.uses_of : bucket => {
    region          = uses[0].region
    account         = uses[0].account
    uses            = distinct(uses[*].use)
    encryption      = try([for use in uses : use.encryption if use.encryption != "AES256"][0], "AES256")
    kms_key         = try([for use in uses : use.kms_key if use.kms_key != null][0], null)
    lock            = try([for use in uses : use.object_lock if use.object_lock != null][0], null)
    is_locked       = anytrue(uses[*].is_locked)
    noncurrent_days = try([for use in uses : use.noncurrent_days if use.noncurrent_days != null][0], null)
    transitions     = try([for use in uses : use.transitions if length(use.transitions) > 0][0], [])
  } }
  buckets     = { for bucket, each in local.written : bucket => each if each.account == local.owner }
  bucket_arns = { for bucket in distinct(local.named[*].bucket) : bucket => "arn:aws:s3:::${bucket}" }
  bucket_keys = { for bucket, each in local.written : bucket => each.kms_key != "create" ? each.kms_key : (
    each.account == local.owner ? local.key_arns[each.region] : try(var.other_accounts[each.account].kms_key_arns[each.region], null)
  ) }

  # What is removed by age, bucket by bucket: of the ledger rows of the backlog after 90 days (also those that
  # `limits.max_cost` holds back: nights find these objects), and files of the state that newer ones hold. Runs and journal stay. All buckets keep versions, so that what
  # expires is freed a month later.
  expiries = { for bucket, each in local.buckets : bucket => concat(
    [for days in each.noncurrent_days[*] : { id = "noncurrent", prefix = null, days = null, noncurrent_days = days }],
    [for prefix in [local.inventory.prefix] : { id = "inventory-reports", prefix = prefix, days = 90, noncurrent_days = 30 } if contains(each.uses, "inventory")],
    [for prefix in [local.ledger.prefix] : { id = "backlog", prefix = "${prefix}backlog/", days = 90, noncurrent_days = 30 } if contains(each.uses, "ledger")],
    [for prefix in [local.ledger.prefix] : { id = "runs", prefix = "${prefix}runs/", days = 730, noncurrent_days = 730 } if contains(each.uses, "ledger")],
    [for prefix in [local.ledger.prefix] : { id = "state", prefix = "${prefix}state/", days = null, noncurrent_days = 30 } if contains(each.uses, "ledger")],
    [for drill in local.drill : { id = "drills", prefix = drill.prefix, days = 7, noncurrent_days = 1 } if contains(each.uses, "drill")], # what a killed drill left
  ) }
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:who reads is in CloudTrail's data events, where somebody asks for them
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
  for_each = { for bucket, each in local.buckets : bucket => each if each.encryption != "AES256" }

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
      days_after_initiation = contains(each.value.uses, "drill") ? 1 : 7
    }
  }

  dynamic "rule" {
    for_each = local.expiries[each.key]

    content {
      id     = rule.value.id
      status = "Enabled"

      filter {
        prefix = rule.value.prefix
      }

      # without days: a delete marker under which nothing is left
      expiration {
        days                         = rule.value.days
        expired_object_delete_marker = rule.value.days == null ? true : null
      }

      noncurrent_version_expiration {
        noncurrent_days = rule.value.noncurrent_days
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

  depends_on = [aws_s3_bucket_versioning.this]
}

# The checked policy, where functions and workers read it. It lies beside the ledger, and no role may write it.
resource "aws_s3_object" "policy" {
  region       = local.region
  bucket       = aws_s3_bucket.this[local.ledger.bucket].id
  key          = local.policy_key
  source       = var.policy_file
  source_hash  = filemd5(var.policy_file)
  content_type = "application/json"
  kms_key_id   = local.key_arns[local.region]

  # S3 takes ten tags of an object. A caller's, with the provider's, may be more, and S3 would refuse the file.
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
  tags = { for name in ["System", "ManagedBy"] : name => local.tags[name] }

  override_provider {
    default_tags {
      tags = {}
    }
  }

  lifecycle {
    precondition {
      condition     = length(local.name) <= 24 # event rules have 64 characters, roles as many
      error_message = "name_prefix and name: ${local.name} has ${length(local.name)} characters, 24 are allowed."
    }
    precondition {
      condition     = local.document.format == 1
      error_message = "${var.policy_file} has format ${local.document.format}, and this module reads 1: write it with the same version of sealift."
    }

    precondition {
      condition     = filesha256(local.yaml) == local.document.sha256
      error_message = "${local.document.file} changed: sealift policy check ${local.document.file} --write ${basename(var.policy_file)}"
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
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

  depends_on = [aws_s3_bucket_versioning.this, aws_s3_object.policy]
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

  policy_key = "${local.ledger.prefix}policy.json"
  ledger_uri = trimsuffix("s3://${local.ledger.bucket}/${local.ledger.prefix}", "/")
  policy_uri = "s3://${local.ledger.bucket}/${local.policy_key}"
}
