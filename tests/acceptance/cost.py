"""What an acceptance costs at most, in dollars: S3 by the product's price table, the rest by the hour.

List prices of us-east-1, the first volume of each, without free tiers. Amounts are rounded up.
"""

from __future__ import annotations

from jobs.core.pricing import PriceTable, own_prices

HOURS_A_MONTH = 730
BUILD_HOURS = 1.0
"""To apply and to destroy: the compute environments take longest."""

WRITES, READS, LISTS, KEY_REQUESTS = 5_000, 20_000, 5_000, 10_000
CROSSING_GIB, LOGS_GIB, IMAGE_GIB = 0.1, 0.1, 1.0
JOBS, JOB_HOURS = 80, 0.1

INTERFACE_ENDPOINTS = 5
"""ECR (two), logs, Batch, and S3 in the other region, in one zone. A test counts them in the plan."""
ALARMS, KEYS = 40, 2

ENDPOINT_HOUR, JOB_HOUR, ALARM_MONTH, KEY_MONTH, IMAGE_GIB_MONTH, LOGS_GIB_DOLLARS = 0.01, 0.0494, 0.10, 1.0, 0.10, 0.50
"""Interface endpoints, Fargate on demand with 1 vCPU and 2 GiB (Spot is below), CloudWatch, KMS and ECR, by
https://aws.amazon.com/privatelink/pricing/, /fargate/pricing/, /cloudwatch/pricing/, /kms/pricing/, /ecr/pricing/."""


def price_table() -> PriceTable:
    """The table that plans are priced by."""
    return own_prices()


def estimate(step_hours: float, table: PriceTable) -> dict[str, float]:
    """The items of a start whose steps take at most so long."""
    hours, standard = step_hours + BUILD_HOURS, table.of_class("STANDARD")
    requests = (
        WRITES * standard.put_per_1000 + READS * standard.get_per_1000 + LISTS * table.list_per_1000
    ) / 1000 + KEY_REQUESTS * table.kms_per_1000 / 1000
    expedited = table.thaw["GLACIER"]["Expedited"]
    archived = table.of_class("GLACIER")
    thawed = (expedited.per_1000 + archived.put_per_1000) / 1000 + 0.001 * expedited.per_gib
    minimum_stay = 0.001 * archived.storage_per_gib_month * 3
    monthly = KEYS * KEY_MONTH + ALARMS * ALARM_MONTH + IMAGE_GIB * IMAGE_GIB_MONTH
    endpoints = f"{INTERFACE_ENDPOINTS} interface endpoints for {hours:.0f} hours"
    return {
        "requests to S3 and KMS": requests,
        "an archive in GLACIER, and its Expedited thaw": thawed + minimum_stay,
        "bytes to the other region": CROSSING_GIB * (table.cross_region_per_gib + 0.02),
        endpoints: INTERFACE_ENDPOINTS * ENDPOINT_HOUR * hours,
        f"up to {JOBS} jobs of 1 vCPU and 2 GiB": JOBS * JOB_HOURS * JOB_HOUR,
        "keys, alarms and the image": monthly * hours / HOURS_A_MONTH,
        "logs": LOGS_GIB * LOGS_GIB_DOLLARS,
    }


def text(items: dict[str, float], table: PriceTable) -> str:
    """The estimate for people."""
    lines = [f"  ${dollars:6.3f}  {what}" for what, dollars in items.items()]
    return "\n".join([f"It costs at most, by {table.name}:", *lines, f"  ${sum(items.values()):6.2f}  together"])
