# A place for the image, made before the system that runs it: `make image-push REPOSITORY=…`. AWS's own key encrypts it, which
# costs nothing. `terraform destroy` removes it with its images, which can be built again.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "6.69.1"
    }
  }
}

variable "region" {
  description = "The ledger's region."
  type        = string
}

variable "name" {
  description = "What the repository is called."
  type        = string
  default     = "sealift"
}

provider "aws" {
  region = var.region
}

resource "aws_ecr_repository" "this" {
  name                 = var.name
  image_tag_mutability = "IMMUTABLE"
  force_delete         = true

  encryption_configuration {
    encryption_type = "KMS"
  }

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name
  policy = jsonencode({ rules = [{
    rulePriority = 1
    description  = "The last 20 images: runs that go on for days start workers of an older one"
    selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 20 }
    action       = { type = "expire" }
  }] })
}

output "repository" {
  value = aws_ecr_repository.this.repository_url
}
