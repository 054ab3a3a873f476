variable "policy_file" {
  description = "Path of policy.json, which `sealift policy check policy.yaml --write policy.json` writes beside the policy. Everything else follows from it."
  type        = string
  nullable    = false

  validation {
    condition     = can(jsondecode(file(var.policy_file)).sha256)
    error_message = "There is no policy.json at this path: sealift policy check policy.yaml --write policy.json"
  }
}

variable "image" {
  description = "The container image by digest, `name@sha256:…`: the last line that `make image-push` prints. It is in the account's own registry, in the ledger's region."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._:/-]+@sha256:[0-9a-f]{64}$", var.image))
    error_message = "The image must be given by digest, name@sha256:<64 hex digits>, so that a run's code cannot change beneath it: take the last line of `make image-push`."
  }
}

variable "image_architecture" {
  description = "What the image was built for. ARM64 is a fifth cheaper; `make image PLATFORM=linux/arm64` builds it."
  type        = string
  default     = "X86_64"
  nullable    = false

  validation {
    condition     = contains(["X86_64", "ARM64"], var.image_architecture)
    error_message = "The architecture must be X86_64 or ARM64, as the image was built."
  }
}

variable "lambda_zip" {
  description = "Path of the functions' package, as `make lambda` builds it. Default: build/lambda-arm64.zip beside this folder."
  type        = string
  default     = null
}

variable "lambda_object" {
  description = "The functions' package in S3 instead of a local file, in the ledger's region: with its version, or its hash (SHA-256 in base64). By the key alone a new package would change nothing."
  type        = object({ bucket = string, key = string, version = optional(string), hash = optional(string) })
  default     = null

  validation {
    condition     = var.lambda_object == null || var.lambda_zip == null
    error_message = "Give lambda_zip or lambda_object, not both."
  }

  validation {
    condition     = try(var.lambda_object.version != null || var.lambda_object.hash != null, true)
    error_message = "lambda_object needs version or hash: by its key alone a new package would not be deployed, and functions and workers of two versions would write one ledger."
  }
}

variable "backup_concurrency" {
  description = "How many backup functions may run at once, by the queue's event source mapping."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.backup_concurrency >= 2 && var.backup_concurrency <= 1000
    error_message = "The concurrency must be 2 to 1000: SQS cannot be told to use fewer than 2."
  }
}

variable "reserve_concurrency" {
  description = "Whether the functions reserve concurrent executions of the account: `backup_concurrency`, and 17 for the others. AWS wants 100 left that nobody reserves, so the account needs a quota of 137."
  type        = bool
  default     = false
  nullable    = false
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the logs of functions and jobs. The ledger keeps what was done for ever."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch knows 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 and 3653 days."
  }
}

variable "kms_key_arns" {
  description = "Existing KMS keys by region, in place of the key that is made there. Their policies must allow what keys.tf allows."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for region, arn in var.kms_key_arns : can(regex("^arn:aws:kms:${region}:[0-9]{12}:key/", arn))])
    error_message = "Each key must be the ARN of a key in the region that it is given for: { eu-central-1 = \"arn:aws:kms:eu-central-1:…:key/…\" }."
  }
}

variable "kept_key_regions" {
  description = "Regions whose key was made here and is to stay, although the policy no longer asks for it: copies lie under it."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for region in var.kept_key_regions : can(regex("^[a-z]{2,3}(-[a-z]+){1,3}-[0-9]{1,2}$", region))])
    error_message = "Each must be a region such as us-east-1."
  }
}

variable "source_kms_key_arns" {
  description = "KMS keys that objects of the source buckets are encrypted with: the roles that read sources may decrypt with them."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.source_kms_key_arns : can(regex("^arn:aws:kms:[a-z0-9-]+:[0-9]{12}:key/", arn))])
    error_message = "Each must be the ARN of a key, arn:aws:kms:REGION:ACCOUNT:key/ID; aliases do not work in IAM."
  }
}

variable "object_annotations" {
  description = "Whether roles may read and write the annotations of objects. S3 asks for that to copy objects that have some. Checkers of policies may not know these actions yet. Where false, say annotations: skip in the policy."
  type        = bool
  default     = true
  nullable    = false
}

variable "source_accounts" {
  description = "Other accounts that own buckets of the policy or of restore_to. The workers' network reaches no bucket of any account but these and this one."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for account in var.source_accounts : can(regex("^[0-9]{12}$", account))])
    error_message = "Each must be an account's id, 12 digits."
  }
}

variable "other_accounts" {
  description = "The other accounts of the policy that have made their part: the output `made` of modules/other-account, by account. Without its entry, roles cannot use an account's keys, and nothing is replicated to it."
  type        = map(object({ kms_key_arns = map(string) }))
  default     = {}
  nullable    = false
}

variable "name_prefix" {
  description = "Stands before the policy's `name` in the names of everything, for accounts whose rules go by names. Both have at most 24 characters together."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([a-z][a-z0-9-]*)?$", var.name_prefix))
    error_message = "The prefix is lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "role_path" {
  description = "The path of all roles, for accounts whose rules go by it."
  type        = string
  default     = "/"
  nullable    = false

  validation {
    condition     = startswith(var.role_path, "/") && endswith(var.role_path, "/")
    error_message = "A path begins and ends with a slash: / or /platform/sealift/."
  }
}

variable "role_permissions_boundary" {
  description = "The ARN of a policy that bounds all roles, for accounts that make roles only with one."
  type        = string
  default     = null

  validation {
    condition     = var.role_permissions_boundary == null || can(regex("^arn:aws:iam::([0-9]{12}|aws):policy/", var.role_permissions_boundary))
    error_message = "The boundary must be the ARN of a policy, arn:aws:iam::ACCOUNT:policy/NAME."
  }
}

variable "restore_to" {
  description = "Where restores may write, as `bucket/prefix`. Nowhere by default: who restores says where."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for place in var.restore_to : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/", place))])
    error_message = "Each must be bucket/prefix, or bucket/ for a whole bucket, without s3://."
  }
}

variable "closed_network" {
  description = "Whether the workers' network has no way out: they reach S3, ECR, CloudWatch Logs and Batch by endpoints alone, which are paid for by the hour, zone and region. Default: public subnets."
  type        = bool
  default     = false
  nullable    = false
}

variable "availability_zones" {
  description = "In how many zones workers run: the first ones by name that take Fargate. Default: 2, and 1 in the closed network, where each is paid for."
  type        = number
  default     = null

  validation {
    condition     = var.availability_zones == null || try(var.availability_zones >= 1 && var.availability_zones <= 4, false)
    error_message = "1 to 4 zones."
  }
}

variable "subnet_ids" {
  description = "Existing subnets for the workers. They need a way to S3, ECR, CloudWatch Logs and Batch. Default: a VPC is made."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "security_group_ids" {
  description = "The workers' security groups; needed with subnet_ids. Workers open connections, nothing connects to them."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = (length(var.subnet_ids) == 0) == (length(var.security_group_ids) == 0)
    error_message = "Give subnet_ids and security_group_ids together, or neither."
  }
}

variable "assign_public_ip" {
  description = "Whether workers in subnet_ids get a public address: public subnets need it."
  type        = bool
  default     = false
  nullable    = false
}

variable "workers_reach_internet" {
  description = "Whether subnet_ids have a way out, and no endpoint of S3, so that S3 itself may copy between regions. Otherwise workers stream such copies."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !(var.workers_reach_internet || var.assign_public_ip) || length(var.subnet_ids) > 0
    error_message = "assign_public_ip and workers_reach_internet are for subnet_ids: the network that is made here knows both."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made: a /16 to /24. A worker takes one."
  type        = string
  default     = "10.64.0.0/20"
  nullable    = false

  validation {
    condition     = try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 24 && cidrhost(var.vpc_cidr, 0) == split("/", var.vpc_cidr)[0], false)
    error_message = "vpc_cidr must be a network from /16 to /24 such as 10.64.0.0/20."
  }
}

variable "disposable" {
  description = "Whether `terraform destroy` takes the keys that are made here. Say it when the system is made: what lies under a key is lost with it."
  type        = bool
  default     = false
  nullable    = false
}

variable "tags" {
  description = "Tags for everything, for example a cost centre."
  type        = map(string)
  default     = {}
  nullable    = false
}
