# Access logs, a bucket per region.

locals {
  log_buckets = { for region in distinct(values(local.buckets)[*].region) : region => "${local.name}-logs-${local.account}-${region}" if var.access_logs }
}

resource "aws_s3_bucket" "logs" {
  #checkov:skip=CKV_AWS_144:access logs need no twin in another region
  #checkov:skip=CKV_AWS_145:S3 delivers access logs to buckets with SSE-S3 only
  #checkov:skip=CKV2_AWS_62:nothing listens for access logs
  for_each = local.log_buckets

  bucket = each.value
  region = each.key
  tags   = merge(local.tags, { Use = "access logs" })

  # The account in its name does not change. One that the plan does not know yet would make another bucket.
  lifecycle {
    ignore_changes = [bucket]
  }
}

resource "aws_s3_bucket_versioning" "logs" {
  for_each = local.log_buckets

  bucket = aws_s3_bucket.logs[each.key].id
  region = each.key

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "logs" {
  for_each = local.log_buckets

  bucket = aws_s3_bucket.logs[each.key].id
  region = each.key

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "logs" {
  for_each = local.log_buckets

  bucket                  = aws_s3_bucket.logs[each.key].id
  region                  = each.key
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "logs" {
  for_each = local.log_buckets

  bucket = aws_s3_bucket.logs[each.key].id
  region = each.key

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "logs" {
  for_each = local.log_buckets

  bucket = aws_s3_bucket.logs[each.key].id
  region = each.key

  rule {
    id     = "expire"
    status = "Enabled"

    filter {}

    expiration {
      days = 365
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.logs]
}

resource "aws_s3_bucket_policy" "logs" {
  for_each = local.log_buckets

  bucket = aws_s3_bucket.logs[each.key].id
  region = each.key
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.logs[each.key].arn, "${aws_s3_bucket.logs[each.key].arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "AccessLogs"
        Effect    = "Allow"
        Principal = { Service = "logging.s3.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = ["${aws_s3_bucket.logs[each.key].arn}/*"]
        Condition = {
          ArnLike      = { "aws:SourceArn" = [for bucket, owned in local.buckets : local.bucket_arns[bucket] if owned.region == each.key] }
          StringEquals = { "aws:SourceAccount" = local.account }
        }
      },
    ]
  })

  depends_on = [aws_s3_bucket_public_access_block.logs]
}

resource "aws_s3_bucket_logging" "this" {
  for_each = { for bucket, each in local.buckets : bucket => each if var.access_logs }

  bucket        = aws_s3_bucket.this[each.key].id
  region        = each.value.region
  target_bucket = aws_s3_bucket.logs[each.value.region].id
  target_prefix = "${each.key}/"

  depends_on = [aws_s3_bucket_policy.logs]
}
