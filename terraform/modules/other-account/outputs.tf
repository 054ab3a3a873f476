output "made" {
  description = "For the system's variable `other_accounts`, under this account's id."
  value       = { kms_key_arns = { for region, key in aws_kms_key.this : region => key.arn } }

  # what is replicated to has to keep versions, and let the system in
  depends_on = [aws_s3_bucket_versioning.this, aws_s3_bucket_policy.this]
}

output "source_policies" {
  description = "Statements for the policies of source buckets of this account, as JSON, by bucket. Their owners add them."
  value       = var.asked.source_policies
}
