# Remote state with locking: change the names. S3 itself keeps the lock (use_lockfile), no table is needed. The bucket
# is not made here: it has to be there before everything else, and versioned. The state holds no secrets, but the names
# of everything: keep it private.

terraform {
  backend "s3" {
    bucket       = "example-terraform-state"
    key          = "sealift/atlantic.tfstate"
    region       = "eu-central-1"
    encrypt      = true
    use_lockfile = true
  }
}
