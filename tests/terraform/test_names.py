"""Names: two systems side by side by one `for_each`, and a prefix that an account asks for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.terraform.conftest import _terraform
from tests.terraform.world import MODULE, State, module_call, written

pytestmark = pytest.mark.slow

PREFIX = "acme-"
SYSTEMS = {"north": "", "south": PREFIX}


def policy_of(system: str) -> dict:
    """The full example with buckets of its own. Both systems have pairs of the same names."""
    text = (MODULE / "examples" / "full" / "policy.yaml").read_text().replace("bucket: example-", f"bucket: {system}-")
    document: dict = yaml.safe_load(text.replace(": example-inventory", f": {system}-inventory"))
    return document | {"name": "atlantic"}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> State:
    folder: Path = tmp_path_factory.mktemp("both")
    for system in SYSTEMS:
        (folder / system).mkdir()
        written(folder / system, policy_of(system))
    prefixes = "\n".join(f'{system} = "{prefix}"' for system, prefix in SYSTEMS.items())
    (folder / "main.tf").write_text(f"""
      provider "aws" {{
        region = "eu-central-1"
      }}
      module "sealift" {{
        for_each    = {{
          {prefixes}
        }}
        {module_call(folder)}
        policy_file = "${{path.module}}/${{each.key}}/policy.json"
        name_prefix = each.value
      }}
      output "environment" {{
        value = {{ for name, system in module.sealift : name => system.environment }}
      }}
    """)
    return _terraform(tmp_path_factory, root=folder).apply_root()


def test_no_name_is_given_twice(both: State) -> None:
    made = [each for each in both.resources if each["mode"] == "managed" and each["type"].startswith("aws_")]
    assert len(made) > 250
    others = ("aws_cloudwatch_event_target", "aws_sns_topic_policy")  # their ARN is another's
    own = [each for each in made if each["type"] not in others]
    arns = Counter(each["values"]["arn"] for each in own if each["values"].get("arn"))
    assert len(arns) > 150
    assert [arn for arn, count in arns.items() if count > 1] == []


def test_the_prefix_stands_before_every_name(both: State) -> None:
    ours = [each for each in both.resources if each.get("address", "").startswith('module.sealift["south"]')]
    kinds = ("aws_iam_role", "aws_sqs_queue", "aws_sns_topic")
    names = [each["values"]["name"] for each in ours if each["type"] in kinds]
    assert len(names) > 15
    assert [name for name in names if not name.startswith("acme-atlantic")] == []
    assert both.output("environment")["south"]["SEALIFT_SYSTEM"] == "acme-atlantic"
    assert both.output("environment")["north"]["SEALIFT_SYSTEM"] == "atlantic"
