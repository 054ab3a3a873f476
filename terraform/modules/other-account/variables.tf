variable "asked" {
  description = "What the system asks of this account: its entry in the system's output `other_accounts`."
  nullable    = false
  type = object({
    name            = string
    system_account  = string
    bus             = string
    key_statements  = map(string)
    source_policies = map(string)
    places          = optional(map(object({ bucket = string, region = string, key = string, document = string })), {})
    buckets = map(object({
      region          = string
      uses            = list(string)
      encryption      = string
      kms_key         = optional(string)
      lock            = optional(object({ mode = string, days = number }))
      is_locked       = bool
      noncurrent_days = optional(number)
      transitions     = list(object({ days = number, storage_class = string }))
      hears_thaws     = bool
      policy          = string
      replication = optional(list(object({
        id                       = string
        prefix                   = string
        bucket                   = string
        region                   = string
        account                  = optional(string)
        storage_class            = optional(string)
        kms_key                  = optional(string)
        delete_markers           = bool
        annotations              = optional(bool, true)
        replication_time_control = bool
      })), [])
      inventory = optional(object({ bucket_arn = string, format = string, prefix = string, fields = list(string), kms_key = string }))
    }))
    events = map(object({ region = string, name = string, pattern = string }))
    alarms = optional(map(object({
      region     = string
      namespace  = string
      metric     = string
      statistic  = string
      periods    = number
      above      = number
      means      = string
      dimensions = map(string)
    })), {})
  })
}

variable "role_path" {
  description = "The path of the roles that forward events and replicate."
  type        = string
  default     = "/"
  nullable    = false
}

variable "role_permissions_boundary" {
  description = "The ARN of a policy that bounds these roles."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags for everything."
  type        = map(string)
  default     = {}
  nullable    = false
}
